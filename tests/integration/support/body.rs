//! The body of a response, as it comes: chunk by chunk, with an end that is clean or is not.

use bytes::Bytes;

use super::http1::Http1Body;
use super::http2::Http2Body;
use super::{SOON, within};

/// Bytes still to be read.
pub(crate) enum Body {
    Http1(Http1Body),
    Http2(Http2Body),
}

impl Body {
    /// The next bytes; `None` at an end that the protocol calls complete.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        match self {
            Self::Http1(body) => body.chunk().await,
            Self::Http2(body) => body.chunk().await,
        }
    }

    /// All that is left.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Everything up to the first time that `end` stands in it.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut all = Vec::new();
        while memchr::memmem::find(&all, end.as_bytes()).is_none() {
            let chunk = self.chunk().await.unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("ended before {end:?}: {all:?}"));
            all.extend_from_slice(&chunk);
        }
        String::from_utf8(all).unwrap()
    }
}

/// Reads on until exactly `expected` has come.
pub(crate) async fn read_exactly(body: &mut Body, expected: &str) {
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let chunk = within(SOON, "the next bytes", body.chunk()).await.unwrap();
        seen.extend_from_slice(&chunk.unwrap_or_else(|| panic!("ended after {seen:?}")));
    }
    assert_eq!(String::from_utf8_lossy(&seen), expected);
}
