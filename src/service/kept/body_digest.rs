//! A keyed hash of a request's body, taken while the body passes. The hash is in Redis, for other gateways, and many
//! prompts are short: without the key nobody who reads it can find the prompt by trying.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::about::BodyDigest;
use super::owner::OwnerKey;
use crate::server::request_body::BodyTap;

/// Hashes a body as it passes, and sets the hash at its end.
pub(in crate::service) struct DigestTap {
    context: Option<Context>,
    key: OwnerKey,
    digest: BodyDigest,
}

impl DigestTap {
    /// Sets `digest` to the hash under the key of the route.
    pub(in crate::service) fn new(digest: BodyDigest, key: OwnerKey) -> Self {
        Self { context: Some(Context::new(&SHA256)), key, digest }
    }
}

impl BodyTap for DigestTap {
    fn data(&mut self, data: &Bytes) {
        if let Some(context) = &mut self.context {
            context.update(data);
        }
    }

    fn end(&mut self) {
        if let Some(context) = self.context.take() {
            let hash = context.finish();
            let tag = self.key.tag([&b"body"[..], hash.as_ref()]);
            self.digest.get_or_init(|| *tag.as_bytes());
        }
    }
}

impl fmt::Debug for DigestTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestTap").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use bytes::Bytes;

    use super::{BodyDigest, DigestTap};
    use crate::server::request_body::BodyTap as _;
    use crate::service::kept::owner::OwnerKey;

    fn hash(key: &OwnerKey, pieces: &[&'static str]) -> [u8; 32] {
        let known = BodyDigest::default();
        let mut tap = DigestTap::new(BodyDigest::clone(&known), key.clone());
        pieces.iter().for_each(|piece| tap.data(&Bytes::from_static(piece.as_bytes())));
        assert_eq!(known.get(), None, "before its end");
        tap.end();
        *known.get().expect("at its end")
    }

    #[test]
    fn only_who_has_the_key_can_try_what_a_body_was() {
        let (key, other) = (OwnerKey::generate(), OwnerKey::generate());
        let known = hash(&key, &["say ", "hi"]);
        assert_eq!(known, hash(&key, &["say hi"]), "in whatever pieces it comes");
        assert_ne!(known, hash(&key, &["say ho"]));
        assert_ne!(known, hash(&other, &["say hi"]));
        assert_ne!(&known[..], digest(&SHA256, b"say hi").as_ref());
    }
}
