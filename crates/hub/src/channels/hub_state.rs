//! The channels themselves: their numbers, their histories, and the shards that have joined them.
//!
//! Decides, and sends what it decided to the shards, in that order. Sources and tasks are not known here.

use std::collections::HashMap;

use slab::Slab;
use ssegate_format::Format;
use ssegate_sse::Event;
use tokio::time::Instant;

use super::channel::Channel;
use super::delivery::MessageDelivery;
use super::followed::FollowedPatterns;
use super::lingering::Lingering;
use super::name_index::NameIndex;
use super::numbers::Numbers;
use super::pending_log_read::PendingLogRead;
use crate::Observer;
use crate::Topic;
use crate::fleet::member::Fleet;
use crate::fleet::name::{EventName, payload_check};
use crate::fleet::order_id::OrderId;
use crate::fleet::orders::NodeOrders;
use crate::gap::GapReason;
use crate::history::History;
use crate::history::budget::HistoryBudget;
use crate::history::record::RecordContent;
use crate::history::retention::Retention;
use crate::inbox::message::{ChannelStart, Message};
use crate::inbox::shard_sender::ShardSenders;
use crate::position::event_id::RunTag;
use crate::requests::shard_request::{JoinRequest, ReplayRequest, StreamAddress};
use crate::settings::HubSettings;
use crate::subject::{ChannelIndex, Subject};

/// The state of the hub.
pub(super) struct HubState {
    pub(super) run: RunTag,
    pub(super) numbers: Numbers,
    // Of the newest message: its subject, for patterns that match its channel, and a hash of its payload.
    pattern_subject: Subject,
    check: u16,
    // The fleet of the pub/sub connection, and that of each node with sharded channels.
    pub(super) fleet: Fleet,
    pub(super) nodes: NodeOrders,
    // The order in which the newest message came.
    message_order: OrderId,
    // The runs of earlier processes with whose histories this one goes on, each with the newest of its numbers.
    pub(super) earlier_runs: Vec<(RunTag, u64)>,
    // Numbers up to here are those of an earlier process, which may still run.
    pub(super) begins_after: u64,
    // Answers of other gateways count for questions from this number on.
    pub(super) answers_from: u64,
    // After a reload: the patterns still have to be changed, once no copy of the newest message may follow.
    pub(super) is_change_due: bool,
    // The gateway drains: its channels stay followed, for the next process.
    pub(super) is_draining: bool,
    // Whether a shard has ever joined a channel.
    pub(super) was_joined: bool,
    pub(super) channels: Slab<Channel>,
    pub(super) by_topic: HashMap<Topic, ChannelIndex>,
    pub(super) names: NameIndex,
    pub(super) followed: FollowedPatterns,
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
            nodes: NodeOrders::default(),
            message_order: OrderId::PLAIN,
            earlier_runs: Vec::new(),
            begins_after: 0,
            answers_from: 0,
            is_change_due: false,
            is_draining: false,
            was_joined: false,
            channels: Slab::new(),
            by_topic: HashMap::new(),
            names: NameIndex::default(),
            followed: FollowedPatterns::default(),
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
        self.was_joined = true;
        let retention = self.retention_for(&topic, Retention { history, linger });
        let known = self.by_topic.get(&topic).copied();
        let fed_since = if known.is_none() { self.make_room(&topic) } else { None };
        if known.is_none() && self.is_full() {
            self.observer.channel_refused();
            self.senders.send_to(shard, Message::Refused { topic, ticket });
            return None;
        }
        let (index, must_follow) = match known {
            Some(index) => {
                self.retain(index, retention);
                (index, false)
            }
            None => self.open(topic.clone(), retention, fed_since),
        };
        let channel = &mut self.channels[index as usize];
        channel.shards |= 1 << shard;
        if let Some(linger) = channel.lingers.take() {
            self.lingering.remove(index, linger);
        }
        // A stream that is sent its position from now on stands behind the confirmation.
        let number = self.numbers.settled();
        debug_assert!(!channel.is_confirmed() || channel.confirmed <= self.numbers.newest());
        let confirmed = channel.is_confirmed().then(|| ChannelStart {
            number: channel.confirmed,
            order: channel.order,
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
        if channel.is_ended {
            self.senders.send_to(shard, Message::Ended { channel: index, number });
        }
        must_follow.then_some(topic)
    }

    /// The last subscriber of a shard has left the channel.
    pub(super) fn leave(&mut self, shard: usize, topic: &Topic, now: Instant) {
        let Some(&index) = self.by_topic.get(topic) else {
            return;
        };
        let channel = &mut self.channels[index as usize];
        channel.shards &= !(1 << shard);
        if channel.shards == 0 && channel.lingers.is_none() {
            self.begin_linger(index, now);
        }
    }

    /// When the linger of a channel ends next.
    pub(super) fn next_linger_end(&self) -> Option<Instant> {
        let next = self.lingering.next_end().filter(|_| !self.is_draining);
        next.map(|(until, _)| until)
    }

    /// Closes the channels whose linger is over; returns the topics that the source must leave.
    pub(super) fn close_lingering(&mut self, now: Instant) -> Vec<Topic> {
        let mut left = Vec::new();
        while let Some((until, index)) = self.lingering.next_end() {
            if until > now || self.is_draining {
                break;
            }
            left.extend(self.close(index));
        }
        self.observer.channels(self.channels.len());
        left
    }

    /// Begins a message of this order that was published to `channel`.
    pub(super) fn begin_message(&mut self, order: OrderId, channel: &[u8], payload: Option<&[u8]>) {
        if !self.names.patterns.is_empty() {
            self.pattern_subject = Subject::named(channel);
            if !self.followed.is_empty() {
                self.finish_change();
                self.followed.note_channel(channel);
            }
        }
        self.numbers.begin_message();
        self.message_order = order;
        let has_marks = self.fleet_of(order).is_some_and(Fleet::has_marks);
        self.check = payload.filter(|_| has_marks).map_or(0, payload_check);
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
        let is_followed = is_pattern && self.followed.has(name);
        if is_followed {
            self.open_kept(name, received);
        }
        let order = self.message_order;
        let mark = self.fleet_of(order).and_then(Fleet::newest_mark);
        let (number, check, run) = (self.numbers.message(), self.check, self.run);
        let Self { channels, senders, budget, .. } = self;
        let mut delivery = MessageDelivery { number, check, mark, received, run, senders, budget };
        if is_followed {
            for &index in self.names.of_subscription(false, self.followed.channel()) {
                let channel = &mut channels[index as usize];
                // Another copy may have come, on a subscription of its own or through another pattern.
                if channel.newest < number {
                    delivery.event(channel, Subject::of(index), &mut decode);
                }
            }
        }
        for &index in self.names.of_subscription(is_pattern, name) {
            let subject = if is_pattern { self.pattern_subject } else { Subject::of(index) };
            let channel = &mut channels[index as usize];
            // A message that a node has sent before its slot moved would have a wrong name in the order of
            // the other node.
            if channel.order == order {
                delivery.event(channel, subject, &mut decode);
            }
        }
        if let Some(fleet) = self.fleet_mut(order) {
            fleet.message(received);
        }
        self.evict_histories();
    }

    /// A copy of the message has come on this subscription, and is too large. The gap has the number of
    /// the message, so that a stream is sent one for all copies.
    pub(super) fn skip(&mut self, is_pattern: bool, name: &str) {
        let received = Instant::now();
        let is_followed = is_pattern && self.followed.has(name);
        if is_followed {
            self.open_kept(name, received);
        }
        let order = self.message_order;
        let mark = self.fleet_of(order).and_then(Fleet::newest_mark);
        let (number, check, run) = (self.numbers.message(), self.check, self.run);
        let Self { channels, senders, budget, .. } = self;
        let mut delivery = MessageDelivery { number, check, mark, received, run, senders, budget };
        if is_followed {
            for &index in self.names.of_subscription(false, self.followed.channel()) {
                let channel = &mut channels[index as usize];
                if channel.newest < number {
                    delivery.too_large(channel);
                }
            }
        }
        for &index in self.names.of_subscription(is_pattern, name) {
            let channel = &mut channels[index as usize];
            if channel.order == order {
                delivery.too_large(channel);
            }
        }
        if let Some(fleet) = self.fleet_mut(order) {
            fleet.message(received);
        }
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
}
