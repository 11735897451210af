//! What a token says of itself, for a person who looks at it.

use serde_json::{Map, Value};

use super::{decode_part, split};
use crate::Refusal;

/// Header and claims of a token whose signature was not verified: they may be forged.
#[derive(Clone, Debug, PartialEq)]
pub struct UnverifiedToken {
    /// The header (RFC 7515, section 4).
    pub header: Map<String, Value>,
    /// The claims (RFC 7519, section 4).
    pub claims: Map<String, Value>,
}

/// Decodes a token without verifying it. No decision may depend on what it returns: see [`super::verify`].
///
/// # Errors
/// It is not a signed token with a JSON object as header and as claims.
pub fn inspect(token: &str) -> Result<UnverifiedToken, Refusal> {
    let (signed, _) = split(token)?;
    let (header, claims) = signed.split_once('.').ok_or(Refusal::Malformed("not a JWT"))?;
    let object = |part, is_none| {
        let object = serde_json::from_slice(&decode_part(part)?);
        object.map_err(|_| Refusal::Malformed(is_none))
    };
    let header = object(header, "the header is not a JSON object")?;
    let claims = object(claims, "the claims are not a JSON object")?;
    Ok(UnverifiedToken { header, claims })
}
