//! Admits a request to a route with `auth`, before anything is done for it.

use std::time::SystemTime;

use http::{HeaderValue, Request};
use ssegate_auth::Identity;
use tokio::time::Instant;

use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::{Service, cors};
use crate::auth::{Access, AuthRequest, Authenticator, Denial, QuotaGuard, origin};
use crate::route::Route;
use crate::server::connection::ConnectionState;

/// What authentication has established about a request.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Who it is; `None` on a route without `auth`.
    pub(super) identity: Option<Identity>,
    /// When its streams end; `None`: never.
    pub(super) expires_at: Option<Instant>,
    /// Whether it is a preflight, which has no credential, so that the gateway responds to it.
    pub(super) is_preflight: bool,
    max_streams: Option<usize>,
}

impl Service {
    /// Verifies the credential of a request.
    ///
    /// # Errors
    /// There is none, or it is not accepted, or the browser sends it for the page of another site.
    pub(super) fn admit<B>(
        &self,
        (route, authenticator): (&Route, &Authenticator),
        (request, info): (&Request<B>, &RequestInfo),
        connection: &ConnectionState,
    ) -> Result<Admission, Rejection> {
        if is_preflight_of_page(route, info) {
            return Ok(Admission { is_preflight: true, ..Admission::default() });
        }
        let now = SystemTime::now();
        let request = AuthRequest::new(request);
        let Access { identity, ends, is_ambient } =
            authenticator.authenticate(request, now).map_err(|denial| match denial {
                Denial::Renewal => Rejection::Renewal,
                Denial::Refused(refusal) => {
                    self.metrics().auth_refused(refusal.as_str());
                    tracing::debug!(route = route.settings.path, %refusal, "not authenticated");
                    Rejection::Unauthorized(authenticator.challenge(&refusal), refusal)
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
        let max_streams = authenticator.settings().max_streams;
        Ok(Admission { identity: Some(identity), expires_at, is_preflight: false, max_streams })
    }

    /// Counts one more stream of an identity.
    ///
    /// # Errors
    /// It has as many as it may have, or the credential names nobody, so that its streams cannot be counted.
    pub(super) fn admit_stream(
        &self,
        admission: &Admission,
    ) -> Result<Option<QuotaGuard>, Rejection> {
        let Some(most) = admission.max_streams else { return Ok(None) };
        let id = admission.identity.as_ref().and_then(|who| who.id.as_ref());
        let id = id.filter(|id| !id.is_empty()).ok_or(Rejection::Nameless)?;
        let guard = self.stream_quota().admit(id, most);
        guard.map(Some).ok_or(Rejection::StreamsOfIdentity(most))
    }
}

/// Whether this is a CORS preflight, which never has a credential (Fetch standard, section 4.8), of any page
/// for an events route, or of a page that may use the route for a backend.
fn is_preflight_of_page(route: &Route, info: &RequestInfo) -> bool {
    let is_allowed =
        || route.channels.is_some() || cors::lists(&route.settings.cors, info.origin.as_ref());
    info.preflight.is_some() && is_allowed()
}

/// Whether the page of another site may use the route with the user's cookies.
fn is_page_allowed(route: &Route, origin: Option<&HeaderValue>) -> bool {
    route.settings.cors.credentials && cors::lists(&route.settings.cors, origin)
}
