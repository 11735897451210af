//! One stream, as the body of its response sees it.
//!
//! The shard offers events to the stream's [`mailbox`](crate::mailbox); the body reads them from its [`Subscriber`]. Both
//! live on one thread. Does not know which transport carries the bytes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use ssegate_sse::frame::{Form, Frame};
use tokio::time::Instant;

use super::gap::GapReason;
use super::mailbox::close_reason::CloseReason;
use super::mailbox::event_queue::{EventQueue, QueuedFrame};
use super::position::resume::ResumedFrom;
use super::shard::Shard;
use super::shard::local_channel::OpenStream;
use super::shard::streams::StreamRequest;
use super::timed_streams::StreamKey;

/// Frames that wait together are handed over together, up to this many bytes: one TLS record.
const MAX_TOGETHER: usize = 16 << 10;

/// A stream, as the body of its response sees it. Leaves its channels when it is dropped.
// Not `Clone`: there is one reader.
pub struct Subscriber {
    stream: Rc<OpenStream>,
    shard: Shard,
    // What is left of a large text whose first pieces were handed over.
    rest: RefCell<Option<Box<Bytes>>>,
    events_taken: Cell<u64>,
    bytes_taken: Cell<u64>,
}

/// Ends a stream from outside its body, such as when its client's credential was revoked. A cheap handle,
/// which does not keep the stream open.
#[derive(Clone, Debug)]
pub struct StreamEnder {
    shard: Shard,
    // `None`: it has ended.
    key: Option<StreamKey>,
}

impl StreamEnder {
    /// Ends the stream in good order, with a jittered `retry`. Does nothing once it has ended.
    pub fn end(&self, reason: CloseReason) {
        if let Some(key) = self.key {
            self.shard.end(key, reason);
        }
    }
}

impl Shard {
    /// Opens a stream.
    pub fn subscribe(&self, request: StreamRequest) -> Subscriber {
        Subscriber {
            stream: self.open(request),
            shard: self.clone(),
            rest: RefCell::default(),
            events_taken: Cell::new(0),
            bytes_taken: Cell::new(0),
        }
    }
}

impl Subscriber {
    /// The next bytes of the stream, in the form that its transport takes; `None` at its end.
    pub fn poll_next(&self, form: Form, context: &Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_piece((form, MAX_TOGETHER), context)
    }

    /// The next text of the stream, which is complete frames; `None` at its end. The caller sends it in
    /// pieces, and reports their progress with [`Self::note_progress`].
    pub fn poll_whole(&self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_piece((Form::Text, usize::MAX), context)
    }

    #[inline]
    fn poll_piece(
        &self,
        (form, most): (Form, usize),
        context: &Context<'_>,
    ) -> Poll<Option<Bytes>> {
        let mut queue = self.stream.mailbox.queue();
        let before = queue.bytes();
        let next = self.next_piece(&mut queue, (form, most));
        self.shard.account(before, queue.bytes());
        match next {
            Some((bytes, now)) => {
                self.stream.mailbox.note_handed_over(now);
                Poll::Ready(Some(bytes))
            }
            None if self.stream.mailbox.is_closed() => Poll::Ready(None),
            None => {
                if self.stream.mailbox.is_replay_due() {
                    self.request_replay();
                }
                self.stream.mailbox.wait(context);
                Poll::Pending
            }
        }
    }

    /// A part of what was handed over was written: the client is slow, but has not stopped reading.
    pub fn note_progress(&self) {
        self.stream.mailbox.note_progress(Instant::now());
    }

    /// Writes a keep-alive even if the stream is not quiet: it shows whether the client is there.
    pub fn keep_alive_now(&self) {
        self.stream.mailbox.keep_alive(Instant::now());
    }

    /// Returns what ends the stream from outside its body.
    pub fn ender(&self) -> StreamEnder {
        StreamEnder { shard: self.shard.clone(), key: self.stream.key() }
    }

    /// Why the stream was closed; `None` if it was not closed from this side.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.stream.mailbox.close_reason()
    }

    /// Events that were taken, to be written.
    pub fn events_taken(&self) -> u64 {
        self.events_taken.get()
    }

    /// Bytes of frames that were taken, to be written: events and everything else.
    pub fn bytes_taken(&self) -> u64 {
        self.bytes_taken.get()
    }

    /// The number of its channels.
    pub fn channels(&self) -> usize {
        self.stream.channel_count()
    }

    /// Where the events that its client missed came from; `None` if the client had no id, or none were sent yet.
    pub fn resumed_from(&self) -> Option<ResumedFrom> {
        self.stream.mailbox.resumed_from()
    }

    // Rare, and kept out of the way of an event.
    #[cold]
    fn request_replay(&self) {
        self.shard.request_replay(&self.stream);
    }

    /// What is handed over next. A large text goes in pieces, so that each one that is taken is seen as
    /// progress; chunks are for a transport that reports its progress itself.
    fn next_piece(
        &self,
        queue: &mut EventQueue,
        (form, most): (Form, usize),
    ) -> Option<(Bytes, Instant)> {
        let rest = self.rest.take();
        if rest.is_none() && queue.first().is_none() && !self.stream.mailbox.is_overflow_next(queue)
        {
            return None;
        }
        let now = Instant::now();
        let mut text = match rest {
            Some(rest) => *rest,
            None => self.next_text(queue, form, now)?,
        };
        if form == Form::Text && text.len() > most {
            let piece = text.split_to(most);
            self.rest.replace(Some(Box::new(text)));
            return Some((piece, now));
        }
        Some((text, now))
    }

    /// Takes frames from the queue: one as it is, several small ones together.
    fn next_text(&self, queue: &mut EventQueue, form: Form, now: Instant) -> Option<Bytes> {
        let first = self.next_frame(queue, now)?;
        let fits = |next: Option<&QueuedFrame>, used: usize| {
            next.is_some_and(|next| used + next.frame.len() <= MAX_TOGETHER)
        };
        if !fits(queue.first(), first.len()) {
            return Some(first.bytes(form));
        }
        let mut together =
            BytesMut::with_capacity(MAX_TOGETHER.min(2 * first.len() + queue.bytes()));
        first.put(form, &mut together);
        while fits(queue.first(), together.len()) {
            let Some(next) = self.next_frame(queue, now) else { break };
            next.put(form, &mut together);
        }
        Some(together.freeze())
    }

    /// The gap for dropped events, or else the first frame of the queue.
    fn next_frame(&self, queue: &mut EventQueue, now: Instant) -> Option<Frame> {
        if self.stream.mailbox.is_overflow_next(queue)
            && let Some(gap) = self.overflow_gap()
        {
            return Some(gap);
        }
        self.pop(queue, now)
    }

    #[cold]
    fn overflow_gap(&self) -> Option<Frame> {
        let topics = self.stream.topics();
        let names = topics.iter().map(|topic| topic.subscription.name.as_str());
        let gap = self.stream.mailbox.take_overflow(names)?;
        self.shard.count_gap(GapReason::Overflow);
        gap
    }

    fn pop(&self, queue: &mut EventQueue, now: Instant) -> Option<Frame> {
        let next = queue.pop()?;
        let observer = self.shard.observer();
        observer.bytes_sent(next.frame.len());
        self.bytes_taken.set(self.bytes_taken.get() + next.frame.len() as u64);
        if next.is_event() {
            self.events_taken.set(self.events_taken.get() + 1);
            observer.event_sent(now.saturating_duration_since(next.received));
        }
        Some(next.frame)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shard.account(self.stream.mailbox.queued_bytes(), 0);
        self.shard.leave(&self.stream);
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("channels", &self.stream).finish_non_exhaustive()
    }
}
