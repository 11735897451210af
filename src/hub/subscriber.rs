//! One stream: what waits for it, and how it ends.
//!
//! The shard offers events to a [`Mailbox`]; the stream's body reads them from its [`Subscriber`].
//! Both live on one thread. What carries the stream is not known here, only how to cut it off.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::gap::{self, GapReason};
use super::position::Resume;
use super::queue::{Pushed, Queue, Queued};
use super::shard::{Membership, Shard};
use super::{StreamSettings, WhenFull};
use crate::event::Ids;
use crate::sse::encode;
use crate::sse::frame::{Form, Frame};

/// Frames that wait together are handed over together, up to so many bytes: one TLS record.
const MAX_TOGETHER: usize = 16 << 10;
/// A closed stream has so long to write what it still has; then it is cut off.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Why a stream ended. Not an error: each is an ordinary end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client went away.
    ClientLeft,
    /// The gateway is stopping.
    Drained,
    /// Its queue was full: the client reads more slowly than events come.
    Lagged,
    /// It needs a channel more than the gateway may follow.
    Refused,
    /// Nothing could be written for the time of `write_timeout`.
    Stalled,
}

impl CloseReason {
    /// Every reason, for a metric that shows them all from the start.
    pub const ALL: [Self; 5] =
        [Self::ClientLeft, Self::Drained, Self::Lagged, Self::Refused, Self::Stalled];

    /// The word in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::Drained => "drained",
            Self::Lagged => "lagged",
            Self::Refused => "refused",
            Self::Stalled => "stalled",
        }
    }
}

/// The shard's side of a stream.
pub(super) struct Mailbox {
    queue: RefCell<Queue>,
    waker: RefCell<Option<Waker>>,
    pub(super) settings: Arc<StreamSettings>,
    pub(super) ids: Ids,
    // Bytes of the route's prefix, which clients do not see.
    prefix_bytes: usize,
    // Channels that the source has not confirmed yet.
    pub(super) unconfirmed: Cell<usize>,
    // The newest event offered: what is heard twice is offered twice, with one number.
    newest: Cell<u64>,
    // Events up to this number gave way to newer ones, and the client has not been told.
    overflowed: Cell<Option<u64>>,
    replay: Cell<Replay>,
    last_write: Cell<Instant>,
    waits_since: Cell<Option<Instant>>,
    closed: Cell<Option<(CloseReason, Instant)>>,
    cut: Box<dyn Fn()>,
}

/// Where a stream stands between its client's past and the live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replay {
    /// Events come as they are dealt.
    Live,
    /// The next piece of the past is to be asked for when what waits has been written. Live events
    /// pass by: they are in the past that is asked for.
    Due(Resume),
    /// It has been asked for.
    Asked,
}

/// What an offer or a visit has to tell the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Events that this subscriber does not get.
    pub(super) dropped: u64,
}

impl Mailbox {
    pub(super) fn new(
        settings: Arc<StreamSettings>,
        ids: Ids,
        prefix_bytes: usize,
        resume: Option<Resume>,
        cut: Box<dyn Fn()>,
        now: Instant,
    ) -> Self {
        let mut queue = Queue::new(settings.max_queue_bytes, settings.when_full);
        queue.say(encode::retry(settings.retry), now);
        Self {
            queue: RefCell::new(queue),
            waker: RefCell::new(None),
            settings,
            ids,
            prefix_bytes,
            unconfirmed: Cell::new(0),
            newest: Cell::new(match resume {
                Some(Resume::After(number)) => number,
                Some(Resume::Unknown) | None => 0,
            }),
            overflowed: Cell::new(None),
            replay: Cell::new(resume.map_or(Replay::Live, Replay::Due)),
            last_write: Cell::new(now),
            waits_since: Cell::new(Some(now)),
            closed: Cell::new(None),
            cut,
        }
    }

    /// Bytes of events that wait.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.borrow().bytes()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Offers an event. Never waits: what does not fit is dealt with as the route says.
    pub(super) fn offer(&self, event: Queued, now: Instant) -> Outcome {
        let number = event.number.unwrap_or_default();
        if self.is_closed() || self.is_replaying() || number <= self.newest.get() {
            return Outcome::default();
        }
        self.newest.set(number);
        let pushed = self.queue.borrow_mut().push(event);
        let dropped = match pushed {
            Pushed::Queued => 0,
            Pushed::Dropped { events, last } => {
                if self.settings.when_full == WhenFull::DropOldest {
                    self.overflowed.set(Some(last));
                }
                events
            }
            // The slow subscriber is closed, and its client comes back. Waiting here would let one
            // reader stall the channel.
            Pushed::Full => {
                let waiting = self.queue.borrow_mut().clear();
                self.close(CloseReason::Lagged, now);
                waiting + 1
            }
        };
        self.wake(now);
        Outcome { dropped }
    }

    /// Whether the past is still to come.
    pub(super) fn is_replaying(&self) -> bool {
        self.replay.get() != Replay::Live
    }

    /// Takes an event of the past. It fits: no more is asked for than the queue takes.
    pub(super) fn replay(&self, event: Queued, now: Instant) {
        if !self.is_closed() {
            self.newest.set(event.number.unwrap_or_default());
            self.queue.borrow_mut().append(event);
            self.wake(now);
        }
    }

    /// A piece of the past has come, after which live events begin at `number` if it was the last.
    /// Answers whether it was.
    pub(super) fn replayed(&self, is_last: bool, number: u64) -> bool {
        self.replay.set(if is_last {
            self.newest.set(number);
            Replay::Live
        } else {
            Replay::Due(Resume::After(self.newest.get()))
        });
        is_last
    }

    /// The piece of the past that is to be asked for now.
    fn due_replay(&self) -> Option<Resume> {
        let Replay::Due(resume) = self.replay.get() else {
            return None;
        };
        self.replay.set(Replay::Asked);
        Some(resume)
    }

    /// Says what the stream itself has to say.
    pub(super) fn say(&self, frame: Frame, now: Instant) {
        if !self.is_closed() {
            self.queue.borrow_mut().say(frame, now);
            self.wake(now);
        }
    }

    /// Tells of a gap on these channels (their names at the source).
    pub(super) fn tell_gap<'a>(
        &self,
        reason: GapReason,
        channels: impl Iterator<Item = &'a str>,
        shard: &Shard,
        number: u64,
        now: Instant,
    ) {
        self.newest.set(self.newest.get().max(number));
        if self.settings.gap_events {
            let frame = self.gap_frame(reason, channels, shard, number);
            self.say(frame, now);
        }
    }

    /// Ends the stream. What waits is still written, if that does not take long.
    pub(super) fn close(&self, reason: CloseReason, now: Instant) {
        if !self.is_closed() {
            self.closed.set(Some((reason, now)));
            self.wake(now);
        }
    }

    /// Ends the stream with a word on when to come back: later than usual, each at its own time.
    pub(super) fn send_away(&self, reason: CloseReason, now: Instant) {
        self.say(encode::retry(jittered(self.settings.retry)), now);
        self.close(reason, now);
    }

    /// Looks after the stream: keeps a quiet one alive, cuts off one that cannot be written to.
    /// Answers when to look again; `None`: never.
    pub(super) fn visit(&self, now: Instant, write_timeout: Duration) -> Option<Instant> {
        if let Some((_, closed)) = self.closed.get() {
            let due = closed + CLOSE_GRACE;
            if now < due {
                return Some(due);
            }
            (self.cut)();
            return None;
        }
        if let Some(since) = self.waits_since.get() {
            let due = since + write_timeout;
            if now < due {
                return Some(due);
            }
            self.close(CloseReason::Stalled, now);
            (self.cut)();
            return None;
        }
        let due = self.last_write.get() + self.settings.keep_alive;
        if now < due {
            // Looked at no later than this, so that a stall is found in time.
            return Some(due.min(now + write_timeout));
        }
        self.say(encode::KEEP_ALIVE, now);
        Some(now + self.settings.keep_alive.min(write_timeout))
    }

    fn wake(&self, now: Instant) {
        if self.waits_since.get().is_none() {
            self.waits_since.set(Some(now));
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn watch(&self, context: &Context<'_>) {
        *self.waker.borrow_mut() = Some(context.waker().clone());
    }

    fn gap_frame<'a>(
        &self,
        reason: GapReason,
        channels: impl Iterator<Item = &'a str>,
        shard: &Shard,
        number: u64,
    ) -> Frame {
        let position = (self.ids == Ids::Ours).then(|| shard.run_tag().at(number));
        shard.metrics().shared().gap(reason.as_str());
        gap::frame(reason, channels.map(|name| &name[self.prefix_bytes..]), position)
    }
}

/// A stream as its body sees it. Leaves its channels when it is dropped.
// Not `Clone`: there is one reader.
pub struct Subscriber {
    mailbox: Rc<Mailbox>,
    shard: Shard,
    membership: Membership,
    // What is left of a large frame whose first pieces have been handed over.
    rest: RefCell<Bytes>,
}

impl Subscriber {
    pub(super) fn new(mailbox: Rc<Mailbox>, shard: Shard, membership: Membership) -> Self {
        Self { mailbox, shard, membership, rest: RefCell::default() }
    }

    /// The next bytes of the stream, in the form that its transport takes; `None` when it is over.
    pub fn poll_next(&self, form: Form, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut queue = self.mailbox.queue.borrow_mut();
        let before = queue.bytes();
        let next = self.next_piece(&mut queue, form);
        self.shard.account(before, queue.bytes());
        match next {
            Some(bytes) => {
                let now = Instant::now();
                self.mailbox.last_write.set(now);
                // Until it is asked for more, this is on its way: while a piece waits for HTTP/2
                // window, the body is not polled.
                self.mailbox.waits_since.set(Some(now));
                Poll::Ready(Some(bytes))
            }
            None if self.mailbox.is_closed() => Poll::Ready(None),
            None => {
                if let Some(resume) = self.mailbox.due_replay() {
                    let max_bytes = self.mailbox.settings.max_queue_bytes / 2;
                    self.shard.ask_for_replay(&self.membership, resume, max_bytes);
                }
                self.mailbox.waits_since.set(None);
                self.mailbox.watch(context);
                Poll::Pending
            }
        }
    }

    /// Some of what was handed over has been written: the reader is slow, but has not stopped.
    pub fn note_progress(&self) {
        self.mailbox.waits_since.set(Some(Instant::now()));
    }

    /// Why the stream was closed; `None` when it was not closed from this side.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.mailbox.closed.get().map(|(reason, _)| reason)
    }

    /// What is handed over next. A large text goes in pieces, so that each that is taken is seen as
    /// progress; chunks are for a transport that tells of its progress itself.
    fn next_piece(&self, queue: &mut Queue, form: Form) -> Option<Bytes> {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            *rest = self.hand_over(queue, form)?;
        }
        let most = match form {
            Form::Chunk => rest.len(),
            Form::Text => MAX_TOGETHER,
        };
        let piece = rest.len().min(most);
        Some(rest.split_to(piece))
    }

    /// Takes what waits: one frame as it is, several small ones together.
    fn hand_over(&self, queue: &mut Queue, form: Form) -> Option<Bytes> {
        if let Some(gap) = self.owed_gap(queue) {
            return Some(gap.into_bytes(form));
        }
        let first = self.pop(queue)?;
        let fits = |next: Option<&Queued>, used: usize| {
            next.is_some_and(|next| used + next.frame.len() <= MAX_TOGETHER)
        };
        if !fits(queue.front(), first.len()) {
            return Some(first.into_bytes(form));
        }
        let mut together =
            BytesMut::with_capacity(MAX_TOGETHER.min(2 * first.len() + queue.bytes()));
        first.put(form, &mut together);
        while fits(queue.front(), together.len()) && !self.is_gap_owed(queue) {
            let Some(next) = self.pop(queue) else { break };
            next.put(form, &mut together);
        }
        Some(together.freeze())
    }

    /// Whether a gap is to be told before what waits next: it stands before the events.
    fn is_gap_owed(&self, queue: &Queue) -> bool {
        self.mailbox.overflowed.get().is_some()
            && queue.front().is_none_or(|next| next.number.is_some())
    }

    /// The gap that is owed for dropped events, when those are the next to tell of.
    fn owed_gap(&self, queue: &Queue) -> Option<Frame> {
        if !self.is_gap_owed(queue) {
            return None;
        }
        let last = self.mailbox.overflowed.take()?;
        let channels = self.membership.names();
        self.mailbox
            .settings
            .gap_events
            .then(|| self.mailbox.gap_frame(GapReason::Overflow, channels, &self.shard, last))
    }

    fn pop(&self, queue: &mut Queue) -> Option<Frame> {
        let next = queue.pop()?;
        self.shard.metrics().stream_bytes_sent(next.frame.len());
        if next.number.is_some() {
            // That of a replayed event would be the latency of its client.
            self.shard.metrics().event_sent(next.received.elapsed());
        }
        Some(next.frame)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shard.account(self.mailbox.queued_bytes(), 0);
        self.shard.leave(&self.membership);
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("membership", &self.membership).finish_non_exhaustive()
    }
}

/// A wait between once and twice `base`, so that those who are sent away together do not come back
/// together.
pub fn jittered(base: Duration) -> Duration {
    base.mul_f64(1.0 + fastrand::f64())
}
