//! The header of a token (RFC 7515, section 4).

use std::str::FromStr as _;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::{Algorithm, decode_part};
use crate::Refusal;

/// The members of a header that are read. A member that occurs twice is an error.
#[derive(Deserialize)]
pub(super) struct Header {
    alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    // Never accepted.
    #[serde(default)]
    crit: IsPresent,
    #[serde(default)]
    jwk: IsPresent,
    #[serde(default)]
    jku: IsPresent,
    #[serde(default)]
    x5c: IsPresent,
    #[serde(default)]
    x5u: IsPresent,
}

/// Whether a member is present, whatever its value, even `null`.
#[derive(Clone, Copy, Default)]
struct IsPresent(bool);

impl<'de> Deserialize<'de> for IsPresent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl Header {
    /// Decodes a header.
    pub(super) fn decode(part: &str) -> Result<Self, Refusal> {
        const FORM: Refusal = Refusal::Malformed("the header is not that of a JWT");
        let text = decode_part(part)?;
        // An array would be read as the members above, in their order.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(FORM);
        }
        let header: Self = serde_json::from_slice(&text).map_err(|_| FORM)?;
        if header.crit.0 {
            return Err(Refusal::Malformed("the header has `crit`"));
        }
        if [header.jwk, header.jku, header.x5c, header.x5u].iter().any(|key| key.0) {
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
