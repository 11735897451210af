//! `Grip-Sig`: a JSON Web Token that proves to a backend that a request came through the gateway.

use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// The name of the header.
pub const GRIP_SIG: HeaderName = HeaderName::from_static("grip-sig");

/// The validity of a token. As long as Pushpin's, which allows for clock skew.
const VALIDITY: Duration = Duration::from_secs(3600);
/// A token is reused for this long before a new one is signed.
const RENEWAL: Duration = Duration::from_secs(60);

/// A shared secret. `Debug` does not reveal it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The minimum length. HS256 requires a key at least as long as the hash (RFC 7518, section
    /// 3.2).
    pub const MIN_BYTES: usize = 32;

    /// Makes a secret of these bytes; `None` if there are fewer than [`Self::MIN_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() >= Self::MIN_BYTES).then_some(Self(bytes))
    }

    /// The bytes, for whoever signs with them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Signs the requests of one route, on one thread.
pub struct Signer {
    key: EncodingKey,
    issuer: String,
    current: RefCell<Option<(SystemTime, HeaderValue)>>,
}

/// The claims of a token (RFC 7519, section 4.1).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    // Expiry in Unix seconds.
    exp: u64,
}

impl Signer {
    /// A signer with this secret. `issuer` is the claim `iss`.
    pub fn new(secret: &Secret, issuer: &str) -> Self {
        let key = EncodingKey::from_secret(&secret.0);
        Self { key, issuer: issuer.to_owned(), current: RefCell::default() }
    }

    /// The value of `Grip-Sig`, signed with HS256. `None` if signing fails, which would be a bug of
    /// the library.
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
        let failed = |error: &_| tracing::error!(%error, "cannot sign Grip-Sig");
        let token = token.inspect_err(failed).ok()?;
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
    fn a_token_verifies_with_the_key_and_has_issuer_and_expiry() {
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
    fn a_token_is_reused_for_a_minute_and_then_renewed() {
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
    fn debug_output_reveals_no_secret() {
        let secret = Secret::new(KEY.to_vec()).expect("long enough");
        let value = signer().header(SystemTime::now());
        let shown = format!("{secret:?} {:?} {value:?}", signer());
        assert!(!shown.contains("0123") && !shown.contains("eyJ"), "{shown}");
        assert_eq!(Secret::new(KEY[1..].to_vec()), None, "too short");
    }
}
