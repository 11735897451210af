//! Applies the `auth` of a route to a request.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::REFERER;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};
use ssegate_auth::password::Passwords;
use ssegate_auth::{Refusal, TokenPlace, without_tokens};

use super::access::{Access, Denial};
use super::forward::{self, AskBackend};
use super::jwks::{JwksLocation, UsedKeys};
use super::passwords::Users;
use super::request::AuthRequest;
use super::settings::{AuthSettings, BasicAuth, MethodSettings, Requirement};
use super::shared::SharedAuth;
use super::{basic, jwt, signed_url, tokens};

/// Applies the `auth` of a route to its requests.
#[derive(Clone, Debug)]
pub struct Authenticator {
    settings: Arc<AuthSettings>,
    // Places in the query where a token may stand.
    query_places: Vec<TokenPlace>,
    // One for each way to present a credential (RFC 9110, section 11.6.1).
    challenges: Vec<String>,
    // The keys from URLs.
    key_sets: Vec<(JwksLocation, Arc<UsedKeys>)>,
    // The users of files of passwords.
    users: Vec<(Arc<Passwords>, Arc<Users>)>,
}

impl Authenticator {
    /// The authenticator of a route with these settings.
    pub fn new(settings: Arc<AuthSettings>, shared: &SharedAuth) -> Self {
        let methods = settings.methods();
        let places = methods.iter().flat_map(|method| method.places());
        let query_places = places.filter(|place| matches!(place, TokenPlace::Query(_)));
        let query_places = query_places.cloned().collect();
        let mut challenges: Vec<String> = Vec::new();
        for challenge in methods.iter().filter_map(|method| challenge(method)) {
            if !challenges.contains(&challenge) {
                challenges.push(challenge);
            }
        }
        let locations = methods.iter().filter_map(|method| match method {
            MethodSettings::Jwt(jwt) => jwt.jwks.as_ref(),
            _ => None,
        });
        let keys = |location: &JwksLocation| (location.clone(), shared.key_sets.of(location));
        let key_sets = locations.map(keys).collect();
        let files = methods.iter().filter_map(|method| match method {
            MethodSettings::Basic(basic) => basic.users.as_ref(),
            _ => None,
        });
        let users = |file: &Arc<Passwords>| (Arc::clone(file), shared.passwords.users_of(file));
        let users = files.map(users).collect();
        Self { query_places, challenges, key_sets, users, settings }
    }

    /// Its settings.
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    /// Verifies the credential of a request without waiting, where the verdict of a backend is known. `None`: use
    /// [`Self::authenticate`].
    // Not async: a future that may wait costs as much as the verdict itself.
    pub fn authenticate_at_once<A: AskBackend>(
        &self,
        request: AuthRequest<'_>,
        asker: &A,
    ) -> Option<Result<Access, Denial>> {
        let Requirement::One(method @ MethodSettings::Forward(backend)) =
            &self.settings.requirement
        else {
            return None;
        };
        let access = forward::access(backend, asker.known(backend, request)?, request);
        Some(access.map(|mut access| {
            access.identity.method = Some(method.method());
            access
        }))
    }

    /// Verifies the credential of a request at `now`. `asker` sends the questions to auth backends.
    ///
    /// # Errors
    /// The request may not be made. A credential that is not accepted is never treated as a missing one.
    pub async fn authenticate<A: AskBackend>(
        &self,
        request: AuthRequest<'_>,
        now: SystemTime,
        asker: &A,
    ) -> Result<Access, Denial> {
        self.check(&self.settings.requirement, request, now, asker).await
    }

    async fn check<A: AskBackend>(
        &self,
        requirement: &Requirement,
        request: AuthRequest<'_>,
        now: SystemTime,
        asker: &A,
    ) -> Result<Access, Denial> {
        match requirement {
            Requirement::One(settings) => {
                let mut access = self.check_one(settings, request, now, asker).await?;
                access.identity.method = Some(settings.method());
                Ok(access)
            }
            Requirement::Any(parts) => {
                let mut denial = Denial::Refused(Refusal::Missing);
                for part in parts {
                    match Box::pin(self.check(part, request, now, asker)).await {
                        Ok(access) => return Ok(access),
                        Err(other) => denial = denial.or(other),
                    }
                }
                Err(denial)
            }
            Requirement::All(parts) => {
                let mut all: Option<Access> = None;
                for part in parts {
                    let access = Box::pin(self.check(part, request, now, asker)).await?;
                    all = Some(match all {
                        Some(all) => all.and(access),
                        None => access,
                    });
                }
                all.ok_or(Denial::Refused(Refusal::Missing))
            }
        }
    }

    async fn check_one<A: AskBackend>(
        &self,
        settings: &MethodSettings,
        request: AuthRequest<'_>,
        now: SystemTime,
        asker: &A,
    ) -> Result<Access, Denial> {
        match settings {
            MethodSettings::Jwt(settings) => {
                let keys = settings.jwks.as_ref().and_then(|location| self.keys_of(location));
                jwt::authenticate(settings, keys.map(UsedKeys::keys), request, now).await
            }
            MethodSettings::SignedUrl(keys) => signed_url::authenticate(keys, request, now),
            MethodSettings::Tokens(settings) => tokens::authenticate(settings, request),
            MethodSettings::Basic(BasicAuth { users, .. }) => {
                let users = users.as_ref().and_then(|file| self.users_of(file));
                basic::authenticate(users, request).await
            }
            MethodSettings::Forward(backend) => {
                forward::access(backend, asker.ask(backend, request).await, request)
            }
        }
    }

    fn users_of(&self, file: &Arc<Passwords>) -> Option<&Arc<Users>> {
        let mut users = self.users.iter();
        users.find(|(known, _)| Arc::ptr_eq(known, file)).map(|(_, users)| users)
    }

    fn keys_of(&self, location: &JwksLocation) -> Option<&UsedKeys> {
        let mut sets = self.key_sets.iter();
        sets.find(|(known, _)| known == location).map(|(_, keys)| &**keys)
    }

    /// The value of `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750, section 3); `None` if no method
    /// has a challenge, so that a refusal is 403.
    pub fn challenge(&self, refusal: &Refusal) -> Option<String> {
        let with_reason = |challenge: &String| match refusal {
            refusal if *refusal != Refusal::Missing && challenge.starts_with("Bearer") => {
                let reason = format!("error=\"invalid_token\", error_description=\"{refusal}\"");
                format!("{challenge}, {reason}")
            }
            _ => challenge.clone(),
        };
        let challenges: Vec<_> = self.challenges.iter().map(with_reason).collect();
        (!challenges.is_empty()).then(|| challenges.join(", "))
    }

    /// Removes the tokens from the query of the target, and from that of `Referer`: backends and logs record both.
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
    pub fn without_tokens(&self, uri: &Uri) -> Option<Uri> {
        let query = uri.query().filter(|_| !self.query_places.is_empty())?;
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

fn challenge(method: &MethodSettings) -> Option<String> {
    match method {
        MethodSettings::Jwt(_) | MethodSettings::Tokens(_) => {
            Some("Bearer realm=\"ssegate\"".to_owned())
        }
        MethodSettings::Basic(BasicAuth { realm, .. }) => {
            Some(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
        }
        MethodSettings::SignedUrl(_) => None,
        // Where the backend refuses, its own challenge is passed on.
        MethodSettings::Forward(_) => Some("Bearer realm=\"ssegate\"".to_owned()),
    }
}
