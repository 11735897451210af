//! Bulk: responses that have more to send than fits into one write.
//!
//! Bulk is written only when no other stream has anything to send. Without event streams on the
//! connection that is all. Beside event streams, [`Pace`] limits the bulk in flight, and a part of
//! the connection's send window is reserved for events. Where that limit is small, bulk is also
//! written in smaller pieces, and less of it may wait unsent in the kernel (`TCP_NOTSENT_LOWAT`).

use std::collections::VecDeque;

use tokio::time::Instant;

use super::connection::{Connection, TOGETHER};
use super::frame::FRAME_HEADER_LEN;
use super::pace::{MARKER_PING, PATIENCE, Pace};
use super::send::Bounds;
use crate::server::connection::Handler;

/// What bulk writes at once while its limit is small, in octets.
const SMALL: usize = 8 << 10;
/// What may wait unsent in the kernel then, in octets.
const UNSENT: u32 = 16 << 10;
/// What bulk leaves of the connection's send window beside event streams, in octets. A client that
/// opens this window only as it reads would make events wait for bulk otherwise.
const WINDOW_FOR_EVENTS: i64 = 8 << 10;

/// The streams of one connection that send in bulk.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// Streams with something to send, in order.
    queue: VecDeque<u32>,
    /// Event streams that are open.
    event_streams: u32,
    is_unsent_limited: bool,
    // Set from the first bulk beside an event stream on. Boxed: rarely needed.
    pace: Option<Box<Pace>>,
}

impl Bulk {
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
    pub(super) fn bounds(&mut self) -> Option<Bounds> {
        if self.event_streams == 0 {
            return Some(Bounds::FREE);
        }
        let pace = self.pace.get_or_insert_with(|| Box::new(Pace::new(Instant::now())));
        let room = pace.room();
        let at_once = self.at_once().min(room.saturating_add(FRAME_HEADER_LEN));
        (room > 0).then_some(Bounds { at_once, window_left: WINDOW_FOR_EVENTS })
    }

    /// Counts octets that were sent in bulk.
    pub(super) fn sent(&mut self, octets: usize) {
        if self.event_streams > 0
            && let Some(pace) = &mut self.pace
        {
            pace.sent(octets);
        }
    }

    /// What bulk writes at once, in octets.
    pub(super) fn at_once(&self) -> usize {
        if self.is_tight() { SMALL } else { TOGETHER }
    }

    /// Whether larger pieces would delay events.
    fn is_tight(&self) -> bool {
        self.event_streams > 0 && self.pace.as_ref().is_some_and(|pace| pace.is_tight())
    }
}

impl<H: Handler> Connection<H> {
    /// Queues a stream behind all others. Also adjusts what may wait unsent in the kernel: little
    /// where it would delay events; otherwise there is no limit, which costs fewer writes.
    pub(super) fn queue_bulk(&mut self, id: u32) {
        self.bulk.push(id);
        let is_limited = self.bulk.is_tight();
        if is_limited != std::mem::replace(&mut self.bulk.is_unsent_limited, is_limited) {
            self.progress.limit_unsent(if is_limited { UNSENT } else { u32::MAX });
        }
    }

    /// Sends a marker after bulk, if one is due.
    pub(super) fn mark_bulk(&mut self) {
        if let Some(pace) = &mut self.bulk.pace
            && pace.wants_marker()
        {
            pace.mark(Instant::now());
            self.sender.ping(MARKER_PING, false);
            self.budget.earn(); // for its ACK
        }
    }

    /// Handles the ACK of a marker.
    pub(super) fn note_marker(&mut self) {
        if let Some(pace) = &mut self.bulk.pace {
            pace.acknowledged(Instant::now());
            self.ready.extend(self.starved.drain(..));
        }
    }

    /// Lifts the limit on bulk if the client has not acknowledged a marker in time.
    pub(super) fn end_silent_marker(&mut self, now: Instant) {
        if let Some(pace) = &mut self.bulk.pace
            && pace.marked_at().is_some_and(|at| now >= at + PATIENCE)
        {
            pace.give_up();
            self.ready.extend(self.starved.drain(..));
        }
    }
}
