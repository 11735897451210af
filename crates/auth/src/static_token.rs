//! Static tokens for machines, of which only the hashes are kept.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::{Identity, Refusal};

/// The SHA-256 of a token. A token is drawn at random, so a slow hash would protect nothing more.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Returns the hash of a token.
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    /// Reads a hash of 64 hexadecimal digits, as `sha256sum` prints it; `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A token that a machine presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticToken {
    /// The name of the machine that presents it.
    pub name: String,
    /// The hash of the token.
    pub hash: TokenHash,
}

/// Returns the identity to which the token belongs. Takes as long for a wrong token as for a right one.
///
/// # Errors
/// The token is not one of `known`.
pub fn verify(token: &str, known: &[StaticToken]) -> Result<Identity, Refusal> {
    let presented = TokenHash::of(token);
    let mut found = None;
    for known in known {
        if verify_slices_are_equal(&presented.0, &known.hash.0).is_ok() {
            found = Some(known);
        }
    }
    found.map(|token| Identity::named(&token.name)).ok_or(Refusal::Unknown)
}

#[cfg(test)]
mod tests {
    use super::{StaticToken, TokenHash, verify};
    use crate::Refusal;

    // printf %s secret | sha256sum
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_hash_is_that_of_sha256sum() {
        assert_eq!(TokenHash::of("secret").to_string(), SECRET);
        assert_eq!(TokenHash::from_hex(&SECRET.to_uppercase()), Some(TokenHash::of("secret")));
        for wrong in
            ["", &SECRET[1..], &SECRET.replace('2', "g"), &format!("{SECRET}0"), &"é".repeat(32)]
        {
            assert_eq!(TokenHash::from_hex(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", TokenHash::of("secret")).contains("2bb8"));
    }

    #[test]
    fn a_token_is_that_of_its_name() {
        let token =
            |name: &str, token: &str| StaticToken { name: name.into(), hash: TokenHash::of(token) };
        let known = [token("cron", "secret"), token("deploy", "other")];
        assert_eq!(verify("secret", &known).expect("known").id.as_deref(), Some("cron"));
        assert_eq!(verify("other", &known).expect("known").id.as_deref(), Some("deploy"));
        for wrong in ["", "Secret", "secret ", SECRET] {
            assert_eq!(verify(wrong, &known), Err(Refusal::Unknown), "{wrong}");
        }
    }
}
