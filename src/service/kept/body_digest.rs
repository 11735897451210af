//! The SHA-256 hash of a request's body, taken while the body passes.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::about::BodyDigest;
use crate::server::request_body::BodyTap;

/// Hashes what passes, and tells the hash at the end of the body.
pub(in crate::service) struct DigestTap {
    context: Option<Context>,
    digest: BodyDigest,
}

impl DigestTap {
    /// Tells the hash to `digest`.
    pub(in crate::service) fn new(digest: BodyDigest) -> Self {
        Self { context: Some(Context::new(&SHA256)), digest }
    }
}

impl BodyTap for DigestTap {
    fn data(&mut self, data: &Bytes) {
        if let Some(context) = &mut self.context {
            context.update(data);
        }
    }

    fn end(&mut self) {
        if let Some(context) = self.context.take()
            && let Ok(hash) = context.finish().as_ref().try_into()
        {
            self.digest.get_or_init(|| hash);
        }
    }
}

impl fmt::Debug for DigestTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestTap").finish_non_exhaustive()
    }
}
