//! Subscriptions that the source has confirmed, and those that it has lost.
//!
//! Each confirmation of a pub/sub subscription takes a number of its own, so that a client stands either
//! before it, and may have missed something while the channel was not followed, or behind it. If it shared a
//! number, a client with the newest id of a channel that was closed and opened again would be taken for
//! complete.

use std::collections::HashSet;

use tokio::time::Instant;

use super::channel::Confirmation;
use super::hub_state::HubState;
use super::name_index::ChannelIndexes;
use crate::ChannelName;
use crate::fleet::order_id::OrderId;
use crate::fleet::rules::FleetRule;
use crate::gap::GapReason;
use crate::history::History;
use crate::inbox::message::Message;
use crate::requests::shard_request::StreamAddress;
use crate::subject::ChannelIndex;

impl HubState {
    /// The source is subscribed.
    pub(super) fn confirm(&mut self, is_pattern: bool, name: &str) {
        self.end_message();
        let mut unconfirmed = self.unconfirmed(is_pattern, name);
        let is_followed = is_pattern && self.followed.is_unconfirmed(name);
        if is_followed {
            unconfirmed.extend(self.feed_from(name));
        } else if !is_pattern {
            self.settle(name);
        }
        if unconfirmed.is_empty() && !is_followed {
            return;
        }
        let number = self.numbers.take();
        if is_followed {
            self.confirm_followed(name, number, &unconfirmed);
        }
        self.confirm_channels(unconfirmed, number, OrderId::PLAIN);
    }

    /// The source is subscribed to a sharded channel: from now on its messages come in this order.
    pub(super) fn confirm_at(&mut self, order: OrderId, name: &str) {
        self.end_message();
        let unconfirmed = self.unconfirmed(false, name);
        if !unconfirmed.is_empty() {
            let number = self.numbers.take();
            self.confirm_channels(unconfirmed, number, order);
        }
    }

    /// The source is subscribed for its own use. This takes no number: it may come between two copies of a
    /// message, and nothing comes on these channels that a client could miss.
    pub(super) fn confirm_silent(&mut self, is_pattern: bool, name: &str) {
        let unconfirmed = self.unconfirmed(is_pattern, name);
        if !unconfirmed.is_empty() {
            let number = self.numbers.settled();
            self.confirm_channels(unconfirmed, number, OrderId::PLAIN);
        }
    }

    /// The source sends the events of these channels from `number` on, in this order.
    pub(super) fn confirm_channels(
        &mut self,
        unconfirmed: ChannelIndexes,
        number: u64,
        order: OrderId,
    ) {
        let (mut waiting, now) = (Vec::new(), Instant::now());
        let settled = self.numbers.settled();
        for index in unconfirmed {
            let channel = &mut self.channels[index as usize];
            channel.whole_since = Some(number);
            channel.order = order;
            if channel.confirmation == Confirmation::Withdrawn {
                self.restored.push(index);
                if FleetRule::GapsBeforeAnswers.holds() {
                    channel.whole_since = None;
                }
            } else if let Some(gap) = channel.begin_with_hole(number) {
                if FleetRule::GapAfterRestart.holds() {
                    channel.keep(number, gap, now, &mut self.budget);
                }
            } else if let Some(history) = &mut channel.history {
                history.begin(number);
            }
            channel.confirmation = Confirmation::Given;
            channel.confirmed = number;
            channel.answers.clear();
            waiting.append(&mut channel.waiting);
            let entry = channel.newest_entry;
            let message = || Message::Confirmed { channel: index, order, number, settled, entry };
            self.senders.send(channel.shards, message);
        }
        if let Some(fleet) = self.fleet_mut(order) {
            fleet.confirmed(now);
        }
        self.serve_waiting(waiting);
    }

    /// The source is not allowed to subscribe. Streams do not wait for the channel any more. What is
    /// published before it is confirmed after all is missing, also for streams that are sent a gap now.
    pub(super) fn deny(&mut self, is_pattern: bool, name: &str) {
        self.end_message();
        if is_pattern {
            self.deny_followed(name);
        }
        let mut awaited = self.unconfirmed(is_pattern, name);
        awaited
            .retain(|index| self.channels[*index as usize].confirmation == Confirmation::Awaited);
        if awaited.is_empty() {
            return;
        }
        let number = self.numbers.take();
        let mut waiting = Vec::new();
        for index in awaited {
            let channel = &mut self.channels[index as usize];
            channel.confirmation = Confirmation::Denied;
            if channel.hole.take().is_some() {
                channel.change_history(&mut self.budget, History::evict);
            }
            if let Some(history) = &mut channel.history {
                history.begin(number);
            }
            waiting.append(&mut channel.waiting);
        }
        self.serve_waiting(waiting);
    }

    /// The source has lost its connection.
    pub(super) fn lose(&mut self) {
        self.end_message();
        for (_, channel) in &mut self.channels {
            // A log is read on from where it was left, and a sharded channel has another connection.
            if channel.is_confirmed() && !channel.is_log() && !channel.topic.is_sharded() {
                channel.confirmation = Confirmation::Withdrawn;
            }
        }
        // A gap that has not been sent yet is sent when they are confirmed again.
        let channels = &mut self.channels;
        self.restored.retain(|&index| {
            let channel = &mut channels[index as usize];
            let stays = channel.topic.is_sharded();
            if !stays {
                channel.confirmation = Confirmation::Withdrawn;
            }
            stays
        });
        self.lose_followed();
        self.senders.send_to_all(&Message::SourceLost);
    }

    /// All subscriptions that can be restored after a loss are confirmed again.
    pub(super) fn restored(&mut self) {
        self.end_message();
        let channels = &self.channels;
        let restored =
            self.restored.extract_if(.., |index| !channels[*index as usize].topic.is_sharded());
        let restored: Vec<_> = restored.collect();
        self.gap(GapReason::RedisAway, &restored);
        self.followed.restored(self.numbers.newest());
    }

    /// The source has lost these channels, and no others.
    pub(super) fn lose_channels<'n>(&mut self, names: impl IntoIterator<Item = &'n ChannelName>) {
        self.end_message();
        let mut lost = Vec::new();
        for name in names {
            for &index in self.names.of_subscription(false, name.as_str()) {
                let channel = &mut self.channels[index as usize];
                if channel.is_confirmed() {
                    channel.confirmation = Confirmation::Withdrawn;
                    // Until it is confirmed again, nothing that comes is behind the gap.
                    if channel.topic.is_sharded() {
                        channel.order = OrderId::NONE;
                    }
                    lost.push(index);
                }
            }
        }
        // A gap that has not been sent yet is sent when they are confirmed again.
        self.restored.retain(|index| !lost.contains(index));
        if !lost.is_empty() {
            self.senders.send_to_all(&Message::ChannelsLost(lost.into()));
        }
    }

    /// These channels are confirmed again.
    pub(super) fn restored_channels<'n>(
        &mut self,
        names: impl IntoIterator<Item = &'n ChannelName>,
    ) {
        self.end_message();
        let named: HashSet<ChannelIndex> = names
            .into_iter()
            .flat_map(|name| self.names.of_subscription(false, name.as_str()))
            .copied()
            .collect();
        let restored: Vec<_> =
            self.restored.extract_if(.., |index| named.contains(index)).collect();
        self.gap(GapReason::RedisAway, &restored);
    }

    fn unconfirmed(&self, is_pattern: bool, name: &str) -> ChannelIndexes {
        let is_unconfirmed = |index: &ChannelIndex| !self.channels[*index as usize].is_confirmed();
        let channels = self.names.of_subscription(is_pattern, name);
        channels.iter().copied().filter(is_unconfirmed).collect()
    }

    fn serve_waiting(&mut self, streams: Vec<StreamAddress>) {
        for stream in streams {
            if let Some(request) = self.waiting.remove(&stream) {
                let log_read = self.replay(request);
                debug_assert!(log_read.is_none(), "the channels of a stream are of one kind");
            }
        }
    }
}
