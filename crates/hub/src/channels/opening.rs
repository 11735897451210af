//! Channels that begin and end.

use std::time::Duration;

use super::channel::Channel;
use super::hub_state::HubState;
use crate::fleet::name::SubscriptionTag;
use crate::fleet::order_id::OrderId;
use crate::history::retention::Retention;
use crate::subject::ChannelIndex;
use crate::{EntryId, Topic};

impl HubState {
    /// Opens a channel, which keeps what `retention` says. If it is fed, it has missed nothing since
    /// `fed_since`, which was known before others were closed. Returns whether the source must follow its
    /// subscription.
    pub(super) fn open(
        &mut self,
        topic: Topic,
        retention: Retention,
        fed_since: Option<u64>,
    ) -> (ChannelIndex, bool) {
        let siblings = self.names.of(&topic).entry(topic.subscription.name.clone()).or_default();
        // Another channel of the subscription: whether that is confirmed holds for this one, too.
        let sibling = siblings.first().copied();
        let origin = self.origin(&topic, sibling).or_fed_since(fed_since);
        if sibling.is_none() && !origin.must_follow {
            self.followed.feed(&topic.subscription.name);
        }
        let sibling = sibling.map(|sibling| &self.channels[sibling as usize]);
        let counted = sibling.filter(|_| origin.is_counted).map(|sibling| sibling.counted);
        let counted = counted.unwrap_or_default();
        let newest_entry = sibling.map_or(EntryId::ZERO, |sibling| sibling.newest_entry);
        let order = match topic.is_sharded() {
            true => sibling.map_or(OrderId::NONE, |sibling| sibling.order),
            false => OrderId::PLAIN,
        };
        let tag = SubscriptionTag::of(&topic.subscription);
        let entry = self.channels.vacant_entry();
        let index = ChannelIndex::try_from(entry.key()).expect("max_channels is below 2^32");
        entry.insert(Channel {
            topic: topic.clone(),
            index,
            confirmation: origin.confirmation,
            confirmed: origin.confirmed,
            whole_since: origin.whole_since,
            tag,
            order,
            counted,
            answers: Vec::new(),
            hole: None,
            shards: 0,
            linger: Duration::ZERO,
            lingers: None,
            history: None,
            newest_entry,
            waiting: Vec::new(),
            newest: 0,
            messages: 0,
            messages_seen: 0,
            opened: self.numbers.newest(),
            used: self.numbers.newest(),
            is_budgeted: false,
            is_ended: false,
        });
        if origin.is_restoring {
            self.restored.push(index);
        }
        self.names.of(&topic).entry(topic.subscription.name.clone()).or_default().push(index);
        self.by_topic.insert(topic, index);
        self.retain_from(index, retention, origin.history_from);
        self.observer.channels(self.channels.len());
        (index, origin.must_follow)
    }

    /// Closes a channel. Returns its topic if the source must leave its subscription.
    pub(super) fn close(&mut self, index: ChannelIndex) -> Option<Topic> {
        let channel = self.channels.remove(index as usize);
        if let Some(linger) = channel.lingers {
            self.lingering.remove(index, linger);
        }
        if let Some(history) = &channel.history {
            self.budget.account(history.held(), 0);
        }
        self.note_lost(&channel);
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
        let is_needed = !siblings.is_empty() || self.forget_subscription(&channel.topic);
        (!is_needed).then_some(channel.topic)
    }
}
