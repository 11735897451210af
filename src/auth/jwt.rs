//! The method `jwt`: JSON Web Tokens in a header, a cookie or the query.

use std::time::{Duration, SystemTime};

use ssegate_auth::jwt::verify;
use ssegate_auth::{Refusal, TokenPlace, find_token};

use super::access::{Access, Denial};
use super::request::AuthRequest;
use super::settings::JwtAuth;

/// Verifies the token of a request.
///
/// # Errors
/// There is no token, or it is not accepted.
pub(super) fn authenticate(
    settings: &JwtAuth,
    request: AuthRequest<'_>,
    now: SystemTime,
) -> Result<Access, Denial> {
    let JwtAuth { keys, rules, places, renew } = settings;
    let presented = find_token(places, request.headers, request.uri.query())?;
    let is_ambient = matches!(presented.place, TokenPlace::Cookie(_));
    match verify(&presented.token, keys, rules, now) {
        Ok(identity) => {
            let ends = identity.expires.map(|expires| end_of(expires, rules.leeway, now));
            Ok(Access { identity, ends, is_ambient, ..Access::default() })
        }
        Err(Refusal::Expired { by })
            if is_ambient && by < rules.leeway + *renew && {
                // Expired, and nothing else: it was good the moment before.
                let before = now - by - Duration::from_secs(1);
                verify(&presented.token, keys, rules, before).is_ok()
            } =>
        {
            Err(Denial::Renewal)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// When a stream that is opened with the token ends: as the token expires. One that is opened within the
/// leeway behind that ends with the leeway.
fn end_of(expires: SystemTime, leeway: Duration, now: SystemTime) -> SystemTime {
    if now < expires { expires } else { expires + leeway }
}
