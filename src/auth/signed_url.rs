//! The method `signed_url`: URLs that carry their own permission.

use std::time::SystemTime;

use ssegate_auth::signed_url::{SignedRequest, UrlKey, verify};

use super::access::{Access, Denial};
use super::request::AuthRequest;

/// Verifies the signature of a request's URL.
///
/// # Errors
/// There is no signature, or it is not one of `keys` for this request.
pub(super) fn authenticate(
    keys: &[UrlKey],
    request: AuthRequest<'_>,
    now: SystemTime,
) -> Result<Access, Denial> {
    let signed = SignedRequest {
        method: request.method.as_str(),
        host: request.host(),
        path_and_query: request.path_and_query(),
    };
    let identity = verify(signed, keys, now)?;
    Ok(Access { ends: identity.expires, identity, ..Access::default() })
}
