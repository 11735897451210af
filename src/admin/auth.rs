//! Who may read the metrics and the status page: `admin.auth`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::text;
use crate::auth::{AuthRequest, Authenticator, Denial, NoBackends};
use crate::metrics::Metrics;

/// Whether clients of the admin listener may change things, and see what streams are sent: only on loopback or with
/// `admin.auth`. On any other address, clients that should only read metrics may reach it. A cheap handle, which
/// reflects reloads.
#[derive(Clone, Debug)]
pub struct AdminPrivacy {
    is_loopback: bool,
    auth: AdminAuth,
}

impl AdminPrivacy {
    /// `is_loopback`: the listener's address is on loopback. `auth` admits its requests.
    pub fn new(is_loopback: bool, auth: AdminAuth) -> Self {
        Self { is_loopback, auth }
    }

    /// Whether they may, as the configuration is now.
    pub fn holds(&self) -> bool {
        self.is_loopback || self.auth.is_set()
    }
}

/// Who may read the metrics and the status page; everybody at first. A cheap handle, through which a reload
/// changes it.
#[derive(Clone, Debug, Default)]
pub struct AdminAuth(Arc<Mutex<Option<Arc<Authenticator>>>>);

impl AdminAuth {
    /// Replaces the authenticator; `None`: everybody may.
    pub fn set(&self, authenticator: Option<Authenticator>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = authenticator.map(Arc::new);
    }

    fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Verifies the credential of a request. Returns when the credential expires; `None`: never.
    ///
    /// # Errors
    /// The response to a request whose credential is missing or not accepted.
    pub(super) async fn admit(
        &self,
        request: AuthRequest<'_>,
        metrics: &Metrics,
    ) -> Result<Option<SystemTime>, Response<Full<Bytes>>> {
        let authenticator = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(authenticator) = authenticator else { return Ok(None) };
        let denial = match authenticator.authenticate(request, SystemTime::now(), &NoBackends).await
        {
            Ok(access) => return Ok(access.ends),
            Err(denial) => denial,
        };
        let (status, why) = match &denial {
            Denial::Refused(refusal) => {
                metrics.auth_refused(refusal.as_str());
                (StatusCode::UNAUTHORIZED, refusal.to_string())
            }
            Denial::Renewal => (StatusCode::UNAUTHORIZED, "the token has expired".to_owned()),
            // No backend decides here: the configuration does not let it.
            Denial::NotNow(_) | Denial::Response(_) => {
                let why = "the credential cannot be verified now; see /readyz?verbose or the log";
                (StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
            }
            Denial::Busy => {
                (StatusCode::TOO_MANY_REQUESTS, "too many passwords wait to be verified".to_owned())
            }
        };
        let mut response = text(status, format!("{status}: {why}\n"));
        if let Denial::Refused(refusal) = &denial
            && let Some(challenge) = authenticator.challenge(refusal)
            && let Ok(challenge) = HeaderValue::from_str(&challenge)
        {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        Err(response)
    }
}
