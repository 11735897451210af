//! The header of a token (RFC 7515, section 4).

use std::str::FromStr as _;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Algorithm, decode_part};
use crate::Refusal;

/// What is read of a header. A member that stands twice is an error.
#[derive(Deserialize)]
pub(super) struct Header {
    alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    // Never accepted.
    crit: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
}

impl Header {
    /// Decodes a header.
    pub(super) fn decode(part: &str) -> Result<Self, Refusal> {
        let header: Self = serde_json::from_slice(&decode_part(part)?)
            .map_err(|_| Refusal::Malformed("the header is not that of a JWT"))?;
        if header.crit.is_some() {
            return Err(Refusal::Malformed("the header has `crit`"));
        }
        if [&header.jwk, &header.jku, &header.x5c, &header.x5u].iter().any(|key| key.is_some()) {
            return Err(Refusal::Malformed("the header names a key of its own"));
        }
        Ok(header)
    }

    /// Returns its algorithm, if that is one of `allowed`.
    pub(super) fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, Refusal> {
        let algorithm = Algorithm::from_str(&self.alg).map_err(|_| Refusal::Algorithm)?;
        match allowed.contains(&algorithm) {
            true => Ok(algorithm),
            false => Err(Refusal::Algorithm),
        }
    }

    /// Checks `typ` (RFC 8725, section 3.11).
    pub(super) fn check_type(&self, types: &[String]) -> Result<(), Refusal> {
        let given = self.typ.as_deref().map(subtype);
        let is =
            |wanted: &str| given.is_some_and(|given| given.eq_ignore_ascii_case(subtype(wanted)));
        let is_right = match types {
            [] => given.is_none() || is("JWT") || is("at+jwt"),
            types => types.iter().any(|wanted| is(wanted)),
        };
        if is_right { Ok(()) } else { Err(Refusal::Claim("typ")) }
    }
}

/// A media type without `application/`, which may be left out (RFC 7515, section 4.1.9).
fn subtype(text: &str) -> &str {
    match text.split_at_checked("application/".len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => text,
    }
}
