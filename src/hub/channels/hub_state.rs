//! The channels themselves: their numbers, their histories, and the shards that have joined them.
//!
//! Decides and notes; whom its decisions concern is told through the ports, in their order.

use std::collections::HashMap;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::channel::{Channel, Confirmation};
use super::lingering::{Linger, Lingering};
use super::logs::LogCalls;
use super::name_index::NameIndex;
use super::numbers::Numbers;
use crate::event::{EntryId, Event, Format, Ids, Topic};
use crate::hub::HubSettings;
use crate::hub::gap::GapReason;
use crate::hub::history::budget::HistoryBudget;
use crate::hub::history::retention::Retention;
use crate::hub::history::{History, RecordContent};
use crate::hub::inbox::shard_sender::ShardSenders;
use crate::hub::inbox::{ChannelIndex, Message};
use crate::hub::position::event_id::RunTag;
use crate::hub::requests::shard_request::{Caller, Joining, ReplayCall};
use crate::hub::subject::Subject;
use crate::metrics::Metrics;
use crate::sse::encode;

/// What the hub knows.
pub(super) struct HubState {
    run: RunTag,
    pub(super) numbers: Numbers,
    // The channel of the message that is being heard, where patterns may hear it.
    heard_on: Subject,
    pub(super) channels: Slab<Channel>,
    pub(super) by_topic: HashMap<Topic, ChannelIndex>,
    pub(super) names: NameIndex,
    pub(super) lingering: Lingering,
    pub(super) restored: Vec<ChannelIndex>,
    pub(super) ports: ShardSenders,
    pub(super) memory: HistoryBudget,
    // Who waits until all its channels are confirmed, and for what.
    pub(super) waiting: HashMap<Caller, ReplayCall>,
    pub(super) log_calls: LogCalls,
    pub(super) settings: HubSettings,
    pub(super) metrics: Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    // The source has to be asked to follow it.
    First,
    Another,
}

impl HubState {
    pub(super) fn new(
        run: RunTag,
        ports: ShardSenders,
        settings: HubSettings,
        metrics: Metrics,
    ) -> Self {
        Self {
            run,
            numbers: Numbers::default(),
            heard_on: Subject::of(0),
            channels: Slab::new(),
            by_topic: HashMap::new(),
            names: NameIndex::default(),
            lingering: Lingering::default(),
            restored: Vec::new(),
            ports,
            memory: HistoryBudget::new(settings.history_memory),
            waiting: HashMap::new(),
            log_calls: LogCalls::default(),
            settings,
            metrics,
        }
    }

    pub(super) fn join(&mut self, shard: usize, topic: Topic, joining: Joining) -> Option<Joined> {
        let Joining { linger, history, ticket } = joining;
        let retention = self.retention_for(&topic, Retention { history, linger });
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
        self.retain(index, retention);
        let channel = &mut self.channels[index as usize];
        channel.shards |= 1 << shard;
        if let Some(linger) = channel.lingers.take() {
            self.lingering.remove(index, linger);
        }
        let (entry, is_confirmed) = (channel.entry, channel.confirmation == Confirmation::Given);
        // Whoever is told a position from now on stands behind the confirmation.
        let number = self.numbers.settled();
        debug_assert!(!is_confirmed || channel.confirmed <= number);
        let channel = index;
        let message = Message::Joined { topic, ticket, channel, is_confirmed, number, entry };
        self.ports.tell(shard, message);
        Some(joined)
    }

    fn is_full(&self) -> bool {
        self.channels.len() >= self.settings.max_channels
    }

    /// Lets the channel that has lingered longest make room for `topic`, where it needs it: names
    /// that nobody listens to any more starve nobody. Answers a topic whose subscription is left.
    pub(super) fn make_room(&mut self, topic: &Topic) -> Option<Topic> {
        if !self.is_full() || self.by_topic.contains_key(topic) {
            return None;
        }
        let longest = self.lingering.longest()?;
        self.close(longest)
    }

    fn open(&mut self, topic: Topic) -> (ChannelIndex, Joined) {
        let readings = self.names.of(&topic).entry(topic.subscription.name.clone()).or_default();
        // Another reading of what is followed already: whether that is confirmed holds for it too.
        let sibling = readings.first().map(|&sibling| {
            let sibling = &self.channels[sibling as usize];
            (sibling.confirmation, sibling.confirmed, sibling.entry)
        });
        let joined = if sibling.is_none() { Joined::First } else { Joined::Another };
        let index = self.channels.insert(Channel {
            topic: topic.clone(),
            confirmation: match sibling {
                Some((Confirmation::Given, ..)) => Confirmation::Given,
                _ => Confirmation::Awaited,
            },
            shards: 0,
            linger: Duration::ZERO,
            lingers: None,
            history: None,
            entry: sibling.map_or(EntryId::ZERO, |(.., entry)| entry),
            awaited_by: Vec::new(),
            confirmed: sibling.map_or(0, |(_, confirmed, _)| confirmed),
            opened: self.numbers.newest(),
            used: self.numbers.newest(),
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
        if channel.shards == 0 && channel.lingers.is_none() {
            let linger = Linger { since: now, until: now + channel.linger };
            channel.lingers = Some(linger);
            self.lingering.add(index, linger);
        }
    }

    pub(super) fn next_linger(&self) -> Option<Instant> {
        self.lingering.next_end().map(|(until, _)| until)
    }

    /// Closes the channels whose linger is over; answers those whose subscriptions nobody reads now.
    pub(super) fn leave_lingering(&mut self, now: Instant) -> Vec<Topic> {
        let mut left = Vec::new();
        while let Some((until, index)) = self.lingering.next_end() {
            if until > now {
                break;
            }
            left.extend(self.close(index));
        }
        self.metrics.channels(self.channels.len());
        left
    }

    fn close(&mut self, index: ChannelIndex) -> Option<Topic> {
        let channel = self.channels.remove(index as usize);
        if let Some(linger) = channel.lingers {
            self.lingering.remove(index, linger);
        }
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
        let (name, names) = (&channel.topic.subscription.name, self.names.of(&channel.topic));
        let readings = names.get_mut(name).expect("an open channel is listed under its name");
        readings.retain(|reading| *reading != index);
        if !readings.is_empty() {
            return None;
        }
        names.remove(name);
        Some(channel.topic)
    }

    pub(super) fn begin_message(&mut self, channel: &[u8]) {
        self.numbers.begin_message();
        if !self.names.patterns.is_empty() {
            self.heard_on = Subject::named(channel);
        }
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
            let is_wanted = channel.shards != 0 || channel.history.is_some();
            // A subscription that was left and is asked for again may still be heard: what comes
            // before it is confirmed is no beginning of anything.
            if !is_wanted || channel.confirmation != Confirmation::Given {
                continue;
            }
            let Some(event) = decode(channel.topic.format) else {
                continue;
            };
            let number = self.numbers.message();
            let frame = match channel.topic.ids {
                Ids::Ours => encode::frame(&event, Some(&self.run.at(number).to_string())),
                Ids::Publisher | Ids::Entries => encode::frame(&event, event.id.as_deref()),
            };
            let subject = if is_pattern { self.heard_on } else { Subject::of(index) };
            self.ports.deal(channel.shards, || Message::Event {
                channel: index,
                subject,
                number,
                frame: frame.clone(),
                received,
            });
            let kept = RecordContent::Event(frame, subject);
            channel.keep(index, number, kept, received, &mut self.memory);
        }
        self.stay_within_memory();
    }

    pub(super) fn stay_within_memory(&mut self) {
        let channels = &mut self.channels;
        while let Some(index) = self.memory.next_to_go(|keeper| {
            let channel = channels.get(keeper.channel as usize)?;
            (channel.opened == keeper.opened).then_some(channel.used)
        }) {
            let channel = &mut channels[index as usize];
            channel.change_history(&mut self.memory, History::forget_all);
            channel.is_in_line = false;
        }
    }

    /// Tells a gap to all who listen, and keeps it for those who come back.
    pub(super) fn gap(&mut self, reason: GapReason, channels: &[ChannelIndex]) {
        if channels.is_empty() {
            return;
        }
        // A position of its own: whoever has the last event has not heard of the gap yet.
        let number = self.numbers.take();
        let now = Instant::now();
        for &index in channels {
            let channel = &mut self.channels[index as usize];
            channel.keep(index, number, RecordContent::Gap(reason), now, &mut self.memory);
        }
        let gap = Message::Gap { reason, channels: channels.into(), number };
        self.ports.tell_all(&gap);
    }
}
