//! Every channel that is followed, and the shards that are dealt its events.
//!
//! Lives on one thread, beside the source. An event is numbered, encoded once, and put into the
//! batch of each shard that has joined its channel; a batch leaves at [`Hub::flush`], when the
//! source has nothing more at hand. Subscribers are not known here, only shards.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::calls::{Calls, Joining, ReplayCall, Wanted};
use super::gap::GapReason;
use super::history::{self, History, Kept, Page};
use super::inbox::{ChannelIndex, Message};
use super::interest::Interest;
use super::memory::{Keeper, Memory};
use super::port::{Port, Ports};
use super::position::{Resume, Run};
use super::rounds::MemberKey;
use super::shard::ShardLink;
use super::{HubSettings, MAX_SHARDS};
use crate::event::{ChannelName, Event, Format, Ids, Subscription, Topic};
use crate::metrics::Metrics;
use crate::sse::encode;

/// How often a shard that fell behind is looked at.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(50);

/// What the hub wants of its source, for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Somebody listens.
    Follow,
    /// Nobody has listened for the time of the linger.
    Leave,
}

/// The hub: a cheap handle, for the one thread that it lives on.
#[derive(Clone)]
pub struct Hub {
    state: Rc<RefCell<State>>,
    calls: Arc<Calls>,
    wishes: Rc<Interest<Subscription, Wish>>,
}

struct State {
    run: Run,
    number: u64,
    channels: Slab<Channel>,
    by_topic: HashMap<Topic, ChannelIndex>,
    // By the name of a subscription: plain channels, and patterns.
    plain: HashMap<ChannelName, Vec<ChannelIndex>>,
    patterns: HashMap<ChannelName, Vec<ChannelIndex>>,
    lingering: BTreeSet<(Instant, ChannelIndex)>,
    restored: Vec<ChannelIndex>,
    ports: Ports,
    memory: Memory,
    settings: HubSettings,
    metrics: Metrics,
}

struct Channel {
    topic: Topic,
    confirmation: Confirmation,
    // One bit for each shard.
    shards: u128,
    linger: Duration,
    lingers_until: Option<Instant>,
    history: Option<History>,
    // The numbers at which it was opened, and at which its history was used last.
    opened: u64,
    used: u64,
    // Whether `Memory` knows that it keeps something.
    is_in_line: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirmation {
    Awaited,
    Given,
    // It was given, and then the connection was lost: something may be missing.
    Withdrawn,
}

impl Hub {
    /// A hub, and one link for each of `shards` shards, to be taken to their threads.
    pub fn new(settings: HubSettings, shards: usize, metrics: Metrics) -> (Self, Vec<ShardLink>) {
        debug_assert!(shards <= MAX_SHARDS);
        let run = Run::draw();
        let calls = Arc::new(Calls::new());
        let ports: Vec<Port> = (0..shards).map(|_| Port::new()).collect();
        let links = ports
            .iter()
            .enumerate()
            .map(|(shard, port)| ShardLink::new(shard, run, port.inbox(), Arc::clone(&calls)))
            .collect();
        let state = State {
            run,
            number: 0,
            channels: Slab::new(),
            by_topic: HashMap::new(),
            plain: HashMap::new(),
            patterns: HashMap::new(),
            lingering: BTreeSet::new(),
            restored: Vec::new(),
            ports: Ports::new(ports),
            memory: Memory::new(settings.history_memory),
            settings,
            metrics,
        };
        let hub =
            Self { state: Rc::new(RefCell::new(state)), calls, wishes: Rc::new(Interest::new()) };
        (hub, links)
    }

    /// Serves the shards: lets them join and leave channels, and leaves those that nobody has
    /// listened to for the time of their linger. Owned by the gateway; ends when it is dropped.
    pub async fn run(&self) {
        loop {
            let (linger, is_behind) = {
                let state = self.state.borrow();
                (state.next_linger(), state.ports.is_any_behind())
            };
            tokio::select! {
                () = self.calls.wait() => self.serve_calls(),
                () = sleep_until(linger) => self.leave_lingering(Instant::now()),
                // A shard that fell behind is owed a gap, also when nothing more is published.
                () = tokio::time::sleep(CATCH_UP_INTERVAL), if is_behind => {}
            }
            self.flush();
        }
    }

    /// What changed in what the source is to follow; waits until something has. Cancel safe.
    pub async fn wishes(&self) -> impl Iterator<Item = (Subscription, Wish)> + use<> {
        self.wishes.wait().await;
        self.wishes.take().into_iter()
    }

    /// Everything that the source is to follow: for a new connection.
    pub fn followed(&self) -> Vec<Subscription> {
        let state = self.state.borrow();
        let subscriptions = |names: &HashMap<ChannelName, _>, is_pattern| {
            names
                .keys()
                .map(|name| Subscription { name: name.clone(), is_pattern })
                .collect::<Vec<_>>()
        };
        let mut followed = subscriptions(&state.plain, false);
        followed.append(&mut subscriptions(&state.patterns, true));
        followed
    }

    /// Begins a message of the source: gives it the next number. A message that is heard through
    /// several subscriptions has one number, so that a stream that asked for both gets it once.
    pub fn begin_message(&self) {
        self.state.borrow_mut().number += 1;
    }

    /// The message is heard on this subscription: `decode` makes an event of it for each format in
    /// which it is read, or `None` where it cannot be.
    pub fn publish(
        &self,
        is_pattern: bool,
        name: &str,
        received: Instant,
        decode: impl FnMut(Format) -> Option<Event>,
    ) {
        self.state.borrow_mut().publish(is_pattern, name, received, decode);
    }

    /// The message on this subscription was skipped: it is too large.
    pub fn skip(&self, is_pattern: bool, name: &str) {
        let mut state = self.state.borrow_mut();
        let channels = state.heard_by(is_pattern, name).to_vec();
        state.gap(GapReason::TooLarge, &channels);
    }

    /// Whether anybody follows this subscription.
    pub fn is_followed(&self, is_pattern: bool, name: &str) -> bool {
        !self.state.borrow().heard_by(is_pattern, name).is_empty()
    }

    /// Whether any pattern is followed: only then a message may be heard more than once.
    pub fn follows_patterns(&self) -> bool {
        !self.state.borrow().patterns.is_empty()
    }

    /// The source listens to this subscription from now on.
    pub fn confirm(&self, is_pattern: bool, name: &str) {
        self.state.borrow_mut().confirm(is_pattern, name);
    }

    /// The source has lost its connection.
    pub fn lose(&self) {
        self.state.borrow_mut().lose();
        self.flush();
    }

    /// Everything that can be restored after a loss has been: tells the gap once, for all of it.
    pub fn restored(&self) {
        let mut state = self.state.borrow_mut();
        let restored = std::mem::take(&mut state.restored);
        state.gap(GapReason::RedisAway, &restored);
    }

    /// What the histories of all channels hold, in bytes.
    pub fn history_bytes(&self) -> usize {
        self.state.borrow().memory.held()
    }

    /// Hands the batches to the shards.
    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        let State { ports, number, metrics, memory, .. } = &mut *state;
        metrics.history_bytes(memory.held());
        ports.flush(*number, metrics);
    }

    /// Joins come first: what is asked of the past of a channel is asked by one who has joined it.
    fn serve_calls(&self) {
        let (joins, replays) = self.calls.take();
        for ((shard, topic), wanted) in joins {
            self.want(shard, topic, wanted);
        }
        for ((shard, member), asked) in replays {
            self.state.borrow_mut().replay(shard, member, &asked);
        }
    }

    fn want(&self, shard: usize, topic: Topic, wanted: Wanted) {
        match wanted {
            Wanted::Joined(joining) => self.join(shard, topic, joining),
            Wanted::Left => self.state.borrow_mut().leave(shard, &topic, Instant::now()),
        }
    }

    fn join(&self, shard: usize, topic: Topic, joining: Joining) {
        let subscription = topic.subscription.clone();
        let mut state = self.state.borrow_mut();
        if let Some(left) = state.make_room(&topic) {
            self.wishes.wish(left, Wish::Leave);
        }
        if state.join(shard, topic, joining) == Some(Joined::First) {
            self.wishes.wish(subscription, Wish::Follow);
        }
    }

    fn leave_lingering(&self, now: Instant) {
        for subscription in self.state.borrow_mut().leave_lingering(now) {
            self.wishes.wish(subscription, Wish::Leave);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    // The source has to be asked to follow it.
    First,
    Another,
}

impl State {
    fn join(&mut self, shard: usize, topic: Topic, joining: Joining) -> Option<Joined> {
        let Joining { linger, history, ticket } = joining;
        let known = self.by_topic.get(&topic).copied();
        if known.is_none() && self.is_full() {
            self.metrics.channel_refused();
            self.ports.tell(shard, Message::Refused { topic, ticket });
            return None;
        }
        let (index, joined) = match known {
            Some(index) => (index, Joined::Another),
            None => self.open(topic.clone()),
        };
        let number = self.number;
        let channel = &mut self.channels[index as usize];
        channel.shards |= 1 << shard;
        channel.linger = channel.linger.max(linger);
        if let Some(settings) = history {
            let kept = channel.history.get_or_insert_with(|| History::new(settings, number));
            kept.widen(settings);
        }
        if let Some(until) = channel.lingers_until.take() {
            self.lingering.remove(&(until, index));
        }
        let is_confirmed = channel.confirmation == Confirmation::Given;
        let channel = index;
        self.ports.tell(shard, Message::Joined { topic, ticket, channel, is_confirmed, number });
        Some(joined)
    }

    /// Answers with a piece of the past.
    fn replay(&mut self, shard: usize, member: MemberKey, asked: &ReplayCall) {
        let indices: Vec<ChannelIndex> =
            asked.topics.iter().filter_map(|topic| self.by_topic.get(topic).copied()).collect();
        let page = match asked.resume {
            // A number that we have not given yet is not ours either.
            Resume::After(after) if after <= self.number => {
                self.page(&indices, after, asked.max_bytes)
            }
            Resume::After(_) | Resume::Unknown => Page::unknown_id(indices, self.number),
        };
        self.ports.tell(shard, Message::Replay { member, page, number: self.number });
    }

    fn page(&mut self, indices: &[ChannelIndex], after: u64, max_bytes: usize) -> Page {
        let now = Instant::now();
        let number = self.number;
        for &index in indices {
            let channel = &mut self.channels[index as usize];
            let is_followed = channel.confirmation != Confirmation::Awaited;
            channel.used = number;
            if let Some(history) = &mut channel.history {
                let before = history.held();
                history.expire(now);
                self.memory.account(before, history.held());
                // What is not heard yet has no past that could be promised.
                if !is_followed {
                    history.begin(number);
                }
            }
        }
        let history = |&index| Some((index, self.channels[index as usize].history.as_ref()?));
        let histories: Vec<_> = indices.iter().filter_map(history).collect();
        history::page(&histories, after, max_bytes)
    }

    fn is_full(&self) -> bool {
        self.channels.len() >= self.settings.max_channels
    }

    /// Lets the channel that lingers with the least left make room for `topic`, where it needs it:
    /// names that nobody listens to any more starve nobody. Answers a subscription that is left.
    fn make_room(&mut self, topic: &Topic) -> Option<Subscription> {
        if !self.is_full() || self.by_topic.contains_key(topic) {
            return None;
        }
        let &(until, index) = self.lingering.first()?;
        self.close(until, index)
    }

    fn open(&mut self, topic: Topic) -> (ChannelIndex, Joined) {
        let Subscription { name, is_pattern } = topic.subscription.clone();
        let names = if is_pattern { &mut self.patterns } else { &mut self.plain };
        let readings = names.entry(name).or_default();
        // Another reading of what is followed already: whether that is confirmed holds for it too.
        let sibling = readings.first().map(|&sibling| self.channels[sibling as usize].confirmation);
        let joined = if sibling.is_none() { Joined::First } else { Joined::Another };
        let index = self.channels.insert(Channel {
            topic: topic.clone(),
            confirmation: match sibling {
                Some(Confirmation::Given) => Confirmation::Given,
                _ => Confirmation::Awaited,
            },
            shards: 0,
            linger: Duration::ZERO,
            lingers_until: None,
            history: None,
            opened: self.number,
            used: self.number,
            is_in_line: false,
        });
        let index = ChannelIndex::try_from(index).expect("max_channels is below 2^32");
        readings.push(index);
        self.by_topic.insert(topic, index);
        self.metrics.channels(self.channels.len());
        (index, joined)
    }

    fn leave(&mut self, shard: usize, topic: &Topic, now: Instant) {
        let Some(&index) = self.by_topic.get(topic) else {
            return;
        };
        let channel = &mut self.channels[index as usize];
        channel.shards &= !(1 << shard);
        if channel.shards == 0 && channel.lingers_until.is_none() {
            let until = now + channel.linger;
            channel.lingers_until = Some(until);
            self.lingering.insert((until, index));
        }
    }

    fn next_linger(&self) -> Option<Instant> {
        self.lingering.first().map(|&(until, _)| until)
    }

    /// Closes the channels whose linger is over; answers the subscriptions that nobody reads now.
    fn leave_lingering(&mut self, now: Instant) -> Vec<Subscription> {
        let mut left = Vec::new();
        while let Some(&(until, index)) = self.lingering.first() {
            if until > now {
                break;
            }
            left.extend(self.close(until, index));
        }
        self.metrics.channels(self.channels.len());
        left
    }

    fn close(&mut self, until: Instant, index: ChannelIndex) -> Option<Subscription> {
        self.lingering.remove(&(until, index));
        let channel = self.channels.remove(index as usize);
        if let Some(history) = &channel.history {
            self.memory.account(history.held(), 0);
        }
        self.by_topic.remove(&channel.topic);
        self.restored.retain(|&restored| restored != index);
        let Subscription { name, is_pattern } = channel.topic.subscription;
        let names = if is_pattern { &mut self.patterns } else { &mut self.plain };
        let readings = names.get_mut(&name).expect("an open channel is listed under its name");
        readings.retain(|&reading| reading != index);
        if !readings.is_empty() {
            return None;
        }
        names.remove(&name);
        Some(Subscription { name, is_pattern })
    }

    fn heard_by(&self, is_pattern: bool, name: &str) -> &[ChannelIndex] {
        let names = if is_pattern { &self.patterns } else { &self.plain };
        names.get(name).map_or(&[], Vec::as_slice)
    }

    fn publish(
        &mut self,
        is_pattern: bool,
        name: &str,
        received: Instant,
        mut decode: impl FnMut(Format) -> Option<Event>,
    ) {
        let names = if is_pattern { &self.patterns } else { &self.plain };
        for &index in names.get(name).map_or(&[][..], Vec::as_slice) {
            let channel = &mut self.channels[index as usize];
            if channel.shards == 0 && channel.history.is_none() {
                continue;
            }
            let Some(event) = decode(channel.topic.format) else {
                continue;
            };
            let number = self.number;
            let frame = match channel.topic.ids {
                Ids::Ours => encode::frame(&event, Some(&self.run.at(number).to_string())),
                Ids::Publisher => encode::frame(&event, event.id.as_deref()),
            };
            self.ports.deal(channel.shards, || Message::Event {
                channel: index,
                number,
                frame: frame.clone(),
                received,
            });
            channel.keep(index, number, Kept::Event(frame), received, &mut self.memory);
        }
        self.stay_within_memory();
    }

    fn stay_within_memory(&mut self) {
        let channels = &mut self.channels;
        while let Some(index) = self.memory.next_to_go(|keeper| {
            let channel = channels.get(keeper.channel as usize)?;
            (channel.opened == keeper.opened).then_some(channel.used)
        }) {
            if let Some(history) = &mut channels[index as usize].history {
                let before = history.held();
                history.forget_all(self.number);
                self.memory.account(before, history.held());
                channels[index as usize].is_in_line = false;
            }
        }
    }

    fn confirm(&mut self, is_pattern: bool, name: &str) {
        let names = if is_pattern { &self.patterns } else { &self.plain };
        for &index in names.get(name).map_or(&[][..], Vec::as_slice) {
            let channel = &mut self.channels[index as usize];
            match channel.confirmation {
                Confirmation::Given => continue,
                Confirmation::Awaited => {
                    if let Some(history) = &mut channel.history {
                        history.begin(self.number);
                    }
                }
                Confirmation::Withdrawn => self.restored.push(index),
            }
            channel.confirmation = Confirmation::Given;
            let number = self.number;
            self.ports.deal(channel.shards, || Message::Confirmed { channel: index, number });
        }
    }

    fn lose(&mut self) {
        for (_, channel) in &mut self.channels {
            if channel.confirmation == Confirmation::Given {
                channel.confirmation = Confirmation::Withdrawn;
            }
        }
        // A gap that has not been told yet is told when they are confirmed again.
        for index in self.restored.drain(..) {
            self.channels[index as usize].confirmation = Confirmation::Withdrawn;
        }
        self.ports.tell_all(&Message::Lost);
    }

    /// Tells a gap to all who listen, and keeps it for those who come back.
    fn gap(&mut self, reason: GapReason, channels: &[ChannelIndex]) {
        if channels.is_empty() {
            return;
        }
        // A position of its own: whoever has the last event has not heard of the gap yet.
        self.number += 1;
        let now = Instant::now();
        for &index in channels {
            let channel = &mut self.channels[index as usize];
            channel.keep(index, self.number, Kept::Gap(reason), now, &mut self.memory);
        }
        let gap = Message::Gap { reason, channels: channels.into(), number: self.number };
        self.ports.tell_all(&gap);
    }
}

impl Channel {
    fn keep(
        &mut self,
        index: ChannelIndex,
        number: u64,
        kept: Kept,
        received: Instant,
        memory: &mut Memory,
    ) {
        let Some(history) = &mut self.history else {
            return;
        };
        let before = history.held();
        history.push(number, kept, received);
        memory.account(before, history.held());
        self.used = number;
        if !std::mem::replace(&mut self.is_in_line, true) {
            memory.enter(Keeper { channel: index, opened: self.opened }, number);
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
