//! What an `Idempotency-Key` stands for
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>).

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName};

use super::refusal::PublishRefusal;
use crate::hex::hex;
use crate::source::publishing::{IdempotencyKey, Publication, PublicationKind};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The prefix of every key in Redis, so that an ACL can permit them.
const PREFIX: &str = "ssegate:idempotency:";
const MAX_BYTES: usize = 255;

/// Returns the key of a request, if it has one: 1 to 255 visible ASCII characters.
///
/// # Errors
/// The header is something else, or is there twice.
pub(super) fn header(headers: &HeaderMap) -> Result<Option<&str>, PublishRefusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(None) };
    let is_key = |key: &&str| {
        (1..=MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let key = value.to_str().ok().filter(is_key).filter(|_| second.is_none());
    key.map(Some).ok_or_else(|| {
        let what = format!("Idempotency-Key must be 1 to {MAX_BYTES} visible ASCII characters");
        PublishRefusal::Invalid(what)
    })
}

/// Returns the name under which the result of `publications` is kept. `scope` is the account and the route:
/// the same key of another account is another key.
pub(super) fn key(scope: &[&str], key: &str, publications: &[Publication]) -> IdempotencyKey {
    let mut name = Hash::new();
    for part in scope.iter().chain([&key]) {
        name.add(part.as_bytes());
    }
    let mut fingerprint = Hash::new();
    for Publication { channel, kind } in publications {
        fingerprint.add(channel.as_str().as_bytes());
        match kind {
            PublicationKind::Message(payload) => {
                fingerprint.add(b"PUBLISH");
                fingerprint.add(payload);
            }
            PublicationKind::Sharded(payload) => {
                fingerprint.add(b"SPUBLISH");
                fingerprint.add(payload);
            }
            PublicationKind::Entry { fields, .. } => {
                fingerprint.add(b"XADD");
                fingerprint.add(&fields.len().to_be_bytes());
                for (field, value) in fields {
                    fingerprint.add(field.as_bytes());
                    fingerprint.add(value);
                }
            }
        }
    }
    IdempotencyKey { name: format!("{PREFIX}{}", name.hex()), fingerprint: fingerprint.hex() }
}

/// A SHA-256 of parts, unambiguous: no two lists of parts have the same input.
struct Hash(Context);

impl Hash {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update(&part.len().to_be_bytes());
        self.0.update(part);
    }

    fn hex(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use ssegate_hub::ChannelName;

    use super::{header, key};
    use crate::source::publishing::{IdempotencyKey, Publication, PublicationKind};

    #[test]
    fn a_key_is_one_visible_word() {
        let long = "x".repeat(255);
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&["a"], Ok(Some("a"))),
            (&["\"8e03978e-40d5\""], Ok(Some("\"8e03978e-40d5\""))),
            (&[&*long], Ok(Some(&*long))),
            (&[&*format!("{long}x")], Err(())),
            (&[""], Err(())),
            (&["a b"], Err(())),
            (&["\u{e9}"], Err(())),
            (&["a", "a"], Err(())),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
                headers.append("idempotency-key", value);
            }
            assert_eq!(header(&headers).map_err(|_| ()), expected, "{values:?}");
        }
    }

    #[test]
    fn keys_differ_by_who_and_fingerprints_by_what() {
        let publication = |channel: &str, data: &'static str| Publication {
            channel: ChannelName::new(channel).expect("a name"),
            kind: PublicationKind::Message(Bytes::from_static(data.as_bytes())),
        };
        let one = key(&["/publish", "42"], "k", &[publication("news", "x")]);
        assert_eq!(one.fingerprint.len(), IdempotencyKey::FINGERPRINT_BYTES);
        assert!(!one.name.contains("42"), "{one:?}");
        assert_eq!(one, key(&["/publish", "42"], "k", &[publication("news", "x")]));
        for (scope, word) in
            [(["/publish", "43"], "k"), (["/publish4", "2"], "k"), (["/publish", "42"], "l")]
        {
            assert_ne!(one.name, key(&scope, word, &[publication("news", "x")]).name);
        }
        for other in [
            vec![publication("news", "y")],
            vec![publication("newsx", "")],
            vec![publication("news", "x"), publication("news", "x")],
        ] {
            let other = key(&["/publish", "42"], "k", &other);
            assert_eq!(one.name, other.name);
            assert_ne!(one.fingerprint, other.fingerprint);
        }
    }
}
