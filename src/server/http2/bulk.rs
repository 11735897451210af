//! Bulk: responses that have more to send than leaves at once.
//!
//! Bulk is written only when nothing else is ready. On a connection without streams of events that is all.
//! Beside streams of events, [`Pace`] bounds what is on its way, and a little of the connection's window
//! is left to the events. Where that bound is tight, bulk is also written in smaller pieces, and less of it
//! may wait unsent in the kernel (`TCP_NOTSENT_LOWAT`).

use std::collections::VecDeque;

use tokio::time::Instant;

use super::connection::{Connection, TOGETHER};
use super::frame::HEAD;
use super::pace::{MARKER_PING, PATIENCE, Pace};
use super::send::Bounds;
use crate::server::connection::Handler;

/// What bulk puts together where little may be on its way, in octets.
const SMALL: usize = 8 << 10;
/// What waits unsent in the kernel then, in octets.
const UNSENT: u32 = 16 << 10;
/// What bulk leaves of the window of the connection beside streams of events, in octets: where a client
/// opens that window as it reads, they would wait for it.
const WINDOW_FOR_EVENTS: i64 = 8 << 10;

/// What is sent in bulk on one connection.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// Streams that have something to send, in their order.
    queue: VecDeque<u32>,
    /// Streams of events that have not ended.
    event_streams: u32,
    is_unsent_limited: bool,
    // From the first bulk beside a stream of events on. Boxed: hardly ever there.
    pace: Option<Box<Pace>>,
}

impl Bulk {
    /// A stream of events begins.
    pub(super) fn event_stream_began(&mut self) {
        self.event_streams += 1;
    }

    /// A stream of events has ended; returns whether it was the last one.
    pub(super) fn event_stream_ended(&mut self) -> bool {
        self.event_streams -= 1;
        self.event_streams == 0
    }

    /// Puts a stream behind the others, once.
    pub(super) fn push(&mut self, id: u32) {
        if !self.queue.contains(&id) {
            self.queue.push_back(id);
        }
    }

    /// The stream that is next.
    pub(super) fn pop(&mut self) -> Option<u32> {
        self.queue.pop_front()
    }

    /// Whether no stream has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How much a stream may send that does so in bulk; `None`: nothing, before what is on its way has
    /// been read.
    pub(super) fn bounds(&mut self) -> Option<Bounds> {
        if self.event_streams == 0 {
            return Some(Bounds::FREE);
        }
        let pace = self.pace.get_or_insert_with(|| Box::new(Pace::new(Instant::now())));
        let room = pace.room();
        let at_once = self.at_once().min(room.saturating_add(HEAD));
        (room > 0).then_some(Bounds { at_once, window_left: WINDOW_FOR_EVENTS })
    }

    /// So much was sent.
    pub(super) fn sent(&mut self, octets: usize) {
        if self.event_streams > 0
            && let Some(pace) = &mut self.pace
        {
            pace.sent(octets);
        }
    }

    /// What is put together, in octets.
    pub(super) fn at_once(&self) -> usize {
        if self.is_tight() { SMALL } else { TOGETHER }
    }

    /// Whether streams of events would wait for larger pieces.
    fn is_tight(&self) -> bool {
        self.event_streams > 0 && self.pace.as_ref().is_some_and(|pace| pace.is_tight())
    }
}

impl<H: Handler> Connection<H> {
    /// Puts a stream that has more to send behind the others. Less may wait unsent in the kernel where
    /// streams of events would wait for it; else more, which costs less.
    pub(super) fn queue_bulk(&mut self, id: u32) {
        self.bulk.push(id);
        let is_limited = self.bulk.is_tight();
        if is_limited != std::mem::replace(&mut self.bulk.is_unsent_limited, is_limited) {
            self.socket.options.limit_unsent(if is_limited { UNSENT } else { u32::MAX });
        }
    }

    /// Sends a marker behind bulk, where one is due.
    pub(super) fn mark_bulk(&mut self) {
        if let Some(pace) = &mut self.bulk.pace
            && pace.wants_marker()
        {
            pace.mark(Instant::now());
            self.sender.ping(MARKER_PING, false);
            self.budget.earn(); // its ACK asks for nothing
        }
    }

    /// A marker is acknowledged.
    pub(super) fn note_marker(&mut self) {
        if let Some(pace) = &mut self.bulk.pace {
            pace.acknowledged(Instant::now());
            self.ready.extend(self.starved.drain(..));
        }
    }

    /// Lets bulk go on to a client that does not acknowledge a marker.
    pub(super) fn end_silent_marker(&mut self, now: Instant) {
        if let Some(pace) = &mut self.bulk.pace
            && pace.marked_at().is_some_and(|at| now >= at + PATIENCE)
        {
            pace.give_up();
            self.ready.extend(self.starved.drain(..));
        }
    }
}
