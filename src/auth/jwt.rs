//! The method `jwt`: JSON Web Tokens in a header, a cookie or the query.

use std::time::{Duration, SystemTime};

use ssegate_auth::jwt::{KeySet, inspect, verify};
use ssegate_auth::{Presented, Refusal, TokenPlace, find_token};

use super::access::{Access, Denial};
use super::jwks::{NewerKeys, RemoteKeys};
use super::request::AuthRequest;
use super::settings::JwtAuth;

/// Verifies the token of a request, with the keys of the file and those of the URL, if there is one.
///
/// # Errors
/// The token is missing or not accepted, or the keys that might verify it cannot be fetched.
pub(super) async fn authenticate(
    settings: &JwtAuth,
    remote: Option<&RemoteKeys>,
    request: AuthRequest<'_>,
    now: SystemTime,
) -> Result<Access, Denial> {
    let token = find_token(&settings.places, request.headers, request.uri.query())?;
    let with = |keys: &KeySet| verify_with(keys, settings, &token, now);
    let Some(remote) = remote else { return with(&settings.keys) };
    if settings.keys.iter().next().is_some() {
        let verified = with(&settings.keys);
        if !is_of_another_key(&verified) {
            return verified;
        }
    }
    let seen = remote.newest();
    let none = KeySet::default();
    let verified = with(seen.keys.as_deref().unwrap_or(&none));
    let may_be_newer = match &verified {
        Err(Denial::Refused(Refusal::UnknownKey)) => true,
        verified => seen.keys.is_none() && is_of_another_key(verified),
    };
    if !may_be_newer {
        return verified;
    }
    match remote.newer_than(&seen).await {
        NewerKeys::Fetched(newer) => {
            with(newer.keys.as_deref().expect("a fetch that succeeded has keys"))
        }
        NewerKeys::Unchanged(fetched_at) if !is_issued_after(&token, fetched_at) => verified,
        // Not 401, which is final for an EventSource: the key may be a new one.
        NewerKeys::Unchanged(_) | NewerKeys::Unknown => {
            Err(Denial::NotNow("the key of the token cannot be fetched now"))
        }
    }
}

/// Whether another key may have signed the token.
fn is_of_another_key(verified: &Result<Access, Denial>) -> bool {
    matches!(verified, Err(Denial::Refused(Refusal::UnknownKey | Refusal::Signature)))
}

/// Whether the token says that it was issued after this time. The claim is unverified, and lets nobody in.
fn is_issued_after(token: &Presented<'_>, time: SystemTime) -> bool {
    let issued = inspect(&token.token).ok().and_then(|token| token.claims.get("iat")?.as_f64());
    let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    issued.is_some_and(|issued| issued >= time.as_secs_f64().floor())
}

fn verify_with(
    keys: &KeySet,
    JwtAuth { rules, renew, .. }: &JwtAuth,
    presented: &Presented<'_>,
    now: SystemTime,
) -> Result<Access, Denial> {
    let is_ambient = matches!(presented.place, TokenPlace::Cookie(_));
    match verify(&presented.token, keys, rules, now) {
        // A revocation covers tokens issued up to now, so it could not cover a token that is issued later.
        Ok(identity) if identity.issued.is_some_and(|issued| issued > now + rules.leeway) => {
            Err(Refusal::NotYet.into())
        }
        Ok(identity) => {
            let ends = identity.expires.map(|expires| end_of(expires, rules.leeway, now));
            Ok(Access { identity, ends, is_ambient, ..Access::default() })
        }
        Err(Refusal::Expired { by })
            if is_ambient && by < rules.leeway + *renew && {
                // The token is good but for its expiry: it was accepted the moment before.
                let before = now - by - Duration::from_secs(1);
                verify(&presented.token, keys, rules, before).is_ok()
            } =>
        {
            Err(Denial::Renewal)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// When a stream that is opened with the token ends: when the token expires. A stream that is opened after that,
/// within the leeway, ends with the leeway.
fn end_of(expires: SystemTime, leeway: Duration, now: SystemTime) -> SystemTime {
    if now < expires { expires } else { expires + leeway }
}
