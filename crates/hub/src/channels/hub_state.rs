//! The channels themselves: their numbers, their histories, and the shards that have joined them.
//!
//! Decides, and sends what it decided to the shards, in that order. Sources and tasks are not known here.

use std::collections::HashMap;
use std::time::Duration;

use slab::Slab;
use ssegate_format::Format;
use ssegate_sse::{Event, encode};
use tokio::time::Instant;

use super::channel::{Channel, Confirmation, NewEvent};
use super::fleet::Fleet;
use super::lingering::{Linger, Lingering};
use super::name_index::NameIndex;
use super::numbers::Numbers;
use super::pending_log_read::PendingLogRead;
use crate::Observer;
use crate::Topic;
use crate::fleet::name::{EventName, SubscriptionTag, payload_check};
use crate::gap::GapReason;
use crate::history::History;
use crate::history::budget::HistoryBudget;
use crate::history::record::RecordContent;
use crate::history::retention::Retention;
use crate::inbox::message::{ChannelStart, Message};
use crate::inbox::shard_sender::ShardSenders;
use crate::position::event_id::{EventId, RunTag};
use crate::requests::shard_request::{JoinRequest, ReplayRequest, StreamAddress};
use crate::settings::HubSettings;
use crate::subject::{ChannelIndex, Subject};
use crate::{EntryId, Ids};

/// The state of the hub.
pub(super) struct HubState {
    pub(super) run: RunTag,
    pub(super) numbers: Numbers,
    // Of the newest message: its channel, where it may match patterns, and a hash of its payload.
    pattern_subject: Subject,
    check: u16,
    pub(super) fleet: Fleet,
    pub(super) channels: Slab<Channel>,
    pub(super) by_topic: HashMap<Topic, ChannelIndex>,
    pub(super) names: NameIndex,
    pub(super) lingering: Lingering,
    // Channels that were confirmed again after a loss: their gap is still to be sent.
    pub(super) restored: Vec<ChannelIndex>,
    pub(super) senders: ShardSenders,
    pub(super) budget: HistoryBudget,
    // Replays that wait until all channels are confirmed.
    pub(super) waiting: HashMap<StreamAddress, ReplayRequest>,
    pub(super) pending_log_reads: HashMap<StreamAddress, PendingLogRead>,
    pub(super) settings: HubSettings,
    pub(super) observer: Box<dyn Observer>,
}

impl HubState {
    pub(super) fn new(
        run: RunTag,
        senders: ShardSenders,
        settings: HubSettings,
        observer: Box<dyn Observer>,
    ) -> Self {
        Self {
            run,
            numbers: Numbers::default(),
            pattern_subject: Subject::of(0),
            check: 0,
            fleet: Fleet::default(),
            channels: Slab::new(),
            by_topic: HashMap::new(),
            names: NameIndex::default(),
            lingering: Lingering::default(),
            restored: Vec::new(),
            senders,
            budget: HistoryBudget::new(settings.history_memory),
            waiting: HashMap::new(),
            pending_log_reads: HashMap::new(),
            settings,
            observer,
        }
    }

    /// Joins a shard to a channel, which is opened if it is new. Returns a topic that the source must
    /// follow for that.
    pub(super) fn join(&mut self, request: JoinRequest) -> Option<Topic> {
        let JoinRequest { shard, topic, linger, history, ticket } = request;
        let retention = self.retention_for(&topic, Retention { history, linger });
        let known = self.by_topic.get(&topic).copied();
        if known.is_none() && self.is_full() {
            self.observer.channel_refused();
            self.senders.send_to(shard, Message::Refused { topic, ticket });
            return None;
        }
        let (index, is_first) = match known {
            Some(index) => (index, false),
            None => self.open(topic.clone()),
        };
        self.retain(index, retention);
        let channel = &mut self.channels[index as usize];
        channel.shards |= 1 << shard;
        if let Some(linger) = channel.lingers.take() {
            self.lingering.remove(index, linger);
        }
        // A stream that is sent its position from now on stands behind the confirmation.
        let number = self.numbers.settled();
        debug_assert!(!channel.is_confirmed() || channel.confirmed <= number);
        let confirmed = channel.is_confirmed().then(|| ChannelStart {
            number: channel.confirmed,
            newest: channel.newest_message(channel.confirmed).unwrap_or_default(),
            entry: channel.newest_entry,
        });
        let message = Message::Joined {
            topic: topic.clone(),
            ticket,
            channel: index,
            confirmed: confirmed.map(Box::new),
            number,
        };
        self.senders.send_to(shard, message);
        is_first.then_some(topic)
    }

    /// Closes the channel that has been without subscribers for longest, if `topic` needs its room.
    /// Returns a topic that the source must leave for that.
    pub(super) fn make_room(&mut self, topic: &Topic) -> Option<Topic> {
        if !self.is_full() || self.by_topic.contains_key(topic) {
            return None;
        }
        let longest = self.lingering.longest()?;
        self.close(longest)
    }

    /// The last subscriber of a shard has left the channel.
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

    /// When the linger of a channel ends next.
    pub(super) fn next_linger_end(&self) -> Option<Instant> {
        self.lingering.next_end().map(|(until, _)| until)
    }

    /// Closes the channels whose linger is over; returns the topics that the source must leave.
    pub(super) fn close_lingering(&mut self, now: Instant) -> Vec<Topic> {
        let mut left = Vec::new();
        while let Some((until, index)) = self.lingering.next_end() {
            if until > now {
                break;
            }
            left.extend(self.close(index));
        }
        self.observer.channels(self.channels.len());
        left
    }

    /// Begins a message that was published to `channel`.
    pub(super) fn begin_message(&mut self, channel: &[u8], payload: Option<&[u8]>) {
        self.numbers.begin_message();
        self.check = payload.filter(|_| self.fleet.has_marks()).map_or(0, payload_check);
        if !self.names.patterns.is_empty() {
            self.pattern_subject = Subject::named(channel);
        }
    }

    /// A copy of the message has come on this subscription. `decode` makes an event of it for each format
    /// in which it is read.
    pub(super) fn publish(
        &mut self,
        is_pattern: bool,
        name: &str,
        received: Instant,
        mut decode: impl FnMut(Format) -> Option<Event>,
    ) {
        let mark = self.fleet.newest_mark();
        for &index in self.names.of_subscription(is_pattern, name) {
            let channel = &mut self.channels[index as usize];
            let name = channel.count(mark, self.check);
            if !channel.takes_messages() {
                continue;
            }
            let Some(event) = decode(channel.topic.format) else {
                continue;
            };
            let number = self.numbers.message();
            let frame = match channel.topic.ids {
                Ids::Ours => {
                    let id = EventId { place: channel.place(name), ..self.run.at(number) };
                    encode::frame(&event, Some(&id.to_string()))
                }
                Ids::Publisher | Ids::Entries => encode::frame(&event, event.id.as_deref()),
            };
            let subject = if is_pattern { self.pattern_subject } else { Subject::of(index) };
            let event = NewEvent { number, name, subject, frame, received };
            channel.publish(event, &mut self.senders, &mut self.budget);
        }
        self.fleet.message(received);
        self.evict_histories();
    }

    /// A copy of the message has come on this subscription, and is too large. The gap has the number of
    /// the message, so that a stream is sent one for all copies.
    pub(super) fn skip(&mut self, is_pattern: bool, name: &str) {
        let (reason, number, now) = (GapReason::TooLarge, self.numbers.message(), Instant::now());
        let mark = self.fleet.newest_mark();
        for &index in self.names.of_subscription(is_pattern, name) {
            let channel = &mut self.channels[index as usize];
            let name = channel.count(mark, self.check);
            if !channel.takes_messages() {
                continue;
            }
            channel.keep(number, (RecordContent::Gap(reason), name), now, &mut self.budget);
            channel.send_gap(reason, (number, name), &mut self.senders);
        }
        self.fleet.message(now);
        self.evict_histories();
    }

    /// Evicts histories until all of them are within their bound.
    pub(super) fn evict_histories(&mut self) {
        let channels = &mut self.channels;
        while let Some(index) = self.budget.evict(|known| {
            let channel = channels.get(known.index as usize)?;
            (channel.opened == known.opened).then_some(channel.used)
        }) {
            let channel = &mut channels[index as usize];
            channel.change_history(&mut self.budget, History::evict);
            channel.is_budgeted = false;
        }
    }

    /// Sends a gap to all subscribers of these channels, and keeps it for clients that come back.
    pub(super) fn gap(&mut self, reason: GapReason, channels: &[ChannelIndex]) {
        if channels.is_empty() {
            return;
        }
        // A number of its own: a client with the id of the last event has not been sent the gap.
        let number = self.numbers.take();
        let now = Instant::now();
        for &index in channels {
            let channel = &mut self.channels[index as usize];
            let record = (RecordContent::Gap(reason), EventName::default());
            channel.keep(number, record, now, &mut self.budget);
            channel.whole_since = Some(number);
        }
        let (channels, name) = (channels.into(), EventName::default());
        let gap = Message::Gap { reason, channels, number, name, entry: None };
        self.senders.send_to_all(&gap);
    }

    pub(super) fn is_full(&self) -> bool {
        self.channels.len() >= self.settings.max_channels
    }

    /// Opens a channel; returns whether it is the first one of its subscription.
    pub(super) fn open(&mut self, topic: Topic) -> (ChannelIndex, bool) {
        let siblings = self.names.of(&topic).entry(topic.subscription.name.clone()).or_default();
        // Another channel of the subscription: whether that is confirmed holds for this one, too.
        let sibling = siblings.first().map(|&sibling| {
            let sibling = &self.channels[sibling as usize];
            (sibling.confirmation, sibling.confirmed, sibling.newest_entry)
        });
        let first = siblings.first().map(|&sibling| &self.channels[sibling as usize]);
        let (counted, whole_since) =
            first.map(|first| (first.counted, first.whole_since)).unwrap_or_default();
        let tag = SubscriptionTag::of(&topic.subscription);
        let entry = self.channels.vacant_entry();
        let index = ChannelIndex::try_from(entry.key()).expect("max_channels is below 2^32");
        entry.insert(Channel {
            topic: topic.clone(),
            index,
            confirmation: match sibling {
                Some((Confirmation::Given, ..)) => Confirmation::Given,
                _ => Confirmation::Awaited,
            },
            confirmed: sibling.map_or(0, |(_, confirmed, _)| confirmed),
            whole_since,
            tag,
            counted,
            answers: Vec::new(),
            shards: 0,
            linger: Duration::ZERO,
            lingers: None,
            history: None,
            newest_entry: sibling.map_or(EntryId::ZERO, |(.., entry)| entry),
            waiting: Vec::new(),
            opened: self.numbers.newest(),
            used: self.numbers.newest(),
            is_budgeted: false,
        });
        siblings.push(index);
        self.by_topic.insert(topic, index);
        self.observer.channels(self.channels.len());
        (index, sibling.is_none())
    }

    /// Closes a channel. Returns its topic if it was the last one of its subscription.
    fn close(&mut self, index: ChannelIndex) -> Option<Topic> {
        let channel = self.channels.remove(index as usize);
        if let Some(linger) = channel.lingers {
            self.lingering.remove(index, linger);
        }
        if let Some(history) = &channel.history {
            self.budget.account(history.held(), 0);
        }
        self.by_topic.remove(&channel.topic);
        self.restored.retain(|&restored| restored != index);
        self.senders.forget(index);
        let channels = &self.channels;
        self.budget.note_closed(|known| {
            let channel = channels.get(known.index as usize);
            channel.is_some_and(|channel| channel.opened == known.opened)
        });
        let (name, names) = (&channel.topic.subscription.name, self.names.of(&channel.topic));
        let siblings = names.get_mut(name).expect("an open channel is in the index");
        siblings.retain(|sibling| *sibling != index);
        if !siblings.is_empty() {
            return None;
        }
        names.remove(name);
        Some(channel.topic)
    }
}
