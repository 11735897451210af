//! A request that was made before: the stream that it began, here or at another gateway, and the position of its
//! client.

use std::sync::Arc;

use http::Request;

use super::Service;
use super::kept::about::KeptRequest;
use super::kept::log::{LogPlace, Position};
use super::kept::owner::Owner;
use super::kept::stream::KeptStream;
use super::kept::stream_id::parse_event_id;
use super::kept_origin::is_foreign;
use super::kept_resume::{KeptResume, position_of};
use super::rejection::Rejection;
use crate::auth::AuthRequest;
use crate::route::KeepSettings;
use crate::server::request_body::RequestBody;

impl Service {
    /// Returns a kept stream that can be read here from a position on: see
    /// [`KeptStreams::readable`](super::KeptStreams::readable).
    ///
    /// # Errors
    /// The stream is at another gateway, and Redis cannot be asked.
    pub(super) async fn readable(
        &self,
        at: (&Arc<KeptStream>, &Position),
    ) -> Result<Option<Arc<KeptStream>>, Rejection> {
        Ok(self.kept().readable(at, self.shard().write_timeout()).await?)
    }
}

/// The streams at other gateways that may be the response to this request, which was made before, or that have this id.
///
/// # Errors
/// Redis cannot be asked, and the id is one of ours: the request must not reach the backend again.
pub(super) async fn made_elsewhere(
    service: &Service,
    keep: &Arc<KeepSettings>,
    request: &KeptRequest,
    ours: Option<&str>,
) -> Result<Vec<Arc<KeptStream>>, Rejection> {
    let kept = service.kept();
    if kept.store(keep).is_none() {
        return Ok(Vec::new());
    }
    match ours {
        Some(id) if kept.get(id).is_some() => Ok(Vec::new()),
        Some(id) => {
            let settings = |scope: &str| (*scope == *request.scope).then(|| Arc::clone(keep));
            let found = kept.look_again(id, settings).await?;
            Ok(found.into_iter().filter(|it| it.request.owner.is(&request.owner)).collect())
        }
        None => {
            let index = kept.request_index(keep, request);
            Ok(kept.elsewhere((keep, &index)).await.unwrap_or_default())
        }
    }
}

/// The stream of a request that was made before, and the position of its client; `None`: the stream does not have the
/// id.
pub(super) fn continued(
    made_again: Arc<KeptStream>,
    id: &[u8],
) -> Option<(Arc<KeptStream>, Position)> {
    let position = position_of(&made_again, id);
    let is_known = match (&position, made_again.log.locate(&position)) {
        (Position::AfterOwn(_), LogPlace::Unknown) => false,
        (Position::AfterOwn(_), _) => parse_event_id(id).is_none(),
        (Position::Start | Position::After(_), _) => true,
    };
    is_known.then_some((made_again, position))
}

/// Whether the page of another origin repeats the request of a page.
pub(super) fn is_foreign_again(
    (request, is_tls): (&Request<RequestBody>, bool),
    stream: &KeptStream,
    resume: &KeptResume<'_>,
    owner: &Owner,
) -> bool {
    let origin = resume.info.origin.as_ref();
    let is_same = origin.is_some() && origin == stream.request.origin.as_ref();
    !is_same && is_foreign((&AuthRequest::new(request), is_tls), resume.route, Some(owner))
}
