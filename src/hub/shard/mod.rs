//! The subscribers of one core, and the channels they listen to.
//!
//! Everything here lives on one thread, in plain cells. Events come in batches through the inbox;
//! what the shard wants of the hub goes the other way as wishes.

mod deliver;
mod local_channel;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

pub(super) use self::local_channel::Membership;
use self::local_channel::{LocalChannel, LocalSubscriber};
use super::drain_pace::DrainPace;
use super::inbox::{ChannelIndex, Inbox, Message};
use super::position::event_id::RunTag;
use super::position::log_positions::LogPositions;
use super::position::resume::{LastSeen, Resume};
use super::requests::shard_request::{Calls, Joining, ReplayCall};
use super::subscriber::queue_budget::QueueBudget;
use super::subscriber::{CLOSE_GRACE, CloseReason, Mailbox, Subscriber};
use super::timers::{StreamKey, TIMER_TICK, Timers};
use super::watched::{Watch, WatchGuard, Watched};
use super::{HistorySettings, StreamSettings};
use crate::event::{EntryId, Ids, Topic};
use crate::metrics::ShardMetrics;

/// How often a drain looks for streams whose turn it is to end.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// The ends of the hub's ways to and from one shard, on their way to its thread.
#[derive(Debug)]
pub struct ShardLink {
    shard: usize,
    run: RunTag,
    inbox: Arc<Inbox>,
    calls: Arc<Calls>,
    queues: Arc<QueueBudget>,
}

impl ShardLink {
    pub(super) fn new(
        shard: usize,
        run: RunTag,
        (inbox, calls, queues): (Arc<Inbox>, Arc<Calls>, Arc<QueueBudget>),
    ) -> Self {
        Self { shard, run, inbox, calls, queues }
    }
}

/// What a stream asks of its shard.
pub struct StreamRequest {
    /// The channels; at least one.
    pub topics: Vec<Topic>,
    /// How the stream is kept.
    pub settings: Arc<StreamSettings>,
    /// Bytes at the head of each channel's name that clients do not see.
    pub prefix_bytes: usize,
    /// What is kept of the channels; `None`: nothing, and there is no resuming.
    pub history: Option<HistorySettings>,
    /// What the client has seen already.
    pub last_seen: LastSeen,
    /// How it begins.
    pub begins: StreamOpening,
    /// Ends the stream from outside, when it cannot be written to.
    pub cut: Box<dyn Fn()>,
}

/// How a stream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOpening {
    /// Somebody else has opened it: there is no opening, with its `retry`.
    pub is_continued: bool,
    /// `ready` is a block with the client's position, so that a client that saw no event yet can
    /// resume there. Only for clients that make no event of a block without data.
    pub is_told_position: bool,
}

/// The hub on one thread: a cheap handle.
#[derive(Clone)]
pub struct Shard(Rc<ShardState>);

struct ShardState {
    link: ShardLink,
    write_timeout: Cell<Duration>,
    channels: RefCell<HashMap<Topic, Rc<LocalChannel>>>,
    by_index: RefCell<FxHashMap<ChannelIndex, Rc<LocalChannel>>>,
    members: RefCell<Slab<Member>>,
    generations: Cell<u32>,
    rounds: RefCell<Timers>,
    // Streams that come from elsewhere.
    watched: Watched,
    next_ticket: Cell<u64>,
    // Everything up to this number has been dealt here, with all its copies.
    number: Cell<u64>,
    // What came from the hub and is still to be dealt, the oldest first.
    batch: RefCell<VecDeque<Message>>,
    queued_bytes: Cell<usize>,
    metrics: ShardMetrics,
}

struct Member {
    mailbox: Rc<Mailbox>,
    key: StreamKey,
}

/// An open stream that a drain is to end.
#[derive(Clone, Copy, Debug)]
enum Open {
    Ours(StreamKey),
    FromElsewhere(StreamKey),
}

impl Shard {
    /// The shard at the end of `link`, on the thread that calls this.
    pub fn new(link: ShardLink, write_timeout: Duration, metrics: ShardMetrics) -> Self {
        Self(Rc::new(ShardState {
            link,
            write_timeout: Cell::new(write_timeout),
            channels: RefCell::default(),
            by_index: RefCell::default(),
            members: RefCell::default(),
            generations: Cell::new(0),
            rounds: RefCell::new(Timers::new(Instant::now())),
            watched: Watched::new(Instant::now()),
            next_ticket: Cell::new(0),
            number: Cell::new(0),
            batch: RefCell::default(),
            queued_bytes: Cell::new(0),
            metrics,
        }))
    }

    /// Deals what the hub sends, and makes the rounds of the subscribers. Ends when it is dropped.
    pub async fn run(&self) {
        let mut fresh = VecDeque::new();
        let mut round = tokio::time::interval(TIMER_TICK);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_idle = self.0.batch.borrow().is_empty();
            tokio::select! {
                () = self.0.link.inbox.take(&mut fresh), if is_idle => {
                    std::mem::swap(&mut fresh, &mut self.0.batch.borrow_mut());
                }
                () = std::future::ready(()), if !is_idle => {}
                _ = round.tick() => self.make_round(),
            }
            self.deal();
            self.shed();
            // The streams that were woken write before more is dealt: a burst that waits here is no
            // reason to find that they are slow.
            tokio::task::yield_now().await;
        }
    }

    /// Opens a stream.
    pub fn subscribe(&self, request: StreamRequest) -> Subscriber {
        let StreamRequest { topics, settings, prefix_bytes, history, last_seen, begins, cut } =
            request;
        let now = Instant::now();
        let ids = topics.first().map_or(Ids::Publisher, |topic| topic.ids);
        let logs = topics.iter().filter(|topic| topic.ids == Ids::Entries);
        let logs = LogPositions::nowhere(logs.map(|topic| topic.subscription.name.as_str()));
        let resume = Resume::new(ids, &last_seen, settings.replay, &logs, self.run_tag());
        let linger = settings.linger;
        let mailbox = Rc::new(Mailbox::new(settings, ids, prefix_bytes, resume, begins, cut, now));
        *mailbox.in_logs.borrow_mut() = logs;
        *mailbox.places.borrow_mut() = smallvec![0; topics.len()];
        let channels: SmallVec<_> = topics
            .into_iter()
            .enumerate()
            .map(|(slot, topic)| self.listen(topic, slot, linger, history, &mailbox))
            .collect();
        self.0.metrics.shared().subscribed(channels.len());
        let membership = Membership { key: self.admit(Rc::clone(&mailbox), now), channels };
        if !mailbox.is_replaying() && mailbox.unconfirmed.get() == 0 {
            self.say_ready(&mailbox, now);
        }
        Subscriber::new(mailbox, self.clone(), membership)
    }

    /// How long a stream may take nothing, from now on.
    pub fn set_write_timeout(&self, write_timeout: Duration) {
        self.0.write_timeout.set(write_timeout);
    }

    /// Ends every stream in good order: each gets what was received so far, and is told when to
    /// come back. Evenly over `over`, so that those who come back are no storm; sooner where few are
    /// open. No more may be opened meanwhile.
    pub async fn drain(&self, over: Duration) {
        let mut open: Vec<Open> = self
            .0
            .members
            .borrow()
            .iter()
            .filter_map(|(_, member)| member.mailbox.key.get())
            .map(Open::Ours)
            .chain(self.0.watched.keys().map(Open::FromElsewhere))
            .collect();
        // Not in the order in which they came: those of one connection or client go one by one.
        fastrand::shuffle(&mut open);
        let (pace, start) = (DrainPace::new(open.len(), over), Instant::now());
        let mut tick = tokio::time::interval(DRAIN_TICK);
        let mut gone = 0;
        while gone < open.len() {
            tick.tick().await;
            let due = pace.due(start.elapsed());
            if due > gone {
                self.deal_all();
                self.send_away(&open[gone..due], Instant::now());
                gone = due;
            }
        }
    }

    /// Deals what has been received so far.
    fn deal_all(&self) {
        self.0.link.inbox.take_now(&mut self.0.batch.borrow_mut());
        while !self.0.batch.borrow().is_empty() {
            self.deal();
        }
    }

    fn send_away(&self, streams: &[Open], now: Instant) {
        for stream in streams {
            match *stream {
                Open::Ours(key) => {
                    if let Some(mailbox) = self.member(key) {
                        self.end(&mailbox, CloseReason::Drained, now);
                    }
                }
                Open::FromElsewhere(key) => self.0.watched.drain(key),
            }
        }
    }

    /// Looks after a stream that comes from elsewhere, from `first` on, for as long as the guard
    /// lives.
    pub fn watch(&self, stream: Rc<dyn Watch>, first: Instant) -> WatchGuard {
        self.0.watched.watch(stream, first)
    }

    /// Nothing could be written for so long: then a stream is cut off.
    pub fn write_timeout(&self) -> Duration {
        self.0.write_timeout.get()
    }

    fn end(&self, mailbox: &Mailbox, reason: CloseReason, now: Instant) {
        mailbox.send_away(reason, now);
        self.see_to_the_end_of(mailbox, now);
    }

    /// How many of these channels nobody listens to here.
    pub fn unfollowed(&self, topics: &[Topic]) -> usize {
        let channels = self.0.channels.borrow();
        topics.iter().filter(|topic| !channels.contains_key(topic)).count()
    }

    /// Gives up the fattest queues when all shards together hold too much in theirs.
    fn shed(&self) {
        let link = &self.0.link;
        let mut too_much = link.queues.holds(link.shard, self.0.queued_bytes.get());
        if too_much == 0 {
            return;
        }
        let members = self.0.members.borrow();
        let fat = members.iter().map(|(_, member)| &member.mailbox);
        let mut fat: Vec<_> = fat.filter(|mailbox| mailbox.queued_bytes() > 0).collect();
        fat.sort_by_key(|mailbox| std::cmp::Reverse(mailbox.queued_bytes()));
        let now = Instant::now();
        for mailbox in fat {
            let bytes = mailbox.queued_bytes();
            let events = mailbox.give_up(CloseReason::QueueMemory, now);
            self.account(bytes, 0);
            self.0.metrics.shared().events_dropped_by_overflow(events);
            self.see_to_the_end_of(mailbox, now);
            too_much = too_much.saturating_sub(bytes);
            if too_much == 0 {
                break;
            }
        }
        link.queues.holds(link.shard, self.0.queued_bytes.get());
    }

    /// Open streams.
    pub fn subscribers(&self) -> usize {
        self.0.members.borrow().len()
    }

    pub(super) fn run_tag(&self) -> RunTag {
        self.0.link.run
    }

    /// What this shard records.
    pub fn metrics(&self) -> &ShardMetrics {
        &self.0.metrics
    }

    /// The bytes that wait for one subscriber went from `before` to `after`.
    pub(super) fn account(&self, before: usize, after: usize) {
        self.0.queued_bytes.set(self.0.queued_bytes.get() + after - before);
    }

    /// Asks for a piece of the past.
    pub(super) fn ask_for_replay(
        &self,
        membership: &Membership,
        resume: Resume,
        max_bytes: usize,
        ticket: u64,
    ) {
        let topics = membership.channels.iter().map(|channel| channel.topic.clone()).collect();
        let call = ReplayCall { topics, resume, max_bytes, ticket };
        self.0.link.calls.replay(self.0.link.shard, membership.key, call);
    }

    /// Gives back the places of a subscriber.
    pub(super) fn leave(&self, membership: &Membership) {
        self.0.metrics.shared().unsubscribed(membership.channels.len());
        let member = self.0.members.borrow_mut().remove(membership.key.place());
        if member.mailbox.is_replaying() {
            self.0.link.calls.withdraw_replay(self.0.link.shard, membership.key);
        }
        for (channel, &place) in membership.channels.iter().zip(&*member.mailbox.places.borrow()) {
            if channel.remove(place) {
                self.forget(channel);
            }
        }
    }

    fn listen(
        &self,
        topic: Topic,
        slot: usize,
        linger: Duration,
        history: Option<HistorySettings>,
        mailbox: &Rc<Mailbox>,
    ) -> Rc<LocalChannel> {
        let mut channels = self.0.channels.borrow_mut();
        let channel =
            channels.entry(topic).or_insert_with_key(|topic| self.join(topic, linger, history));
        let is_unconfirmed = !channel.is_confirmed.get();
        if is_unconfirmed {
            mailbox.unconfirmed.set(mailbox.unconfirmed.get() + 1);
        }
        if channel.is_log() && !is_unconfirmed && !mailbox.is_replaying() {
            mailbox.begin_log(slot, channel.newest.get());
        }
        let mut listeners = channel.listeners.borrow_mut();
        mailbox.places.borrow_mut()[slot] = listeners.len();
        listeners.push(LocalSubscriber {
            mailbox: Rc::clone(mailbox),
            slot: u32::try_from(slot)
                .expect("a stream has no more channels than one request names"),
            is_unconfirmed: Cell::new(is_unconfirmed),
            // Who comes back has listened before: a gap that is still to be told concerns it, unless
            // it finds it in its past.
            was_cut_off: Cell::new(mailbox.is_replaying()),
        });
        Rc::clone(channel)
    }

    fn join(
        &self,
        topic: &Topic,
        linger: Duration,
        history: Option<HistorySettings>,
    ) -> Rc<LocalChannel> {
        let ticket = self.draw_ticket();
        let link = &self.0.link;
        link.calls.join(link.shard, topic.clone(), Joining { linger, history, ticket });
        Rc::new(LocalChannel {
            topic: topic.clone(),
            ticket,
            index: Cell::new(None),
            is_confirmed: Cell::new(false),
            newest: Cell::new(EntryId::ZERO),
            listeners: RefCell::default(),
        })
    }

    fn forget(&self, channel: &Rc<LocalChannel>) {
        let mut channels = self.0.channels.borrow_mut();
        // After a refusal another channel may stand under this name.
        if channels.get(&channel.topic).is_some_and(|known| Rc::ptr_eq(known, channel)) {
            channels.remove(&channel.topic);
            let link = &self.0.link;
            link.calls.leave(link.shard, channel.topic.clone());
        }
        if let Some(index) = channel.index.take() {
            self.0.by_index.borrow_mut().remove(&index);
        }
    }

    /// A number that was not drawn before: it tells an answer from one to an earlier question.
    fn draw_ticket(&self) -> u64 {
        self.0.next_ticket.replace(self.0.next_ticket.get() + 1)
    }

    fn admit(&self, mailbox: Rc<Mailbox>, now: Instant) -> StreamKey {
        let mut members = self.0.members.borrow_mut();
        let due = mailbox.first_visit(now, self.0.write_timeout.get());
        let key = StreamKey::new(members.vacant_key(), &self.0.generations);
        mailbox.key.set(Some(key));
        members.insert(Member { mailbox, key });
        self.0.rounds.borrow_mut().add(key, due);
        key
    }

    fn say_ready(&self, mailbox: &Mailbox, now: Instant) {
        mailbox.say_ready(self, self.position(), now);
    }

    /// The position at which a stream begins now. Once all is dealt, that is the hub's own: what was
    /// dealt last cannot say that no copy of it follows.
    fn position(&self) -> u64 {
        if self.0.batch.borrow().is_empty()
            && let Some(settled) = self.0.link.inbox.settled()
        {
            self.0.number.set(settled.max(self.0.number.get()));
        }
        self.0.number.get()
    }

    /// A closed stream is looked at as soon as its grace is over.
    fn see_to_the_end_of(&self, mailbox: &Mailbox, now: Instant) {
        if let Some(key) = mailbox.key.get() {
            self.0.rounds.borrow_mut().add(key, now + CLOSE_GRACE);
        }
    }

    fn make_round(&self) {
        let now = Instant::now();
        loop {
            let due = self.0.rounds.borrow_mut().next_due(now);
            let Some(due) = due else { break };
            for key in due {
                self.visit(key, now);
            }
        }
        self.0.watched.make_round(now);
        self.0.metrics.queue_bytes(self.0.queued_bytes.get());
        self.0.metrics.flush();
    }

    fn member(&self, key: StreamKey) -> Option<Rc<Mailbox>> {
        let members = self.0.members.borrow();
        let member = members.get(key.place()).filter(|member| member.key == key);
        member.map(|member| Rc::clone(&member.mailbox))
    }

    fn visit(&self, key: StreamKey, now: Instant) {
        let Some(mailbox) = self.member(key) else { return };
        if mailbox.has_aged(now) {
            self.end(&mailbox, CloseReason::Aged, now);
        } else if let Some(due) = mailbox.visit(now, self.0.write_timeout.get()) {
            self.0.rounds.borrow_mut().add(key, due);
        }
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("subscribers", &self.subscribers()).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRequest").field("topics", &self.topics).finish_non_exhaustive()
    }
}
