//! `Grip-Sig`: a JSON Web Token by which a backend knows that a request came through us.

use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// The header's name.
pub const GRIP_SIG: HeaderName = HeaderName::from_static("grip-sig");

/// A token is good for so long: as Pushpin's are, so that clocks need not agree.
const VALIDITY: Duration = Duration::from_secs(3600);
/// A token is used for so long, and then another is signed.
const RENEWAL: Duration = Duration::from_secs(60);

/// A secret that two share. Shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Fewer would be weaker than the signature (RFC 7518, section 3.2).
    pub const MIN_BYTES: usize = 32;

    /// Takes the bytes of a secret; `None` where they are fewer than [`Self::MIN_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() >= Self::MIN_BYTES).then_some(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Signs for one route, on one thread.
pub struct Signer {
    key: EncodingKey,
    issuer: String,
    current: RefCell<Option<(SystemTime, HeaderValue)>>,
}

/// What a token says (RFC 7519, section 4.1).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    // Seconds of Unix time.
    exp: u64,
}

impl Signer {
    /// Signs with `secret`, in the name of `issuer`.
    pub fn new(secret: &Secret, issuer: &str) -> Self {
        let key = EncodingKey::from_secret(&secret.0);
        Self { key, issuer: issuer.to_owned(), current: RefCell::default() }
    }

    /// The value of the header; HS256. `None` where nothing can be signed, which would be a mistake
    /// of the library that signs.
    pub fn header(&self, now: SystemTime) -> Option<HeaderValue> {
        let mut current = self.current.borrow_mut();
        let is_fresh =
            |signed: &SystemTime| now.duration_since(*signed).is_ok_and(|age| age < RENEWAL);
        if let Some((signed, value)) = &*current
            && is_fresh(signed)
        {
            return Some(value.clone());
        }
        let value = self.sign(now)?;
        *current = Some((now, value.clone()));
        Some(value)
    }

    fn sign(&self, now: SystemTime) -> Option<HeaderValue> {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let claims = Claims { iss: &self.issuer, exp: (since_epoch + VALIDITY).as_secs() };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key);
        let token = token.inspect_err(|error| tracing::error!(%error, "cannot sign")).ok()?;
        let mut value = HeaderValue::try_from(token).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    use super::{Secret, Signer};

    const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

    fn signer() -> Signer {
        Signer::new(&Secret::new(KEY.to_vec()).expect("long enough"), "ssegate")
    }

    #[test]
    fn whoever_has_the_key_can_tell_who_signed_and_until_when() {
        let now = SystemTime::now();
        let value = signer().header(now).expect("a token");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&["ssegate"]);
        let decode = |key: &[u8]| {
            let token = value.to_str().expect("text");
            let key = DecodingKey::from_secret(key);
            jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation)
        };
        let claims = decode(KEY).expect("a good token").claims;
        let unix = now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        assert_eq!(claims["exp"], unix + 3600);
        assert!(decode(b"another key, of thirty-two bytes").is_err());
    }

    #[test]
    fn a_token_is_used_for_a_while_and_then_renewed() {
        let (signer, start) = (signer(), SystemTime::now());
        let first = signer.header(start);
        assert_eq!(signer.header(start + Duration::from_secs(59)), first);
        let second = signer.header(start + Duration::from_secs(60));
        assert_ne!(second, first);
        assert_ne!(
            signer.header(start - Duration::from_secs(60)),
            second,
            "the clock was set back"
        );
    }

    #[test]
    fn no_secret_shows_itself() {
        let secret = Secret::new(KEY.to_vec()).expect("long enough");
        let value = signer().header(SystemTime::now());
        let shown = format!("{secret:?} {:?} {value:?}", signer());
        assert!(!shown.contains("0123") && !shown.contains("eyJ"), "{shown}");
        assert_eq!(Secret::new(KEY[1..].to_vec()), None, "too short");
    }
}
