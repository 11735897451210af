//! What a backend says before it hands its stream over.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;

use crate::hub::Shard;
use crate::proxy::UpstreamBody;
use crate::server::connection::BodyError;
use crate::sse::encode;
use crate::sse::frame::Form;
use crate::sse::tail::Tail;

/// More is handed over in pieces, so that each that is taken is seen as progress.
const MAX_PIECE: usize = 16 << 10;

/// The body of the backend's response, as the beginning of a longer stream.
pub(super) struct Prologue {
    body: UpstreamBody,
    // What came, and has not been handed over.
    rest: Bytes,
    tail: Tail,
    // What the stream says where the backend does not.
    retry: Duration,
    is_over: bool,
    shard: Shard,
}

impl Prologue {
    pub(super) fn new(body: UpstreamBody, retry: Duration, shard: Shard) -> Self {
        Self { body, rest: Bytes::new(), tail: Tail::default(), retry, is_over: false, shard }
    }

    /// The next piece; `None` when events may follow.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(MAX_PIECE));
                self.shard.metrics().stream_bytes_sent(piece.len());
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers have no place: the stream goes on.
                    if let Ok(data) = frame.into_data() {
                        self.take(data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.rest = self.end();
                    self.is_over = true;
                }
            }
        }
    }

    fn take(&mut self, data: Bytes) {
        self.tail.push(&data);
        self.rest = data;
    }

    /// Ends the line and the event that the backend left open, so that none of ours becomes a part
    /// of them; and says when to come back, unless the backend has.
    fn end(&mut self) -> Bytes {
        let mut end = BytesMut::from(self.tail.end());
        if !self.tail.has_retry() {
            encode::retry(self.retry).put(Form::Text, &mut end);
        }
        end.freeze()
    }
}

impl fmt::Debug for Prologue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prologue").field("tail", &self.tail).finish_non_exhaustive()
    }
}
