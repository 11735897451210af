//! The pump of a kept stream: a task that owns the backend's response, whatever its readers do.
//!
//! If a backend is faster than all readers, the pump stops reading when the nearest reader would lose events:
//! the backend waits as it would for its client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use ssegate_sse::number::{Edge, EventNumberer};
use tokio::time::Instant;

use super::log::LogEdge;
use super::registry::KeptStreams;
use super::stream::{KeptStream, LostReason};
use crate::proxy::UpstreamBody;
use crate::server::connection::BodyError;
use crate::service::stream_guard::StreamGuard;

/// Frames that are taken in a row before others get their turn.
const MAX_IN_TURN: usize = 64;
/// The most bytes that are appended at once: a log may exceed its bounds by this much.
const MAX_PIECE: usize = 16 << 10;

/// Reads a backend's event stream into its log. When it is dropped, the request to the backend is cancelled.
pub(in crate::service) struct Pump {
    body: UpstreamBody,
    // Received, but not yet appended.
    rest: Bytes,
    numberer: EventNumberer,
    passed: BytesMut,
    // How long it waits for a reader that does not read.
    patience: Duration,
    stream: Arc<KeptStream>,
    streams: KeptStreams,
    // Ends the stream when the credential that began it is revoked.
    _guard: Option<StreamGuard>,
}

impl Pump {
    pub(in crate::service) fn new(
        mut body: UpstreamBody,
        (stream, streams): (Arc<KeptStream>, &KeptStreams),
        patience: Duration,
        guard: Option<StreamGuard>,
    ) -> Self {
        body.disable_idle_timeout();
        let numberer = EventNumberer::new(&stream.id);
        let streams = streams.clone();
        let (rest, passed) = (Bytes::new(), BytesMut::new());
        Self { body, rest, numberer, passed, patience, stream, streams, _guard: guard }
    }

    /// The stream that it feeds.
    pub(in crate::service) fn stream(&self) -> Arc<KeptStream> {
        Arc::clone(&self.stream)
    }

    /// Reads what has come with the head, so that it is sent with the head. Returns whether the stream has
    /// ended.
    pub(in crate::service) fn take_ready(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..MAX_IN_TURN {
            match Pin::new(&mut self.body).poll_frame(&mut context) {
                Poll::Ready(frame) => {
                    if !self.take(frame) {
                        return true;
                    }
                }
                Poll::Pending => return false,
            }
            if self.append_rest().is_some() {
                return false;
            }
        }
        false
    }

    /// Reads until the stream ends.
    pub(in crate::service) async fn run(mut self) {
        let mut in_turn = 0;
        while !self.stream.is_ended() {
            let waits = self.append_rest();
            let (stream, body) = (&self.stream, &mut self.body);
            let deadline = stream.deadline();
            tokio::select! {
                biased;
                () = stream.changed() => {}
                frame = body.frame(), if waits.is_none() => {
                    if !self.take(frame) {
                        return;
                    }
                    in_turn += 1;
                    if in_turn % MAX_IN_TURN == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                () = tokio::time::sleep_until(waits.unwrap_or(deadline).min(deadline)) => {}
            }
            self.stream.check(Instant::now());
        }
    }

    /// Takes a frame of the body. Returns whether more may follow.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> bool {
        match frame {
            Some(Ok(frame)) => {
                // Trailers are not part of the stream.
                if let Ok(data) = frame.into_data() {
                    self.rest = data;
                }
                true
            }
            Some(Err(_told_by_the_proxy)) => {
                self.stream.lose(LostReason::Backend);
                false
            }
            None => {
                self.stream.complete();
                false
            }
        }
    }

    /// Appends what was received, as far as there is room. Returns until when to wait for a reader; `None`: all
    /// was appended.
    fn append_rest(&mut self) -> Option<Instant> {
        loop {
            let waits = self.streams.bound(&self.stream, self.patience);
            if waits.is_some() || self.rest.is_empty() {
                return waits;
            }
            let piece = self.rest.split_to(self.rest.len().min(MAX_PIECE));
            self.append(&piece);
        }
    }

    fn append(&mut self, data: &[u8]) {
        let mut edges = Vec::new();
        self.numberer.pass(data, &mut self.passed, |edge| {
            edges.push(match edge {
                Edge::Event { end, id } => LogEdge::Event { end, id: id.map(Into::into) },
                Edge::Longer => LogEdge::Longer,
                Edge::Id(id) => LogEdge::Id(id.into()),
            });
        });
        if let Some(is_numbered) = self.numberer.numbers_events() {
            self.stream.set_numbered(is_numbered);
        }
        self.stream.log.append(&self.passed, edges);
        self.passed.clear();
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // It was dropped while reading: its thread ends.
        self.stream.lose(LostReason::Drained);
        self.streams.schedule(&self.stream);
    }
}
