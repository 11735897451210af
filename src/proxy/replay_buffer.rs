//! The beginning of a request body, kept until it is sure that the request is not retried.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

/// The beginning of a body, kept to be sent again.
#[derive(Debug, Default)]
pub(super) struct ReplayBuffer {
    octets: BytesMut,
    // The trailers, if the body was read to its end and has some.
    trailers: Option<HeaderMap>,
    limit: usize,
}

impl ReplayBuffer {
    /// Keeps up to `limit` octets.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The number of octets to send, without the trailers.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.trailers.is_none()
    }

    /// Adds a frame. Returns `false` if it does not fit.
    pub(super) fn add(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            if self.octets.len() + data.len() > self.limit {
                return false;
            }
            self.octets.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }

    /// Takes all that was kept, to be sent again before what is left in `unsent`. The next octets are kept
    /// from the start.
    pub(super) fn rewind(&mut self, unsent: &mut Self) -> Self {
        let mut replay = std::mem::replace(self, Self::new(self.limit));
        replay.octets.unsplit(std::mem::take(&mut unsent.octets));
        replay.trailers = replay.trailers.or_else(|| unsent.trailers.take());
        replay
    }

    /// Takes the next frame to send.
    pub(super) fn take(&mut self) -> Option<Frame<Bytes>> {
        if !self.octets.is_empty() {
            return Some(Frame::data(self.octets.split().freeze()));
        }
        self.trailers.take().map(Frame::trailers)
    }
}
