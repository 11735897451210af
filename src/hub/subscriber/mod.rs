//! One stream: what waits for it, and how it ends.
//!
//! The shard offers events to a [`Mailbox`]; the stream's body reads them from its [`Subscriber`].
//! Both live on one thread. What carries the stream is not known here, only how to cut it off.

mod close_reason;
pub(super) mod event_queue;
mod mailbox;
pub(super) mod queue_budget;
mod small_queue;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

pub use self::close_reason::{CloseReason, jittered};
pub(super) use self::mailbox::{CLOSE_GRACE, Mailbox};
use super::shard::{Membership, Shard};
use super::subscriber::event_queue::{EventQueue, QueuedFrame};
use crate::sse::frame::{Form, Frame};

/// Frames that wait together are handed over together, up to so many bytes: one TLS record.
const MAX_TOGETHER: usize = 16 << 10;
/// A stream as its body sees it. Leaves its channels when it is dropped.
// Not `Clone`: there is one reader.
pub struct Subscriber {
    mailbox: Rc<Mailbox>,
    shard: Shard,
    membership: Membership,
    // What is left of a large text whose first pieces have been handed over.
    rest: RefCell<Option<Box<Bytes>>>,
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
            Some((bytes, now)) => {
                self.mailbox.last_write.set(now);
                // Until it is asked for more, this is on its way: while a piece waits for HTTP/2
                // window, the body is not polled.
                self.mailbox.waits_since.set(Some(now));
                Poll::Ready(Some(bytes))
            }
            None if self.mailbox.is_closed() => Poll::Ready(None),
            None => {
                if self.mailbox.is_replay_due() {
                    self.ask_for_replay();
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

    /// Writes what keeps a quiet stream alive, though it may not be quiet: to see whether its client is
    /// there.
    pub fn keep_alive_now(&self) {
        self.mailbox.say(self.mailbox.settings.keep_alive_text.clone(), Instant::now());
    }

    /// Why the stream was closed; `None` when it was not closed from this side.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.mailbox.closed.get()
    }

    // Rare, and out of the way of an event.
    #[cold]
    fn ask_for_replay(&self) {
        if let Some((resume, ticket)) = self.mailbox.due_replay() {
            let max_bytes = self.mailbox.settings.max_queue_bytes / 2;
            self.shard.ask_for_replay(&self.membership, resume, max_bytes, ticket);
        }
    }

    /// What is handed over next. A large text goes in pieces, so that each that is taken is seen as
    /// progress; chunks are for a transport that tells of its progress itself.
    fn next_piece(&self, queue: &mut EventQueue, form: Form) -> Option<(Bytes, Instant)> {
        let rest = self.rest.take();
        if rest.is_none() && !self.is_gap_owed(queue) && queue.front().is_none() {
            return None;
        }
        let now = Instant::now();
        let mut text = match rest {
            Some(rest) => *rest,
            None => self.hand_over(queue, form, now)?,
        };
        if form == Form::Text && text.len() > MAX_TOGETHER {
            let piece = text.split_to(MAX_TOGETHER);
            self.rest.replace(Some(Box::new(text)));
            return Some((piece, now));
        }
        Some((text, now))
    }

    /// Takes what waits: one frame as it is, several small ones together.
    fn hand_over(&self, queue: &mut EventQueue, form: Form, now: Instant) -> Option<Bytes> {
        let first = self.next_frame(queue, now)?;
        let fits = |next: Option<&QueuedFrame>, used: usize| {
            next.is_some_and(|next| used + next.frame.len() <= MAX_TOGETHER)
        };
        if !fits(queue.front(), first.len()) {
            return Some(first.bytes(form));
        }
        let mut together =
            BytesMut::with_capacity(MAX_TOGETHER.min(2 * first.len() + queue.bytes()));
        first.put(form, &mut together);
        while fits(queue.front(), together.len()) {
            let Some(next) = self.next_frame(queue, now) else { break };
            next.put(form, &mut together);
        }
        Some(together.freeze())
    }

    /// The gap that is owed, or else what has waited longest.
    fn next_frame(&self, queue: &mut EventQueue, now: Instant) -> Option<Frame> {
        if self.is_gap_owed(queue)
            && let Some(gap) = self.mailbox.owed_gap(self.membership.names(), &self.shard)
        {
            return Some(gap);
        }
        self.pop(queue, now)
    }

    /// Whether a gap is to be told next: before all that waits, but after the stream's first words.
    fn is_gap_owed(&self, queue: &EventQueue) -> bool {
        let has_begun = self.mailbox.has_begun.get() || queue.front().is_none();
        has_begun && self.mailbox.owes_gap()
    }

    fn pop(&self, queue: &mut EventQueue, now: Instant) -> Option<Frame> {
        let next = queue.pop()?;
        self.mailbox.has_begun.set(true);
        let metrics = self.shard.metrics();
        metrics.stream_bytes_sent(next.frame.len());
        if next.is_event() {
            // That of a replayed event would be the latency of its client.
            metrics.event_sent(now.saturating_duration_since(next.received));
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
