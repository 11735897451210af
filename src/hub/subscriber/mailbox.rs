//! The shard's side of a stream: what is offered to it, and what becomes of that.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::close_reason::{CloseReason, jittered};
use crate::event::{EntryId, Ids};
use crate::hub::StreamSettings;
use crate::hub::gap::{self, GapReason};
use crate::hub::position::log_positions::LogPositions;
use crate::hub::position::resume::Resume;
use crate::hub::shard::{Shard, StreamOpening};
use crate::hub::subject::Subject;
use crate::hub::subscriber::event_queue::{EventQueue, PushOutcome, QueuedFrame};
use crate::hub::timers::StreamKey;
use crate::sse::encode;
use crate::sse::frame::Frame;

/// A closed stream has so long to write what it still has; then it is cut off.
pub(in crate::hub) const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// What a stream has to say for itself (gaps, above all) waits uncounted; when so many wait, its
/// client does not read.
const MAX_SAID: usize = 64;

/// The shard's side of a stream.
// In the order written: an event needs what stands first, and no more lines of the cache than that.
#[repr(C)]
pub(in crate::hub) struct Mailbox {
    pub(super) queue: RefCell<EventQueue>,
    pub(super) waker: Cell<Option<Waker>>,
    // The newest event offered: what is heard twice is offered twice, with one number.
    newest: Cell<u64>,
    pub(super) waits_since: Cell<Option<Instant>>,
    pub(super) last_write: Cell<Instant>,
    // Events gave way to newer ones, and the client has not been told.
    overflowed: RefCell<Option<Box<Overflowed>>>,
    pub(super) closed: Cell<Option<CloseReason>>,
    phase: Cell<ReplayPhase>,
    // Whether the stream's first words have been handed over.
    pub(super) has_begun: Cell<bool>,
    // Whether the client is told its position before the first event.
    is_told_position: bool,
    pub(in crate::hub) ids: Ids,
    // Channels that the source has not confirmed yet.
    pub(in crate::hub) unconfirmed: Cell<u32>,

    // Bytes of the route's prefix, which clients do not see.
    prefix_bytes: u32,
    // Of the piece of the past that was asked for last.
    ticket: Cell<u32>,
    pub(in crate::hub) settings: Arc<StreamSettings>,
    // Of logs: everything up to here was offered. Empty for a stream of other channels.
    pub(in crate::hub) in_logs: RefCell<LogPositions>,
    // What is to be asked for next.
    resume: RefCell<Option<Box<Resume>>>,
    // When it was closed, if it is.
    closed_at: Cell<Instant>,
    // When its route's `max_age` is over, somewhat earlier for some: who came together does not go
    // together.
    ends: Option<Instant>,
    // Its places among the listeners of its channels, in the order of its membership.
    pub(in crate::hub) places: RefCell<SmallVec<[usize; 1]>>,
    pub(in crate::hub) key: Cell<Option<StreamKey>>,
    cut: Box<dyn Fn()>,
}

/// Events that gave way to newer ones.
struct Overflowed {
    // The number of the last of them.
    number: u64,
    // Of logs: the last of them.
    frame: Option<Frame>,
}

/// Where a stream stands between its client's past and the live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplayPhase {
    /// Events come as they are dealt.
    Live,
    /// The next piece of the past is to be asked for when what waits has been written. Live events
    /// pass by: they are in the past that is asked for.
    Due,
    /// It has been asked for.
    Asked,
}

/// What an offer or a visit has to tell the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) struct OfferOutcome {
    /// Events that this subscriber does not get.
    pub(in crate::hub) dropped: u64,
    /// By how much what waits for it has grown, in bytes.
    pub(in crate::hub) grown: isize,
    /// Whether it was closed by this.
    pub(in crate::hub) is_closed: bool,
}

impl Mailbox {
    pub(in crate::hub) fn new(
        settings: Arc<StreamSettings>,
        ids: Ids,
        prefix_bytes: usize,
        resume: Option<Resume>,
        begins: StreamOpening,
        cut: Box<dyn Fn()>,
        now: Instant,
    ) -> Self {
        let mut queue = EventQueue::new(settings.max_queue_bytes, settings.when_full);
        let ends = settings.max_age.map(|age| now + age.mul_f64(1.0 - fastrand::f64() / 4.0));
        if !begins.is_continued {
            queue.say(encode::opening(settings.retry), now);
        }
        Self {
            queue: RefCell::new(queue),
            waker: Cell::new(None),
            settings,
            ids,
            prefix_bytes: u32::try_from(prefix_bytes)
                .expect("a prefix is a part of a channel's name"),
            unconfirmed: Cell::new(0),
            newest: Cell::new(match resume {
                Some(Resume::After { number, .. }) => number,
                _ => 0,
            }),
            overflowed: RefCell::default(),
            in_logs: RefCell::new(LogPositions::nowhere(std::iter::empty())),
            phase: Cell::new(if resume.is_some() { ReplayPhase::Due } else { ReplayPhase::Live }),
            resume: RefCell::new(resume.map(Box::new)),
            ticket: Cell::new(0),
            last_write: Cell::new(now),
            waits_since: Cell::new(Some(now)),
            closed: Cell::new(None),
            closed_at: Cell::new(now),
            ends,
            has_begun: Cell::new(false),
            is_told_position: begins.is_told_position,
            places: RefCell::default(),
            key: Cell::new(None),
            cut,
        }
    }

    /// Bytes of events that wait.
    pub(in crate::hub) fn queued_bytes(&self) -> usize {
        self.queue.borrow().bytes()
    }

    pub(in crate::hub) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Offers an event. Never waits: what does not fit is dealt with as the route says.
    pub(in crate::hub) fn offer(&self, event: QueuedFrame, now: Instant) -> OfferOutcome {
        let number = event.number;
        if self.is_closed() || self.is_replaying() || number <= self.newest.get() {
            return OfferOutcome::default();
        }
        self.newest.set(number);
        self.push(event, now)
    }

    // The innermost call of the way of an event.
    #[inline]
    fn push(&self, event: QueuedFrame, now: Instant) -> OfferOutcome {
        let mut queue = self.queue.borrow_mut();
        let before = queue.bytes();
        let dropped = match queue.push(event) {
            PushOutcome::Queued => 0,
            PushOutcome::Dropped { events, missed } => {
                if let Some(missed) = missed {
                    self.note_overflow(*missed);
                }
                events
            }
            // The slow subscriber is closed, and its client comes back. Waiting here would let one
            // reader stall the channel.
            PushOutcome::Full => {
                self.note_closed(CloseReason::Lagged, now);
                queue.clear() + 1
            }
        };
        let grown = queue.bytes().cast_signed() - before.cast_signed();
        drop(queue);
        self.wake(now);
        OfferOutcome { dropped, grown, is_closed: self.is_closed() }
    }

    /// Offers an entry of one of the stream's logs: once, whichever way it comes.
    pub(in crate::hub) fn offer_entry(
        &self,
        log: usize,
        id: EntryId,
        event: &QueuedFrame,
        now: Instant,
    ) -> OfferOutcome {
        let is_known = self.in_logs.borrow().get(log).is_some_and(|newest| id <= newest);
        if self.is_closed() || self.is_replaying() || is_known {
            return OfferOutcome::default();
        }
        let frame = self.placed(log, id, &event.frame);
        let subject = Some(Subject::of_log(log));
        self.push(QueuedFrame { frame, subject, ..*event }, now)
    }

    /// The frame of an entry, with the id that says where the client stands after it in all logs.
    fn placed(&self, log: usize, id: EntryId, frame: &Frame) -> Frame {
        let mut places = self.in_logs.borrow_mut();
        places.set(log, id);
        if places.is_of_one() {
            return frame.clone();
        }
        let position = places.position().expect("one of them was set above");
        encode::with_id(frame, &position)
    }

    /// The log is read from this entry on.
    pub(in crate::hub) fn begin_log(&self, log: usize, newest: EntryId) {
        let mut places = self.in_logs.borrow_mut();
        if places.get(log).is_none() {
            places.set(log, newest);
        }
    }

    /// Whether the past is still to come.
    pub(in crate::hub) fn is_replaying(&self) -> bool {
        self.phase.get() != ReplayPhase::Live
    }

    /// Whether the answer with this ticket is the one that is waited for.
    pub(in crate::hub) fn awaits(&self, ticket: u64) -> bool {
        self.phase.get() == ReplayPhase::Asked && u64::from(self.ticket.get()) == ticket
    }

    /// Takes an event of the past. It fits: no more is asked for than the queue takes.
    pub(in crate::hub) fn replay(&self, event: QueuedFrame, now: Instant) {
        let number = event.number;
        if !self.is_closed() && number > self.newest.get() {
            self.newest.set(number);
            self.queue.borrow_mut().append(event);
            self.wake(now);
        }
    }

    /// A piece of the past of logs is about to come, from these places on.
    pub(in crate::hub) fn replay_from(&self, places: &[Option<EntryId>]) {
        let mut in_logs = self.in_logs.borrow_mut();
        for (log, place) in places.iter().enumerate() {
            if let Some(entry) = place {
                in_logs.set(log, *entry);
            }
        }
    }

    /// Takes an entry of a log's past.
    pub(in crate::hub) fn replay_entry(
        &self,
        log: usize,
        id: EntryId,
        event: &QueuedFrame,
        now: Instant,
    ) {
        let is_known = self.in_logs.borrow().get(log).is_some_and(|newest| id <= newest);
        if !self.is_closed() && !is_known {
            let frame = self.placed(log, id, &event.frame);
            self.queue.borrow_mut().append(QueuedFrame { frame, ..*event });
            self.wake(now);
        }
    }

    /// A piece of the past has come, after which live events begin at `number` if it was the last.
    /// Answers whether they do.
    ///
    /// They do not while much of it is still to be written: those that come meanwhile would find the
    /// queue full, and a client that is closed for that would return to the same place, for ever.
    pub(in crate::hub) fn replayed(
        &self,
        is_last: bool,
        number: u64,
        floors: Option<Arc<[u64]>>,
        now: Instant,
    ) -> bool {
        let is_live = is_last && self.queued_bytes() <= self.settings.max_queue_bytes / 2;
        if is_live {
            self.newest.set(self.newest.get().max(number));
            self.phase.set(ReplayPhase::Live);
        } else if self.ids == Ids::Entries {
            self.rewind(now);
        } else {
            self.ask_next(Resume::After { number: self.newest.get(), floors }, now);
        }
        is_live
    }

    /// What follows the entries that were offered last is asked for: what is live passes by until it
    /// is there.
    pub(in crate::hub) fn rewind(&self, now: Instant) {
        let resume = Resume::in_logs(&self.in_logs.borrow());
        self.ask_next(resume, now);
    }

    fn ask_next(&self, resume: Resume, now: Instant) {
        self.resume.replace(Some(Box::new(resume)));
        self.phase.set(ReplayPhase::Due);
        self.wake(now);
    }

    /// Whether a piece of the past is to be asked for now.
    pub(super) fn is_replay_due(&self) -> bool {
        self.phase.get() == ReplayPhase::Due
    }

    /// The piece of the past that is to be asked for, and the ticket for the answer.
    pub(super) fn due_replay(&self) -> Option<(Resume, u64)> {
        let resume = *self.resume.take()?;
        self.phase.set(ReplayPhase::Asked);
        self.ticket.set(self.ticket.get().wrapping_add(1));
        Some((resume, self.ticket.get().into()))
    }

    /// Says what the stream itself has to say.
    pub(in crate::hub) fn say(&self, frame: Frame, now: Instant) {
        if !self.is_closed() {
            self.queue.borrow_mut().say(frame, now);
            if self.queue.borrow().said() > MAX_SAID {
                self.close(CloseReason::Lagged, now);
            }
            self.wake(now);
        }
    }

    /// Tells of a gap on these channels (their names at the source).
    pub(in crate::hub) fn tell_gap<'a>(
        &self,
        reason: GapReason,
        channels: impl Iterator<Item = &'a str>,
        shard: &Shard,
        number: u64,
        now: Instant,
    ) {
        self.newest.set(match reason {
            // Where it said that it stands is nowhere.
            GapReason::UnknownId => number,
            _ => self.reached(number),
        });
        let position = self.position(shard, self.newest.get());
        self.say_gap(reason, channels, shard, position.as_deref(), now);
    }

    /// Tells of a gap in one of the stream's logs, after which it goes on behind `entry`.
    pub(in crate::hub) fn tell_log_gap<'a>(
        &self,
        reason: GapReason,
        (log, entry): (usize, EntryId),
        channels: impl Iterator<Item = &'a str>,
        shard: &Shard,
        now: Instant,
    ) {
        self.in_logs.borrow_mut().set(log, entry);
        let position = self.in_logs.borrow().position();
        self.say_gap(reason, channels, shard, position.as_deref(), now);
    }

    /// The entry of this log that was offered last.
    pub(in crate::hub) fn place_in(&self, log: usize) -> Option<EntryId> {
        self.in_logs.borrow().get(log)
    }

    /// Where the stream stands when its shard stands at `number`: it may have had another copy of the
    /// newest message already.
    pub(in crate::hub) fn reached(&self, number: u64) -> u64 {
        self.newest.get().max(number)
    }

    /// The id of what comes before `number`, and before the next entry of any log.
    pub(in crate::hub) fn position(&self, shard: &Shard, number: u64) -> Option<String> {
        match self.ids {
            Ids::Ours => Some(shard.run_tag().at(number).to_string()),
            Ids::Publisher => None,
            Ids::Entries => self.in_logs.borrow().position(),
        }
    }

    /// Ends the stream, and what waits with it; answers how many events that were.
    pub(in crate::hub) fn give_up(&self, reason: CloseReason, now: Instant) -> u64 {
        let events = self.queue.borrow_mut().clear();
        self.close(reason, now);
        events
    }

    fn say_gap<'a>(
        &self,
        reason: GapReason,
        channels: impl Iterator<Item = &'a str>,
        shard: &Shard,
        position: Option<&str>,
        now: Instant,
    ) {
        // It is a hole, whether it is told or not.
        shard.metrics().shared().gap(reason.as_str());
        if self.settings.gap_events {
            self.say(self.gap_frame(reason, channels, position), now);
        }
    }

    #[cold]
    fn note_overflow(&self, missed: QueuedFrame) {
        let QueuedFrame { frame, number, .. } = missed;
        let frame = (self.ids == Ids::Entries).then_some(frame);
        self.overflowed.replace(Some(Box::new(Overflowed { number, frame })));
    }

    /// Whether a gap is to be told for dropped events.
    pub(super) fn owes_gap(&self) -> bool {
        self.overflowed.borrow().is_some()
    }

    /// The gap for dropped events; `None` where the route tells no gaps.
    #[cold]
    pub(super) fn owed_gap<'a>(
        &self,
        channels: impl Iterator<Item = &'a str>,
        shard: &Shard,
    ) -> Option<Frame> {
        let last = self.overflowed.take()?;
        let position = match last.frame {
            Some(frame) => frame.id().map(str::to_owned),
            None => self.position(shard, last.number),
        };
        shard.metrics().shared().gap(GapReason::Overflow.as_str());
        let frame = || self.gap_frame(GapReason::Overflow, channels, position.as_deref());
        self.settings.gap_events.then(frame)
    }

    /// Ends the stream. What waits is still written, if that does not take long.
    pub(in crate::hub) fn close(&self, reason: CloseReason, now: Instant) {
        if !self.is_closed() {
            self.note_closed(reason, now);
            self.wake(now);
        }
    }

    fn note_closed(&self, reason: CloseReason, now: Instant) {
        self.closed.set(Some(reason));
        self.closed_at.set(now);
    }

    /// Tells the client that it is subscribed, and where it stands if it asked for that.
    pub(in crate::hub) fn say_ready(&self, shard: &Shard, number: u64, now: Instant) {
        let position =
            self.is_told_position.then(|| self.position(shard, self.reached(number))).flatten();
        self.say(encode::ready(position.as_deref()), now);
    }

    /// Ends the stream, and tells the client when to come back: later than usual, and each at its own
    /// time.
    pub(in crate::hub) fn send_away(&self, reason: CloseReason, now: Instant) {
        if reason == CloseReason::Refused {
            // It was never open: its client is told why, as others that are not let in.
            self.say(encode::reason("too many channels are followed at once"), now);
        }
        self.say(encode::retry(jittered(self.settings.retry)), now);
        self.close(reason, now);
    }

    /// Whether it has been open for as long as it may.
    pub(in crate::hub) fn has_aged(&self, now: Instant) -> bool {
        !self.is_closed() && self.ends.is_some_and(|ends| now >= ends)
    }

    /// When it is looked at for the first time.
    pub(in crate::hub) fn first_visit(&self, now: Instant, write_timeout: Duration) -> Instant {
        self.no_later_than_its_end(now + self.settings.keep_alive.min(write_timeout))
    }

    fn no_later_than_its_end(&self, due: Instant) -> Instant {
        self.ends.map_or(due, |ends| due.min(ends))
    }

    /// Looks after the stream: keeps a quiet one alive, cuts off one that cannot be written to.
    /// Answers when to look again; `None`: never.
    pub(in crate::hub) fn visit(&self, now: Instant, write_timeout: Duration) -> Option<Instant> {
        if self.is_closed() {
            let due = self.closed_at.get() + CLOSE_GRACE;
            if now < due {
                return Some(due);
            }
            (self.cut)();
            return None;
        }
        if let Some(since) = self.waits_since.get() {
            let due = since + write_timeout;
            if now < due {
                return Some(self.no_later_than_its_end(due));
            }
            self.close(CloseReason::Stalled, now);
            (self.cut)();
            return None;
        }
        let due = self.last_write.get() + self.settings.keep_alive;
        if now < due {
            // Looked at no later than this, so that a stall is found in time.
            return Some(self.no_later_than_its_end(due.min(now + write_timeout)));
        }
        self.say(self.settings.keep_alive_text.clone(), now);
        Some(self.first_visit(now, write_timeout))
    }

    fn wake(&self, now: Instant) {
        if self.waits_since.get().is_none() {
            self.waits_since.set(Some(now));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn watch(&self, context: &Context<'_>) {
        self.waker.set(Some(context.waker().clone()));
    }

    fn gap_frame<'a>(
        &self,
        reason: GapReason,
        channels: impl Iterator<Item = &'a str>,
        position: Option<&str>,
    ) -> Frame {
        gap::frame(reason, channels.map(|name| &name[self.prefix_bytes as usize..]), position)
    }
}
