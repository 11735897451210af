//! The body of a backend that hands its stream over, as the beginning of the stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use ssegate_hub::Shard;
use ssegate_sse::encode;
use ssegate_sse::frame::Form;
use ssegate_sse::tail::Tail;

use crate::proxy::UpstreamBody;
use crate::server::connection::BodyError;

/// The largest piece returned by a poll. Each piece counts as write progress, so a slow client that
/// still reads is not closed as stalled.
const MAX_PIECE: usize = 16 << 10;

/// A backend's body that events follow.
pub(super) struct Prologue {
    body: UpstreamBody,
    // Received, but not yet returned.
    rest: Bytes,
    tail: Tail,
    // Sent at the end unless the backend's body has a `retry:`.
    retry: Duration,
    is_over: bool,
    shard: Shard,
}

impl Prologue {
    pub(super) fn new(body: UpstreamBody, retry: Duration, shard: Shard) -> Self {
        Self { body, rest: Bytes::new(), tail: Tail::default(), retry, is_over: false, shard }
    }

    /// The next piece; `None` at the end, where events may follow.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(MAX_PIECE));
                self.shard.observer().bytes_sent(piece.len());
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers are dropped, since the stream continues.
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

    /// Completes a line or block that the backend has left open, so that the next event is not
    /// parsed as a part of it, and adds `retry:` unless the backend has sent one.
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
