//! JSON Web Tokens (RFC 7519), signed (RFC 7515) and verified as RFC 8725 advises.
//!
//! A key verifies only what its kind can sign: a public key is never used as the secret of an HMAC, and `alg:
//! none` is no algorithm. A token with keys of its own (`jwk`, `jku`, `x5c`, `x5u`) or with extensions that
//! must be understood (`crit`) is refused. Time is passed in.

mod claims;
mod header;
mod inspect;
mod keys;
mod mint;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use jsonwebtoken::Algorithm;

use self::claims::TokenClaims;
pub use self::claims::is_for;
use self::header::Header;
pub use self::inspect::{UnverifiedToken, inspect};
pub use self::keys::{Key, KeyError, KeySet};
pub use self::mint::{MintError, SigningKey, mint, mint_typed};
use crate::{Identity, Refusal};

/// The longest token that is read, in bytes. The header of a request is bounded, too.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// What a token must be to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// The algorithms with which it may be signed.
    pub algorithms: Vec<Algorithm>,
    /// The claim `iss` must be one of these; empty: any or none.
    pub issuers: Vec<String>,
    /// The claim `aud` must name one of these; empty: the token must have no audience (RFC 7519, section
    /// 4.1.3).
    pub audiences: Vec<String>,
    /// The header `typ` must be one of these, without regard to case or to `application/`. Empty: `JWT`,
    /// `at+jwt` or none, so that a token for another purpose (`logout+jwt`) does not pass.
    pub types: Vec<String>,
    /// Whether a token without `exp` is accepted.
    pub may_never_expire: bool,
    /// By how much the clocks of issuer and gateway may differ.
    pub leeway: Duration,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            algorithms: Vec::new(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            types: Vec::new(),
            may_never_expire: false,
            leeway: Duration::from_secs(30),
        }
    }
}

/// Verifies `token`: its form, its signature with one of `keys`, then its claims.
///
/// # Errors
/// The token is not accepted. Only a token whose signature is good is [`Refusal::Expired`],
/// [`Refusal::NotYet`] or has a wrong [`Refusal::Claim`].
pub fn verify(
    token: &str,
    keys: &KeySet,
    settings: &JwtSettings,
    now: SystemTime,
) -> Result<Identity, Refusal> {
    let (signed, signature) = split(token)?;
    let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed("not a JWT"))?;
    let header = Header::decode(header)?;
    let algorithm = header.algorithm(&settings.algorithms)?;
    keys.verify(header.kid.as_deref(), algorithm, signed, signature)?;
    header.check_type(&settings.types)?;
    TokenClaims::decode(payload)?.check(settings, now)
}

/// A token's signed part, and its signature.
fn split(token: &str) -> Result<(&str, &str), Refusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Refusal::Malformed("longer than a token may be"));
    }
    match token.bytes().filter(|&byte| byte == b'.').count() {
        2 => token.rsplit_once('.').ok_or(Refusal::Malformed("not a JWT")),
        4 => Err(Refusal::Malformed("an encrypted token (JWE)")),
        _ => Err(Refusal::Malformed("not a JWT")),
    }
}

/// Decodes a part of a token: base64url without padding (RFC 7515, section 2).
fn decode_part(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed("not base64url"))
}

#[cfg(test)]
mod tests;
