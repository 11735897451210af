//! What the gateway itself writes to a stream, from `ready` to its end.

use std::collections::HashSet;
use std::time::Duration;

use ssegate_sse::encode;
use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use super::Mailbox;
use super::close_reason::{CloseReason, jittered};
use super::watchdog::{CLOSE_GRACE, VisitAction};
use crate::channel_name::ChannelName;
use crate::fleet::name::FleetPosition;
use crate::gap::{self, GapReason};
use crate::position::cursor::LogEntry;

/// The most control frames that are queued: with more, the client is not reading.
const MAX_CONTROLS: usize = 64;

impl Mailbox {
    /// Queues a control frame.
    fn push_control(&self, frame: Frame, now: Instant) {
        if !self.is_closed() {
            self.queue.borrow_mut().push_control(frame, now);
            if self.queue.borrow().controls() > MAX_CONTROLS {
                self.close(CloseReason::Lagged, now);
            }
            self.wake(now);
        }
    }

    /// Moves behind a gap, and queues it if the route sends gaps. `channels` are names at the source;
    /// `entry` is the last that is missing, where the gap is in a log.
    pub(crate) fn gap<'a>(
        &self,
        reason: GapReason,
        (number, entry): (u64, Option<LogEntry>),
        place: Option<FleetPosition>,
        channels: impl Iterator<Item = &'a str>,
        now: Instant,
    ) {
        let cursor = &self.progress.cursor;
        match entry {
            Some(entry) => {
                cursor.move_in_log(entry);
                // So that the history does not send it the same loss again.
                if reason.goes_back() {
                    cursor.reach(number);
                }
            }
            // The client's own position is unknown.
            None if reason == GapReason::UnknownId => cursor.move_to(number),
            None => cursor.reach(number),
        }
        if self.settings.gap_events {
            // Where the client is ahead of the gap, the place of the gap is not its position.
            let place = place.filter(|_| cursor.number() == number);
            let id = cursor.id_at(cursor.number(), place);
            let gap = self.gap_frame(reason, channels, id.as_deref());
            self.push_control(gap, now);
        }
    }

    /// Queues a gap without an id, so that the client keeps its own, if the route sends gaps.
    pub(crate) fn gap_without_id<'a>(
        &self,
        reason: GapReason,
        channels: impl Iterator<Item = &'a str>,
        now: Instant,
    ) {
        if self.settings.gap_events {
            let gap = self.gap_frame(reason, channels, None);
            self.push_control(gap, now);
        }
    }

    /// Sends `ready`, with the client's position if it needs that. Its shard has delivered everything up to
    /// `number`; `place` returns the place of a number for other gateways. Only once: a live stream may be
    /// sent a part of its past again. Returns false if the client needs a place, and there is none yet.
    pub(crate) fn ready(
        &self,
        number: u64,
        place: impl Fn(u64) -> Option<FleetPosition>,
        now: Instant,
    ) -> bool {
        if self.was_ready.replace(true) {
            return true;
        }
        let cursor = &self.progress.cursor;
        if !self.ready_has_position {
            self.push_control(encode::ready(None), now);
            return true;
        }
        let position = number.max(cursor.number());
        let place = place(position);
        self.push_control(encode::ready(cursor.id_at(position, place).as_deref()), now);
        place.is_some()
    }

    /// Whether the client accepts its position without an event, and has all of its past.
    pub(crate) fn takes_position(&self) -> bool {
        self.ready_has_position && self.was_ready.get() && self.is_ready() && !self.is_closed()
    }

    /// Sends the client its position once more: for other gateways it is now `place`. Its shard has delivered
    /// everything up to `number`.
    pub(crate) fn send_position(&self, number: u64, place: Option<FleetPosition>, now: Instant) {
        let cursor = &self.progress.cursor;
        if cursor.number() <= number
            && let Some(id) = place.and_then(|place| cursor.id_at(number, Some(place)))
        {
            self.push_control(encode::position(&id), now);
        }
    }

    /// Queues a keep-alive.
    pub(crate) fn keep_alive(&self, now: Instant) {
        self.push_control(self.settings.keep_alive_text.clone(), now);
    }

    /// Whether a gap for dropped events is to be sent.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflow.borrow().is_some()
    }

    /// Takes the gap for dropped events. `Some(None)` if the route sends no gaps.
    #[cold]
    pub(crate) fn take_overflow<'a>(
        &self,
        channels: impl Iterator<Item = &'a str>,
    ) -> Option<Option<Frame>> {
        let last = self.overflow.take()?;
        let id = match last.frame {
            Some(frame) => frame.id().map(str::to_owned),
            None => self.progress.cursor.id_at(last.number, None),
        };
        let frame = || self.gap_frame(GapReason::Overflow, channels, id.as_deref());
        Some(self.settings.gap_events.then(frame))
    }

    fn gap_frame<'a>(
        &self,
        reason: GapReason,
        channels: impl Iterator<Item = &'a str>,
        id: Option<&str>,
    ) -> Frame {
        // Joins and leaves are published on a channel of the gateways. Clients see it under the name of the
        // channel that it is about.
        let of_client = |name: &'a str| name.strip_prefix(ChannelName::OF_PRESENCE).unwrap_or(name);
        let mut names: Vec<&str> =
            channels.map(|name| &of_client(name)[self.prefix_bytes as usize..]).collect();
        let mut seen = HashSet::with_capacity(names.len());
        names.retain(|name| seen.insert(*name));
        gap::frame(reason, names.into_iter(), id)
    }

    /// Closes the stream. What is queued is still written, within [`CLOSE_GRACE`].
    fn close(&self, reason: CloseReason, now: Instant) {
        if !self.is_closed() {
            self.watchdog.close(reason, now);
            self.wake(now);
        }
    }

    /// Closes the stream, and drops what is queued; returns how many events that were.
    pub(crate) fn abandon(&self, reason: CloseReason, now: Instant) -> u64 {
        let events = self.queue.borrow_mut().clear();
        self.close(reason, now);
        events
    }

    /// Closes the stream in good order, with a `retry` for the client: later than usual, and different for
    /// each client.
    pub(crate) fn end(&self, reason: CloseReason, now: Instant) {
        if reason == CloseReason::Refused {
            // The stream was never open: the client is sent the reason, as others that are sent away.
            self.push_control(encode::reason("too many channels are followed at once"), now);
        }
        self.push_control(encode::retry(jittered(self.settings.retry)), now);
        self.close(reason, now);
    }

    /// When the stream is visited for the first time.
    pub(crate) fn first_visit(&self, now: Instant, write_timeout: Duration) -> Instant {
        self.watchdog.next_visit(now, self.settings.keep_alive, write_timeout)
    }

    /// Keeps a quiet stream alive, ends one whose time is over, or cuts off one that cannot be written to.
    /// Returns when to visit it again; `None`: never.
    pub(crate) fn visit(&self, now: Instant, write_timeout: Duration) -> Option<Instant> {
        let keep_alive = self.settings.keep_alive;
        match self.watchdog.visit(now, keep_alive, write_timeout) {
            VisitAction::Nothing(due) => Some(due),
            VisitAction::KeepAlive => {
                self.keep_alive(now);
                Some(self.watchdog.next_visit(now, keep_alive, write_timeout))
            }
            VisitAction::End(reason) => {
                self.end(reason, now);
                Some(now + CLOSE_GRACE)
            }
            VisitAction::Cut => None,
        }
    }
}
