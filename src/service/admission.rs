//! Admits a request to a route with `auth`, before anything is done for it.

use std::rc::Rc;
use std::time::SystemTime;

use http::{HeaderValue, Request};
use ssegate_auth::Identity;
use tokio::time::Instant;

use super::auth_backends::{AuthQuestion, RequestAsker};
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::route_auth::RouteAuth;
use super::stream_guard::StreamGuard;
use super::{Service, cors};
use crate::auth::{Access, AuthRequest, Denial, origin};
use crate::route::Route;
use crate::server::connection::ConnectionState;

/// What authentication has established about a request.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Who it is; `None` on a route without `auth`.
    pub(super) identity: Option<Identity>,
    /// When its streams end; `None`: never.
    pub(super) expires_at: Option<Instant>,
    max_streams: Option<usize>,
    // What is asked again while a stream is open.
    questions: Vec<AuthQuestion>,
}

impl Service {
    /// Verifies the credential of a request.
    ///
    /// # Errors
    /// There is none, or it is not accepted, or the browser sends it for the page of another site.
    pub(super) async fn admit<B>(
        &self,
        (route, auth): (&Route, &RouteAuth),
        (request, info): (&Request<B>, &RequestInfo),
        connection: &Rc<ConnectionState>,
    ) -> Result<Admission, Rejection> {
        if is_preflight_of_page(route, info) {
            return Ok(Admission::default());
        }
        let now = SystemTime::now();
        let request = AuthRequest::new(request);
        let target = auth.authenticator.without_tokens(request.uri);
        let asker = RequestAsker {
            backends: &auth.backends,
            verdicts: &self.auth().verdicts,
            connection,
            target: target.as_ref().unwrap_or(request.uri),
        };
        let access = auth.authenticator.authenticate(request, now, &asker).await;
        let Access { identity, ends, is_ambient, forwards } = access.map_err(|denial| {
            self.metrics().auth_refused(denial.as_str());
            tracing::debug!(route = route.settings.path, %denial, "not admitted");
            match denial {
                Denial::Renewal => Rejection::Renewal,
                Denial::NotNow(why) => Rejection::AuthBackend(why),
                Denial::Response(response) => Rejection::OfAuthBackend(response),
                Denial::Refused(refusal) => {
                    Rejection::Unauthorized(auth.authenticator.challenge(&refusal), refusal)
                }
            }
        })?;
        let is_foreign = || origin::is_foreign(request, connection.is_tls());
        if is_ambient && is_foreign() && !is_page_allowed(route, info.origin.as_ref()) {
            self.metrics().auth_refused("foreign_origin");
            return Err(Rejection::ForeignOrigin);
        }
        let left = ends.map(|ends| ends.duration_since(now).unwrap_or_default());
        // A time that the clock cannot tell is as good as never.
        let expires_at = left.and_then(|left| Instant::now().checked_add(left));
        let max_streams = auth.authenticator.settings().max_streams;
        let questions = forwards.iter().filter_map(|backend| asker.question(backend, request));
        let questions = questions.filter(|question| question.backend().recheck.is_some()).collect();
        Ok(Admission { identity: Some(identity), expires_at, max_streams, questions })
    }

    /// Counts one more stream of an identity.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub(super) fn admit_stream(
        &self,
        admission: &Admission,
    ) -> Result<Option<Box<StreamGuard>>, Rejection> {
        let id = admission.identity.as_ref().and_then(|who| who.id.as_ref());
        let quota = match admission.max_streams.zip(id) {
            Some((most, id)) => {
                let guard = self.auth().streams.admit(id, most);
                Some(guard.ok_or(Rejection::StreamsOfIdentity(most))?)
            }
            None => None,
        };
        Ok(StreamGuard::new(quota, &admission.questions))
    }
}

/// Whether this is a CORS preflight, which never has a credential (Fetch standard, section 4.8). That of an
/// events or publish route the gateway responds to itself; a backend gets that of a page which may use the route.
fn is_preflight_of_page(route: &Route, info: &RequestInfo) -> bool {
    let is_own = route.channels.is_some() || route.publish.is_some();
    let is_allowed = || is_own || cors::lists(&route.settings.cors, info.origin.as_ref());
    info.preflight.is_some() && is_allowed()
}

/// Whether the page of another site may use the route with the user's cookies.
fn is_page_allowed(route: &Route, origin: Option<&HeaderValue>) -> bool {
    route.settings.cors.credentials && cors::lists(&route.settings.cors, origin)
}
