//! Applies the `auth` of a route to a request.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::REFERER;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};
use ssegate_auth::{Refusal, TokenPlace, without_tokens};

use super::access::{Access, Denial};
use super::request::AuthRequest;
use super::settings::{AuthSettings, MethodSettings, Requirement};
use super::{jwt, signed_url, tokens};

/// Applies the `auth` of a route to its requests.
#[derive(Clone, Debug)]
pub struct Authenticator {
    settings: Arc<AuthSettings>,
    // Places in the query where a token may stand.
    query_places: Vec<TokenPlace>,
    challenge: Option<&'static str>,
}

impl Authenticator {
    /// The authenticator of a route with these settings.
    pub fn new(settings: Arc<AuthSettings>) -> Self {
        let methods = settings.methods();
        let places = methods.iter().flat_map(|method| method.places());
        let query_places = places.filter(|place| matches!(place, TokenPlace::Query(_)));
        let query_places = query_places.cloned().collect();
        let challenge = methods.iter().find_map(|method| challenge(method));
        Self { query_places, challenge, settings }
    }

    /// Its settings.
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    /// Verifies the credential of a request at `now`.
    ///
    /// # Errors
    /// The request may not be made. A credential that is not accepted is never taken for none.
    pub fn authenticate(
        &self,
        request: AuthRequest<'_>,
        now: SystemTime,
    ) -> Result<Access, Denial> {
        check(&self.settings.requirement, request, now)
    }

    /// The value of `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750, section 3); `None` if no method
    /// has a challenge, so that a refusal is 403.
    pub fn challenge(&self, refusal: &Refusal) -> Option<String> {
        let scheme = self.challenge?;
        match refusal {
            Refusal::Missing => Some(scheme.to_owned()),
            _ if scheme.starts_with("Bearer") => {
                Some(format!("{scheme} error=\"invalid_token\", error_description=\"{refusal}\""))
            }
            _ => Some(scheme.to_owned()),
        }
    }

    /// Removes the tokens from the query of the target, and from that of the page that it is requested by.
    /// For backends and logs, most of which note both.
    pub fn remove_tokens<B>(&self, request: &mut Request<B>) {
        if self.query_places.is_empty() {
            return;
        }
        if let Some(uri) = self.without_tokens(request.uri()) {
            *request.uri_mut() = uri;
        }
        let Some(referer) = request.headers().get(REFERER) else { return };
        // Browsers escape what is not ASCII.
        let referer = referer.to_str().unwrap_or_default();
        let Some((page, query)) = referer.split_once('?') else { return };
        let kept = without_tokens(&self.query_places, query);
        let referer = HeaderValue::try_from(format!("{page}?{kept}"));
        match referer {
            Ok(referer) => request.headers_mut().insert(REFERER, referer),
            Err(_) => request.headers_mut().remove(REFERER),
        };
    }

    /// Returns the target without the tokens in its query; `None` if there are none.
    fn without_tokens(&self, uri: &Uri) -> Option<Uri> {
        let query = uri.query()?;
        let kept = without_tokens(&self.query_places, query);
        if kept.len() == query.len() {
            return None;
        }
        let path = uri.path();
        let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
        Uri::from_parts(parts).ok()
    }
}

fn challenge(method: &MethodSettings) -> Option<&'static str> {
    match method {
        MethodSettings::Jwt(_) | MethodSettings::Tokens(_) => Some("Bearer realm=\"ssegate\""),
        MethodSettings::SignedUrl(_) => None,
    }
}

fn check(
    requirement: &Requirement,
    request: AuthRequest<'_>,
    now: SystemTime,
) -> Result<Access, Denial> {
    match requirement {
        Requirement::One(MethodSettings::Jwt(settings)) => {
            jwt::authenticate(settings, request, now)
        }
        Requirement::One(MethodSettings::SignedUrl(keys)) => {
            signed_url::authenticate(keys, request, now)
        }
        Requirement::One(MethodSettings::Tokens(settings)) => {
            tokens::authenticate(settings, request)
        }
        Requirement::Any(parts) => {
            let mut denial = Denial::Refused(Refusal::Missing);
            for part in parts {
                match check(part, request, now) {
                    Ok(access) => return Ok(access),
                    Err(other) => denial = denial.or(other),
                }
            }
            Err(denial)
        }
        Requirement::All(parts) => {
            let mut all: Option<Access> = None;
            for part in parts {
                let access = check(part, request, now)?;
                all = Some(all.map_or_else(|| access.clone(), |all| all.and(access.clone())));
            }
            all.ok_or(Denial::Refused(Refusal::Missing))
        }
    }
}
