//! The channels themselves: their numbers, their histories, and the shards that have joined them.
//!
//! Decides and notes; whom its decisions concern is told through the ports, in their order.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::event::{ChannelName, Event, Format, Ids, Subscription, Topic};
use crate::hub::HubSettings;
use crate::hub::calls::{Joining, ReplayCall};
use crate::hub::gap::GapReason;
use crate::hub::history::{self, History, Kept, Page};
use crate::hub::inbox::{ChannelIndex, Message};
use crate::hub::memory::{Keeper, Memory};
use crate::hub::port::Ports;
use crate::hub::position::{Resume, Run};
use crate::hub::rounds::MemberKey;
use crate::metrics::Metrics;
use crate::sse::encode;

/// What the hub knows.
pub(super) struct State {
    run: Run,
    pub(super) number: u64,
    channels: Slab<Channel>,
    by_topic: HashMap<Topic, ChannelIndex>,
    pub(super) names: Names,
    lingering: BTreeSet<(Instant, ChannelIndex)>,
    pub(super) restored: Vec<ChannelIndex>,
    pub(super) ports: Ports,
    pub(super) memory: Memory,
    settings: HubSettings,
    pub(super) metrics: Metrics,
}

/// The channels by what the source listens to: each subscription with its readings.
#[derive(Default)]
pub(super) struct Names {
    pub(super) plain: HashMap<ChannelName, Vec<ChannelIndex>>,
    pub(super) patterns: HashMap<ChannelName, Vec<ChannelIndex>>,
}

impl Names {
    fn of_kind(&mut self, is_pattern: bool) -> &mut HashMap<ChannelName, Vec<ChannelIndex>> {
        if is_pattern { &mut self.patterns } else { &mut self.plain }
    }

    /// The readings of a subscription; none where nobody follows it.
    pub(super) fn readings(&self, is_pattern: bool, name: &str) -> &[ChannelIndex] {
        let names = if is_pattern { &self.patterns } else { &self.plain };
        names.get(name).map_or(&[], Vec::as_slice)
    }
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    // The source has to be asked to follow it.
    First,
    Another,
}

impl State {
    pub(super) fn change(&mut self, settings: HubSettings) {
        self.memory.hold(settings.history_memory);
        self.settings = settings;
    }

    pub(super) fn new(run: Run, ports: Ports, settings: HubSettings, metrics: Metrics) -> Self {
        Self {
            run,
            number: 0,
            channels: Slab::new(),
            by_topic: HashMap::new(),
            names: Names::default(),
            lingering: BTreeSet::new(),
            restored: Vec::new(),
            ports,
            memory: Memory::new(settings.history_memory),
            settings,
            metrics,
        }
    }

    pub(super) fn join(&mut self, shard: usize, topic: Topic, joining: Joining) -> Option<Joined> {
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
    pub(super) fn replay(&mut self, shard: usize, member: MemberKey, asked: &ReplayCall) {
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
            channel.change_history(&mut self.memory, |history| {
                history.expire(now);
                // What is not heard yet has no past that could be promised.
                if !is_followed {
                    history.begin(number);
                }
            });
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
    pub(super) fn make_room(&mut self, topic: &Topic) -> Option<Subscription> {
        if !self.is_full() || self.by_topic.contains_key(topic) {
            return None;
        }
        let &(until, index) = self.lingering.first()?;
        self.close(until, index)
    }

    fn open(&mut self, topic: Topic) -> (ChannelIndex, Joined) {
        let Subscription { name, is_pattern } = topic.subscription.clone();
        let readings = self.names.of_kind(is_pattern).entry(name).or_default();
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

    pub(super) fn leave(&mut self, shard: usize, topic: &Topic, now: Instant) {
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

    pub(super) fn next_linger(&self) -> Option<Instant> {
        self.lingering.first().map(|&(until, _)| until)
    }

    /// Closes the channels whose linger is over; answers the subscriptions that nobody reads now.
    pub(super) fn leave_lingering(&mut self, now: Instant) -> Vec<Subscription> {
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
        self.ports.forget(index);
        let channels = &self.channels;
        self.memory.left(|keeper| {
            let channel = channels.get(keeper.channel as usize);
            channel.is_some_and(|channel| channel.opened == keeper.opened)
        });
        let Subscription { name, is_pattern } = channel.topic.subscription;
        let names = self.names.of_kind(is_pattern);
        let readings = names.get_mut(&name).expect("an open channel is listed under its name");
        readings.retain(|&reading| reading != index);
        if !readings.is_empty() {
            return None;
        }
        names.remove(&name);
        Some(Subscription { name, is_pattern })
    }

    pub(super) fn publish(
        &mut self,
        is_pattern: bool,
        name: &str,
        received: Instant,
        mut decode: impl FnMut(Format) -> Option<Event>,
    ) {
        for &index in self.names.readings(is_pattern, name) {
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
            let channel = &mut channels[index as usize];
            channel.change_history(&mut self.memory, |history| history.forget_all(self.number));
            channel.is_in_line = false;
        }
    }

    pub(super) fn confirm(&mut self, is_pattern: bool, name: &str) {
        for &index in self.names.readings(is_pattern, name) {
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

    pub(super) fn lose(&mut self) {
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
    pub(super) fn gap(&mut self, reason: GapReason, channels: &[ChannelIndex]) {
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
        if !self.change_history(memory, |history| history.push(number, kept, received)) {
            return;
        }
        self.used = number;
        if !std::mem::replace(&mut self.is_in_line, true) {
            memory.enter(Keeper { channel: index, opened: self.opened }, number);
        }
    }

    /// Changes the history, where there is one, and notes by how much it has grown; answers whether
    /// there is one.
    fn change_history(&mut self, memory: &mut Memory, change: impl FnOnce(&mut History)) -> bool {
        let Some(history) = &mut self.history else {
            return false;
        };
        let before = history.held();
        change(history);
        memory.account(before, history.held());
        true
    }
}
