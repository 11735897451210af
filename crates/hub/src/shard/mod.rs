//! The subscribers of one core, and the channels that they are subscribed to.
//!
//! Everything here lives on one thread, in plain cells. Messages come from the hub in batches, through
//! the inbox, and are delivered in slices ([`deliver`]). What the shard needs of the hub goes the other way,
//! as requests ([`streams`]).

mod deliver;
mod ended;
mod gaps;
pub(super) mod link;
pub(super) mod local_channel;
mod place;
pub(super) mod queue_budget;
pub(super) mod slowest;
pub(super) mod streams;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::{Instant, MissedTickBehavior};

use self::link::ShardLink;
use self::local_channel::{LocalChannel, OpenStream};
use super::drain_pace::drain_evenly;
use super::fleet::marks::ReceivedMark;
use super::fleet::order_id::OrderId;
use super::gap::GapReason;
use super::inbox::message::Message;
use super::mailbox::Mailbox;
use super::mailbox::close_reason::CloseReason;
use super::mailbox::watchdog::CLOSE_GRACE;
use super::position::event_id::EventId;
use super::subject::ChannelIndex;
use super::timed_streams::StreamKey;
use super::timed_streams::TimedStreams;
use super::timers::TIMER_TICK;
use crate::Observer;
use crate::Topic;

/// The hub on one thread: a cheap handle.
#[derive(Clone)]
pub struct Shard(Rc<ShardState>);

struct ShardState {
    link: ShardLink,
    write_timeout: Cell<Duration>,
    channels: RefCell<HashMap<Topic, Rc<LocalChannel>>>,
    by_index: RefCell<FxHashMap<ChannelIndex, Rc<LocalChannel>>>,
    streams: TimedStreams<Rc<OpenStream>>,
    next_ticket: Cell<u64>,
    // The number up to which everything was delivered here, with all its copies.
    number: Cell<u64>,
    // The newest mark of the fleet in each order that was delivered here, and the channels confirmed since.
    newest_marks: RefCell<BTreeMap<OrderId, ReceivedMark>>,
    unnamed: RefCell<Vec<ChannelIndex>>,
    // Marks that have come since streams were last sent newer positions.
    marks: Cell<usize>,
    // Streams that were sent their position without a place since the last mark.
    untold: RefCell<Vec<StreamKey>>,
    // Messages to deliver, the oldest first.
    batch: RefCell<VecDeque<Message>>,
    queued_bytes: Cell<usize>,
    observer: Box<dyn Observer>,
}

impl Shard {
    /// The shard at the end of `link`, on the thread that calls this.
    pub fn new(
        link: ShardLink,
        write_timeout: Duration,
        observer: impl Observer + 'static,
    ) -> Self {
        Self(Rc::new(ShardState {
            link,
            write_timeout: Cell::new(write_timeout),
            channels: RefCell::default(),
            by_index: RefCell::default(),
            streams: TimedStreams::new(Instant::now()),
            next_ticket: Cell::new(0),
            number: Cell::new(0),
            newest_marks: RefCell::default(),
            unnamed: RefCell::default(),
            marks: Cell::new(0),
            untold: RefCell::default(),
            batch: RefCell::default(),
            queued_bytes: Cell::new(0),
            observer: Box::new(observer),
        }))
    }

    /// Delivers what the hub sends, and visits the streams that are due. Never returns; ends when it is
    /// dropped.
    pub async fn run(&self) {
        let mut fresh = VecDeque::new();
        let mut tick = tokio::time::interval(TIMER_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_idle = self.0.batch.borrow().is_empty();
            tokio::select! {
                () = self.0.link.inbox.take(&mut fresh), if is_idle => {
                    std::mem::swap(&mut fresh, &mut self.0.batch.borrow_mut());
                }
                () = std::future::ready(()), if !is_idle => {}
                _ = tick.tick() => self.visit_streams(),
            }
            self.deliver();
            self.shed();
            // The streams that were woken write before more is delivered: otherwise a burst that waits
            // here would make their clients look slow.
            tokio::task::yield_now().await;
        }
    }

    /// Ends every stream in good order, evenly over `over`: each gets what was received so far, and a
    /// `retry`. No more may be opened meanwhile.
    pub async fn drain(&self, over: Duration) {
        drain_evenly(self.0.streams.keys(), over, |due| {
            self.deliver_all();
            let now = Instant::now();
            for stream in due.iter().filter_map(|key| self.0.streams.get(*key)) {
                self.send_last_position(&stream, now);
                stream.mailbox.end(CloseReason::Drained, now);
                self.visit_after_grace(&stream.mailbox, now);
            }
        })
        .await;
    }

    /// Changes how long a stream may be unable to write before it is cut off. A shorter time holds at once.
    pub fn set_write_timeout(&self, write_timeout: Duration) {
        if write_timeout < self.0.write_timeout.replace(write_timeout) {
            self.0.streams.reschedule(Instant::now());
        }
    }

    /// How long a stream may be unable to write before it is cut off.
    pub fn write_timeout(&self) -> Duration {
        self.0.write_timeout.get()
    }

    /// The number in an id, if the hub of this process has given the id.
    pub fn number_given(&self, id: &[u8]) -> Option<u64> {
        EventId::parse(id).filter(|id| id.run == self.0.link.run).map(|id| id.number)
    }

    /// How many of these channels have no subscriber on this shard.
    pub fn unfollowed(&self, topics: &[Topic]) -> usize {
        let channels = self.0.channels.borrow();
        topics.iter().filter(|topic| !channels.contains_key(topic)).count()
    }

    /// Open streams.
    pub fn subscribers(&self) -> usize {
        self.0.streams.len()
    }

    /// The observer of this shard. Also for code that sends streams other than the hub's.
    pub fn observer(&self) -> &dyn Observer {
        &*self.0.observer
    }

    /// The queue of one subscriber went from `before` to `after` bytes.
    pub(super) fn account(&self, before: usize, after: usize) {
        self.0.queued_bytes.set(self.0.queued_bytes.get() + after - before);
    }

    /// Events are missing from a stream, whether its route sends gaps or not.
    pub(super) fn count_gap(&self, reason: GapReason) {
        self.0.observer.gap(reason);
    }

    fn visit_streams(&self) {
        let now = Instant::now();
        let write_timeout = self.0.write_timeout.get();
        self.0.streams.visit_due(now, |stream| stream.mailbox.visit(now, write_timeout));
        self.0.observer.tick(self.0.queued_bytes.get());
    }

    /// Ends a stream in good order, unless it has ended.
    pub(super) fn end(&self, key: StreamKey, reason: CloseReason) {
        if let Some(stream) = self.0.streams.get(key) {
            let now = Instant::now();
            self.send_last_position(&stream, now);
            stream.mailbox.end(reason, now);
            self.visit_after_grace(&stream.mailbox, now);
        }
    }

    /// Visits a closed stream as soon as its grace is over.
    fn visit_after_grace(&self, mailbox: &Mailbox, now: Instant) {
        if let Some(key) = mailbox.key() {
            self.0.streams.schedule(key, now + CLOSE_GRACE);
        }
    }

    /// Closes the streams with the largest queues when the queues of all shards hold too much together.
    fn shed(&self) {
        let link = &self.0.link;
        let mut surplus = link.queues.report(link.shard, self.0.queued_bytes.get());
        if surplus == 0 {
            return;
        }
        let queued = |stream: &Rc<OpenStream>| {
            let bytes = stream.mailbox.queued_bytes();
            (bytes > 0).then(|| (bytes, Rc::clone(stream)))
        };
        let mut queued = self.0.streams.filter_map(queued);
        queued.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let now = Instant::now();
        for (bytes, stream) in queued {
            let events = stream.mailbox.abandon(CloseReason::QueueMemory, now);
            self.account(bytes, 0);
            self.0.observer.events_dropped_by_overflow(events);
            self.visit_after_grace(&stream.mailbox, now);
            surplus = surplus.saturating_sub(bytes);
            if surplus == 0 {
                break;
            }
        }
        link.queues.report(link.shard, self.0.queued_bytes.get());
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("subscribers", &self.subscribers()).finish_non_exhaustive()
    }
}
