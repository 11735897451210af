//! Bulk: responses that have more to send than fits into one write.
//!
//! Bulk is written only when no other stream has anything to send. Without event streams on the
//! connection that is all. Beside event streams, [`BulkWindow`] limits the bulk in flight, and a
//! part of the connection's send window is reserved for events. Where that limit is small, bulk is
//! also written in smaller pieces, and less of it may wait unsent in the kernel
//! (`TCP_NOTSENT_LOWAT`).

use std::collections::VecDeque;

use tokio::time::Instant;

use super::Connection;
use crate::bulk_window::{BulkWindow, MARKER_PING, MARKER_TIMEOUT};
use crate::frame::FRAME_HEADER_LEN;
use crate::output::WRITE_BATCH;
use crate::sender::SendLimits;
use crate::server::Http2Server;

/// What bulk writes at once while its limit is small, in octets.
const SMALL_BATCH: usize = 8 << 10;
/// What may wait unsent in the kernel then, in octets.
const MAX_NOTSENT: u32 = 16 << 10;
/// What bulk leaves of the connection's send window beside event streams, in octets. A client that
/// opens this window only as it reads would make events wait for bulk otherwise.
const WINDOW_RESERVE: i64 = 8 << 10;

/// The streams of one connection that send in bulk.
#[derive(Debug, Default)]
pub(super) struct BulkQueue {
    /// Streams with something to send, in order.
    queue: VecDeque<u32>,
    /// Event streams that are open.
    event_streams: u32,
    is_notsent_limited: bool,
    // Set from the first bulk beside an event stream on. Boxed: rarely needed.
    window: Option<Box<BulkWindow>>,
}

impl BulkQueue {
    /// Counts an event stream.
    pub(super) fn event_stream_began(&mut self) {
        self.event_streams += 1;
    }

    /// Uncounts an event stream; returns whether it was the last.
    pub(super) fn event_stream_ended(&mut self) -> bool {
        self.event_streams -= 1;
        self.event_streams == 0
    }

    /// Appends a stream, once.
    pub(super) fn push(&mut self, id: u32) {
        if !self.queue.contains(&id) {
            self.queue.push_back(id);
        }
    }

    /// Takes the next stream.
    pub(super) fn pop(&mut self) -> Option<u32> {
        self.queue.pop_front()
    }

    /// Whether no stream waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The limits of a stream that sends in bulk; `None` if nothing may be sent before the client
    /// has read more of what is in flight.
    pub(super) fn limits(&mut self) -> Option<SendLimits> {
        if self.event_streams == 0 {
            return Some(SendLimits::FULL);
        }
        let window = self.window.get_or_insert_with(|| Box::new(BulkWindow::new(Instant::now())));
        let available = window.available();
        let batch = self.batch().min(available.saturating_add(FRAME_HEADER_LEN));
        (available > 0).then_some(SendLimits { batch, window_reserve: WINDOW_RESERVE })
    }

    /// Counts octets that were sent in bulk.
    pub(super) fn sent(&mut self, octets: usize) {
        if self.event_streams > 0
            && let Some(window) = &mut self.window
        {
            window.sent(octets);
        }
    }

    /// What bulk writes at once, in octets.
    pub(super) fn batch(&self) -> usize {
        if self.is_small() { SMALL_BATCH } else { WRITE_BATCH }
    }

    /// Whether larger pieces would delay events.
    fn is_small(&self) -> bool {
        self.event_streams > 0 && self.window.as_ref().is_some_and(|window| window.is_small())
    }
}

impl<S: Http2Server, T> Connection<S, T> {
    /// Queues a stream behind all others. Also adjusts what may wait unsent in the kernel: little
    /// where it would delay events; otherwise there is no limit, which costs fewer writes.
    pub(super) fn queue_bulk(&mut self, id: u32) {
        self.bulk.push(id);
        let is_limited = self.bulk.is_small();
        if is_limited != std::mem::replace(&mut self.bulk.is_notsent_limited, is_limited) {
            self.server.limit_unsent(if is_limited { MAX_NOTSENT } else { u32::MAX });
        }
    }

    /// Sends a marker after bulk, if one is due.
    pub(super) fn mark_bulk(&mut self) {
        if let Some(window) = &mut self.bulk.window
            && window.needs_marker()
        {
            window.marker_sent(Instant::now());
            self.sender.ping(MARKER_PING, false);
            self.budget.earn(); // for its ACK
        }
    }

    /// Handles the ACK of a marker.
    pub(super) fn marker_acknowledged(&mut self) {
        if let Some(window) = &mut self.bulk.window {
            window.acknowledged(Instant::now());
            self.ready.extend(self.window_blocked.drain(..));
        }
    }

    /// Lifts the limit on bulk if the client has not acknowledged a marker in time.
    pub(super) fn check_marker_timeout(&mut self, now: Instant) {
        if let Some(window) = &mut self.bulk.window
            && window.oldest_marker().is_some_and(|at| now >= at + MARKER_TIMEOUT)
        {
            window.lift_limit();
            self.ready.extend(self.window_blocked.drain(..));
        }
    }
}
