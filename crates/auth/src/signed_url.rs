//! URLs that carry their own permission: who has one may make this request until it expires.
//!
//! A signed URL ends in `exp=SECONDS&kid=KEY&sig=SIGNATURE`. The signature is the HMAC-SHA256, in base64url
//! without padding, of three lines: the method, the host without its port in lower case, and the path and
//! query as they stand in the URL up to `&sig=`. So expiry and key are signed, too, and nothing in
//! front of the signature can be changed. Behind it only the id of the last event may stand, which an
//! `EventSource` polyfill adds.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::fingerprint::Fingerprint;
use crate::{Identity, Refusal};

/// The parameters that may stand behind the signature, since clients add them.
pub const LAST_EVENT_ID_KEYS: [&str; 3] = ["last_event_id", "lastEventId", "Last-Event-ID"];

/// What separates a URL from its signature.
const SIGNATURE: &str = "&sig=";

/// A key with a name. Two are equal if their names and their secrets are.
#[derive(Clone)]
pub struct UrlKey {
    name: String,
    key: hmac::Key,
    fingerprint: Fingerprint,
}

impl UrlKey {
    /// The least length of a secret, in bytes: that of the hash (RFC 2104, section 3).
    pub const MIN_BYTES: usize = 32;

    /// Returns the key of a secret. `None` if the secret is shorter than [`Self::MIN_BYTES`], or the name
    /// has characters other than letters, digits, `-` and `_`, which would need escaping in a URL.
    pub fn new(name: &str, secret: &[u8]) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_usable =
            secret.len() >= Self::MIN_BYTES && !name.is_empty() && name.bytes().all(is_plain);
        is_usable.then(|| Self {
            name: name.to_owned(),
            key: hmac::Key::new(HMAC_SHA256, secret),
            fingerprint: Fingerprint::of("secret", &[secret]),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for UrlKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.fingerprint == other.fingerprint
    }
}

impl Eq for UrlKey {}

impl fmt::Debug for UrlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The parts of a request that its URL signs.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The method. A URL for GET serves HEAD, too.
    pub method: &'a str,
    /// The host, which may have a port.
    pub host: &'a str,
    /// Path and query, as they stand in the request.
    pub path_and_query: &'a str,
}

/// Returns path and query with expiry, key and signature added. `None` if they have a signature, or a
/// fragment, which no server sees.
pub fn sign(request: SignedRequest<'_>, key: &UrlKey, expires: SystemTime) -> Option<String> {
    if request.path_and_query.contains(SIGNATURE) || request.path_and_query.contains('#') {
        return None;
    }
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let separator = if request.path_and_query.contains('?') { '&' } else { '?' };
    let signed = format!("{}{separator}exp={expires}&kid={}", request.path_and_query, key.name);
    let tag = hmac::sign(&key.key, message(request, &signed).as_bytes());
    Some(format!("{signed}{SIGNATURE}{}", URL_SAFE_NO_PAD.encode(tag)))
}

/// Verifies a signed URL.
///
/// # Errors
/// [`Refusal::Missing`] if it has no signature; otherwise the URL was not signed with one of `keys` for
/// this request, or has expired.
pub fn verify(
    request: SignedRequest<'_>,
    keys: &[UrlKey],
    now: SystemTime,
) -> Result<Identity, Refusal> {
    let (signed, behind) = request.path_and_query.split_once(SIGNATURE).ok_or(Refusal::Missing)?;
    let (signature, rest) = behind.split_once('&').unwrap_or((behind, ""));
    let (_, query) = signed.split_once('?').ok_or(Refusal::Missing)?;
    let is_last_event_id = |part: &str| {
        LAST_EVENT_ID_KEYS.contains(&part.split_once('=').map_or(part, |(key, _)| key))
    };
    if !rest.is_empty() && !rest.split('&').all(is_last_event_id) {
        return Err(Refusal::Malformed("something stands behind the signature of the URL"));
    }
    let (expires, name) = expiry_and_key(query)?;
    let key = keys.iter().find(|key| key.name == name).ok_or(Refusal::UnknownKey)?;
    let tag = URL_SAFE_NO_PAD.decode(signature);
    let tag = tag.map_err(|_| Refusal::Malformed("the signature of the URL is not base64url"))?;
    hmac::verify(&key.key, message(request, signed).as_bytes(), &tag)
        .map_err(|_| Refusal::Signature)?;
    match now.duration_since(expires) {
        Ok(by) => Err(Refusal::Expired { by }),
        Err(_) => {
            let expires = Some(expires);
            Ok(Identity { expires, ..Identity::named(&key.name) })
        }
    }
}

/// The last two parameters of the part that is signed.
fn expiry_and_key(query: &str) -> Result<(SystemTime, &str), Refusal> {
    const FORM: Refusal = Refusal::Malformed("a signed URL ends in exp=...&kid=...&sig=...");
    let mut parts = query.rsplit('&');
    let name = parts.next().and_then(|part| part.strip_prefix("kid=")).ok_or(FORM)?;
    let seconds = parts.next().and_then(|part| part.strip_prefix("exp=")).ok_or(FORM)?;
    if seconds.is_empty() || !seconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FORM);
    }
    let since = Duration::from_secs(seconds.parse().map_err(|_| FORM)?);
    Ok((SystemTime::UNIX_EPOCH.checked_add(since).ok_or(FORM)?, name))
}

fn message(request: SignedRequest<'_>, signed: &str) -> String {
    let method = if request.method == "HEAD" { "GET" } else { request.method };
    format!("{method}\n{}\n{signed}", without_port(request.host).to_ascii_lowercase())
}

/// A host without its port. The colons of an IPv6 address stand in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{SignedRequest, UrlKey, sign, verify};
    use crate::Refusal;

    const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn key(name: &str) -> UrlKey {
        UrlKey::new(name, SECRET).expect("a key")
    }

    fn get(path_and_query: &str) -> SignedRequest<'_> {
        SignedRequest { method: "GET", host: "Events.example:8443", path_and_query }
    }

    fn signed(path: &str) -> String {
        sign(get(path), &key("k1"), at(1000)).expect("has no signature")
    }

    // printf 'GET\nevents.example\n/events?channel=a&exp=1000&kid=k1' |
    //   openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef -binary | basenc --base64url | tr -d =
    #[test]
    fn a_signature_is_that_of_openssl() {
        assert_eq!(
            signed("/events?channel=a"),
            "/events?channel=a&exp=1000&kid=k1&sig=jv28QZrwQrtccz_JPfUZ_vosq5i-geHlDdwZY2xtGbc"
        );
    }

    #[test]
    fn a_signed_url_passes_until_it_expires() {
        for path in ["/events", "/events/a%2Fb?x=1&x=2", "/?q=a&exp=1&kid=z"] {
            let url = signed(path);
            let identity = verify(get(&url), &[key("k0"), key("k1")], at(999)).expect(&url);
            assert_eq!((identity.id.as_deref(), identity.expires), (Some("k1"), Some(at(1000))));
            let late = verify(get(&url), &[key("k1")], at(1003));
            assert_eq!(late, Err(Refusal::Expired { by: Duration::from_secs(3) }));
        }
    }

    #[test]
    fn nothing_of_a_signed_request_can_be_changed() {
        let url = signed("/events?channel=a");
        let keys = [key("k1"), UrlKey::new("k2", &[7; 32]).expect("a key")];
        let base = get(&url);
        let ok = |request| verify(request, &keys, at(1)).is_ok();
        assert!(ok(base));
        assert!(ok(SignedRequest { method: "HEAD", ..base }));
        assert!(ok(SignedRequest { host: "EVENTS.example", ..base }));
        assert!(!ok(SignedRequest { method: "POST", ..base }));
        assert!(!ok(SignedRequest { host: "events.example.org", ..base }));
        for (from, to) in [
            ("channel=a", "channel=b"),
            ("channel=a", "channel=a&channel=b"),
            ("/events", "/Events"),
            ("/events", "/./events"),
            ("exp=1000", "exp=9000"),
            ("exp=1000", "exp=01000"),
            ("kid=k1", "kid=k2"),
            ("kid=k1", "kid=k3"),
            ("kid=k1", "channel=b&kid=k1"),
            ("&sig=", "&sig=A"),
            ("&sig=", "&sig=&sig="),
            ("&sig=", "&channel=b&sig="),
        ] {
            let changed = url.replace(from, to);
            let verified = verify(get(&changed), &keys, at(1));
            assert!(verified.is_err(), "{from} {to}");
        }
    }

    #[test]
    fn behind_the_signature_only_a_last_event_id_may_stand() {
        let url = signed("/events?channel=a");
        let verify = |rest: &str| verify(get(&format!("{url}{rest}")), &[key("k1")], at(1));
        for rest in ["", "&last_event_id=a-1", "&lastEventId=", "&Last-Event-ID=x&last_event_id"] {
            assert!(verify(rest).is_ok(), "{rest}");
        }
        for rest in ["&channel=b", "&last_event_id=1&channel=b", "&lastEventID=1", "&&"] {
            assert!(verify(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn a_url_without_signature_has_no_credential() {
        for url in ["/events", "/events?sig=abc", "/events&sig=abc"] {
            assert_eq!(verify(get(url), &[key("k1")], at(1)), Err(Refusal::Missing), "{url}");
        }
        for url in
            ["/e?x=1&sig=a", "/e?exp=1&sig=a", "/e?kid=k1&exp=1&sig=a", "/e?exp=+1&kid=k1&sig=a"]
        {
            let refused = verify(get(url), &[key("k1")], at(1));
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{url} {refused:?}");
        }
    }

    #[test]
    fn what_has_a_signature_is_not_signed_again() {
        for path in [&*signed("/events"), "/events#a"] {
            assert_eq!(sign(get(path), &key("k1"), at(1000)), None, "{path}");
        }
    }

    #[test]
    fn a_key_is_long_enough_and_its_name_plain() {
        assert!(UrlKey::new("k1", &SECRET[1..]).is_none());
        for name in ["", "a&b", "a b", "ä"] {
            assert!(UrlKey::new(name, SECRET).is_none(), "{name}");
        }
        assert!(!format!("{:?}", key("k1")).contains("0123"));
        assert_eq!(key("k1"), key("k1"));
        assert_ne!(key("k1"), key("k2"));
        assert_ne!(Some(key("k1")), UrlKey::new("k1", &[7; 32]));
    }
}
