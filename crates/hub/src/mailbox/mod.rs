//! One stream, as its shard sees it: events are offered to it, and queued within a bound.
//!
//! Lives on the thread of its shard. Three parts: the [`event_queue`] has what waits to be written, the
//! [`replay_progress`] says where the stream stands, and the [`watchdog`] has its deadlines. Does not know
//! the transport, except how to cut it off.

pub(super) mod close_reason;
mod control;
pub(super) mod event_queue;
mod replay_progress;
mod small_queue;
pub(super) mod watchdog;

use std::cell::{Cell, RefCell, RefMut};
use std::sync::Arc;
use std::task::{Context, Waker};

use smallvec::{SmallVec, smallvec};
use ssegate_sse::encode;
use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use self::close_reason::CloseReason;
use self::event_queue::{EventQueue, PushOutcome, QueuedFrame};
use self::replay_progress::ReplayProgress;
use self::watchdog::Watchdog;
use super::position::cursor::{Cursor, LogEntry};
use super::position::resume::{Resume, ResumedFrom};
use super::settings::StreamSettings;
use super::timed_streams::StreamKey;
use crate::EntryId;

/// One stream, as its shard sees it.
// In the order written: the fields that an event needs are together, in as few cache lines as possible.
#[repr(C)]
pub(super) struct Mailbox {
    watchdog: Watchdog,
    queue: RefCell<EventQueue>,
    waker: Cell<Option<Waker>>,
    // Events were dropped for newer ones, and the gap is still to be sent.
    overflow: RefCell<Option<Box<Overflow>>>,
    progress: ReplayProgress,
    settings: Arc<StreamSettings>,
    // Channels that the source has not confirmed yet.
    unconfirmed: Cell<u32>,
    // Bytes at the head of the channels' names that the client does not see.
    prefix_bytes: u32,
    ready_has_position: bool,
    // The client was sent `ready`.
    was_ready: Cell<bool>,
    // Where the past of a client with an id comes from; and whether a part of it was sent.
    origin: Cell<Option<ResumedFrom>>,
    has_resumed: Cell<bool>,
    key: Cell<Option<StreamKey>>,
    // For each channel, the stream's place among its subscribers.
    places: RefCell<SmallVec<[usize; 1]>>,
}

/// The parts from which a [`Mailbox`] is made.
pub(super) struct MailboxParts {
    pub(super) settings: Arc<StreamSettings>,
    /// The position before the first event of all channels.
    pub(super) beginning: Cursor,
    /// The past that it is sent first.
    pub(super) resume: Option<Resume>,
    pub(super) channels: usize,
    pub(super) prefix_bytes: usize,
    pub(super) opening: StreamOpening,
    /// When the client's credential expires.
    pub(super) expires_at: Option<Instant>,
    /// Cuts the stream off from outside, when it cannot be written to.
    pub(super) cut: Box<dyn Fn()>,
}

/// How a stream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOpening {
    /// The stream was opened elsewhere: the opening comment and `retry` are left out.
    pub is_continued: bool,
    /// `ready` is a block with the client's position, so that a client without any event yet can
    /// resume there. Only for clients that make no event of a block without data.
    pub ready_has_position: bool,
}

/// Events that were dropped for newer ones.
struct Overflow {
    // The number of the last of them.
    number: u64,
    // In logs, the frame of the last of them.
    frame: Option<Frame>,
}

/// What happened to an offered event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfferOutcome {
    /// Events that were dropped.
    pub(super) dropped: u64,
    /// How much the queue has grown, in bytes.
    pub(super) grown: isize,
    /// Whether the stream was closed for it.
    pub(super) is_closed: bool,
}

impl Mailbox {
    pub(super) fn new(parts: MailboxParts, now: Instant) -> Self {
        let MailboxParts { settings, beginning, resume, channels, prefix_bytes, .. } = parts;
        let MailboxParts { opening, expires_at, cut, .. } = parts;
        let mut queue = EventQueue::new(settings.max_queue_bytes, settings.when_full);
        if !opening.is_continued {
            queue.push_control(encode::opening(settings.retry), now);
        }
        let origin = resume.as_ref().and_then(Resume::origin);
        Self {
            watchdog: Watchdog::new(settings.max_age, expires_at, cut, now),
            queue: RefCell::new(queue),
            waker: Cell::new(None),
            overflow: RefCell::default(),
            progress: ReplayProgress::new(beginning, resume),
            settings,
            unconfirmed: Cell::new(0),
            prefix_bytes: u32::try_from(prefix_bytes)
                .expect("a prefix is a part of a channel's name"),
            ready_has_position: opening.ready_has_position,
            was_ready: Cell::new(false),
            origin: Cell::new(origin),
            has_resumed: Cell::new(false),
            key: Cell::new(None),
            places: RefCell::new(smallvec![0; channels]),
        }
    }

    // Events.

    /// Offers a live event. Never waits: an event that does not fit is treated as the route says.
    pub(super) fn offer(
        &self,
        event: &QueuedFrame,
        entry: Option<LogEntry>,
        now: Instant,
    ) -> OfferOutcome {
        if self.is_closed()
            || self.progress.is_replaying()
            || !self.progress.cursor.advance(event.number, entry)
        {
            return OfferOutcome::default();
        }
        self.push(self.with_position(event, entry), now)
    }

    /// Queues an event of the past, unless the stream has it. It fits: no more is requested than fits into
    /// the queue.
    pub(super) fn replay(&self, event: &QueuedFrame, entry: Option<LogEntry>, now: Instant) {
        if !self.is_closed() && self.progress.cursor.advance(event.number, entry) {
            let event = self.with_position(event, entry);
            self.queue.borrow_mut().append(event);
            self.wake(now);
        }
    }

    // The innermost call on the way of an event.
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
            // The slow subscriber is closed, and its client comes back. Waiting here would let one client
            // stall the channel.
            PushOutcome::Full => {
                self.watchdog.close(CloseReason::Lagged, now);
                queue.clear() + 1
            }
        };
        let grown = queue.bytes().cast_signed() - before.cast_signed();
        drop(queue);
        self.wake(now);
        OfferOutcome { dropped, grown, is_closed: self.is_closed() }
    }

    /// Returns the event with the id of the stream's position behind it. Only on a stream of several logs is
    /// that not the event's own id.
    fn with_position(&self, event: &QueuedFrame, entry: Option<LogEntry>) -> QueuedFrame {
        let id = entry.and_then(|_| self.progress.cursor.id_in_several_logs());
        match id {
            None => event.clone(),
            Some(id) => QueuedFrame { frame: encode::with_id(&event.frame, &id), ..*event },
        }
    }

    #[cold]
    fn note_overflow(&self, missed: QueuedFrame) {
        let QueuedFrame { frame, number, .. } = missed;
        let frame = self.progress.cursor.is_of_logs().then_some(frame);
        self.overflow.replace(Some(Box::new(Overflow { number, frame })));
    }

    // Channels.

    /// A channel of the stream is not confirmed yet.
    pub(super) fn add_unconfirmed(&self) {
        self.unconfirmed.set(self.unconfirmed.get() + 1);
    }

    /// A channel of the stream is confirmed. If it is a log, it is read from `entry` on.
    pub(super) fn confirm(&self, entry: Option<LogEntry>) {
        self.begin_log(entry);
        self.unconfirmed.set(self.unconfirmed.get() - 1);
    }

    /// A log of the stream is read from `entry` on. A stream that resumes has its position from its past instead.
    pub(super) fn begin_log(&self, entry: Option<LogEntry>) {
        if let Some(entry) = entry.filter(|_| !self.is_replaying()) {
            self.progress.cursor.begin_log(entry);
        }
    }

    /// Whether nothing is missing any more: every channel is confirmed, and the past was queued.
    pub(super) fn is_ready(&self) -> bool {
        self.unconfirmed.get() == 0 && !self.is_replaying()
    }

    /// The stream's place among the subscribers of its channel `slot`.
    pub(super) fn place(&self, slot: usize) -> usize {
        self.places.borrow()[slot]
    }

    pub(super) fn set_place(&self, slot: usize, place: usize) {
        self.places.borrow_mut()[slot] = place;
    }

    /// Its name on its shard, once it is open there.
    pub(super) fn key(&self) -> Option<StreamKey> {
        self.key.get()
    }

    pub(super) fn set_key(&self, key: StreamKey) {
        self.key.set(Some(key));
    }

    // The past.

    /// Whether the past is still to come. Live events are not queued meanwhile.
    pub(super) fn is_replaying(&self) -> bool {
        self.progress.is_replaying()
    }

    /// Whether the page with this ticket is the one that was requested last.
    pub(super) fn awaits(&self, ticket: u64) -> bool {
        self.progress.awaits(ticket)
    }

    /// The number of the newest event that was offered.
    pub(super) fn number(&self) -> u64 {
        self.progress.cursor.number()
    }

    /// The newest entry of a log that was offered; `None` while the stream has no position there.
    pub(super) fn entry(&self, log: usize) -> Option<EntryId> {
        self.progress.cursor.entry(log)
    }

    /// Begins a page. `start` is where the stream stands in its logs before it.
    pub(super) fn begin_page(&self, start: &[Option<EntryId>]) {
        self.has_resumed.set(true);
        for (log, id) in start.iter().enumerate() {
            if let Some(id) = *id {
                self.progress.cursor.move_in_log(LogEntry { log, id });
            }
        }
    }

    /// Ends a page. If it was the last one, live events are queued from now on: those after `number`.
    ///
    /// Not while much of the past is still to be written: the queue would have no room for live events. The
    /// client would be closed for that, and would come back to the same place, for ever.
    pub(super) fn end_page(
        &self,
        is_last: bool,
        number: u64,
        floors: Option<Arc<[u64]>>,
        now: Instant,
    ) {
        if is_last && self.queued_bytes() <= self.settings.max_queue_bytes / 2 {
            self.progress.go_live(number);
        } else {
            self.progress.replay_from_here(floors);
            self.wake(now);
        }
    }

    /// Replays what follows the newest entries that were offered, instead of live events.
    pub(super) fn replay_from_here(&self, now: Instant) {
        self.progress.replay_from_here(None);
        self.wake(now);
    }

    /// Whether a page is to be requested when everything queued is written.
    pub(super) fn is_replay_due(&self) -> bool {
        self.progress.is_replay_due()
    }

    /// Takes the request for the next page: from where on, how many bytes, and the ticket.
    pub(super) fn take_replay(&self) -> Option<(Resume, usize, u64)> {
        let (resume, ticket) = self.progress.take_replay()?;
        Some((resume, self.settings.max_queue_bytes / 2, ticket))
    }

    /// Something of the client's past is missing, as its page says.
    pub(super) fn note_missing_past(&self) {
        if self.origin.get().is_some() {
            self.origin.set(Some(ResumedFrom::Gap));
        }
    }

    /// Where the past of a client with an id came from; `None` without an id, and before any of it was sent.
    pub(super) fn resumed_from(&self) -> Option<ResumedFrom> {
        self.origin.get().filter(|_| self.has_resumed.get())
    }

    // For the subscriber that reads it.

    pub(super) fn is_closed(&self) -> bool {
        self.watchdog.is_closed()
    }

    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.watchdog.closed()
    }

    /// Bytes of queued events.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.borrow().bytes()
    }

    pub(super) fn queue(&self) -> RefMut<'_, EventQueue> {
        self.queue.borrow_mut()
    }

    /// Whether a gap for dropped events comes next: before everything queued, but behind the frame that
    /// opens the stream.
    pub(super) fn is_overflow_next(&self, queue: &EventQueue) -> bool {
        (queue.has_begun() || queue.first().is_none()) && self.has_overflowed()
    }

    /// Frames were handed to the transport.
    pub(super) fn note_handed_over(&self, now: Instant) {
        self.watchdog.note_handed_over(now);
    }

    /// A part of what was handed over was written.
    pub(super) fn note_progress(&self, now: Instant) {
        self.watchdog.note_progress(now);
    }

    /// Everything was written: wakes the task of `context` when there is more.
    pub(super) fn wait(&self, context: &Context<'_>) {
        self.watchdog.note_idle();
        self.waker.set(Some(context.waker().clone()));
    }

    fn wake(&self, now: Instant) {
        self.watchdog.note_queued(now);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
