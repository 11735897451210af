//! The method `tokens`: static tokens for machines.

use ssegate_auth::static_token::verify;
use ssegate_auth::{TokenPlace, find_token};

use super::access::{Access, Denial};
use super::request::AuthRequest;
use super::settings::TokensAuth;

/// Verifies the token of a request.
///
/// # Errors
/// There is no token, or it is unknown.
pub(super) fn authenticate(
    settings: &TokensAuth,
    request: AuthRequest<'_>,
) -> Result<Access, Denial> {
    let presented = find_token(&settings.places, request.headers, request.uri.query())?;
    let is_ambient = matches!(presented.place, TokenPlace::Cookie(_));
    let identity = verify(&presented.token, &settings.known)?;
    Ok(Access { identity, ends: None, is_ambient, ..Access::default() })
}
