//! A gateway that starts follows what its fleet follows, before its first client comes.
//!
//! When a gateway is replaced, its clients come to the new one with ids of the old one. A channel that the
//! new one already follows, and has asked about, has no gap for them, even if it is quiet.

use std::collections::HashSet;

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::fleet::member::Fleet;
use crate::fleet::message::{self, ForAll, ForOne, MAX_FOLLOWED, TopicText};
use crate::fleet::order_id::OrderId;
use crate::fleet::warm_up::{
    ANSWERING, CONFIRMING, FAREWELL, LISTING, LOOK, MAX_LEAVING, MAX_TOPICS, PUBLISHING, WarmUp,
};
use crate::position::event_id::RunTag;
use crate::{Ids, Subscription, Topic};

impl HubState {
    /// Asks the other gateways what they follow.
    pub(super) fn begin_warm_up(&mut self, order: OrderId, now: Instant) {
        let mark = fastrand::u64(..);
        let list = ForAll::List { list: self.run };
        self.publish_for_all(order, &list, Some(mark));
        let topics = HashSet::new();
        if let Some(fleet) = self.fleet_mut(order) {
            fleet.warm_up =
                WarmUp::Listing { mark, until: now + PUBLISHING, topics, is_alone: false };
        }
    }

    /// Sends another gateway the list of what this one follows.
    pub(super) fn send_followed(&self, order: OrderId, to: RunTag) {
        let run = self.run;
        for some in self.followed_texts(order).chunks(MAX_FOLLOWED) {
            let message = ForOne::Follows { run, follows: some.to_vec() };
            self.publish_for_one(order, to, &message);
        }
    }

    /// This gateway drains: publishes which channels it follows, while it can still report their positions. Its
    /// clients go to the other gateways when it has exited.
    pub(super) fn leave_fleet(&mut self) {
        self.is_draining = true;
        self.orders().into_iter().for_each(|order| self.leave_order(order));
    }

    fn leave_order(&mut self, order: OrderId) {
        let follows = self.followed_texts(order);
        let (leaves, mark) = (self.run, fastrand::u64(..));
        let Some(fleet) = self.fleet_mut(order) else { return };
        if !fleet.is_up() || fleet.left.is_some() || follows.is_empty() {
            return;
        }
        fleet.left = Some((Instant::now(), mark, None));
        for some in follows.chunks(MAX_FOLLOWED) {
            let message = ForAll::Leaving { leaves, follows: some.to_vec() };
            self.publish_for_all(order, &message, Some(mark));
        }
    }

    /// Until when the others need this gateway, which drains; `None`: they do not.
    pub(super) fn farewell_ends(&self) -> Option<Instant> {
        let ends = |fleet: &Fleet| {
            let (since, _, others) = fleet.left?;
            match others {
                Some(0) => None,
                Some(_) => Some(since + FAREWELL),
                None => Some(since + LISTING),
            }
        };
        [&self.fleet].into_iter().chain(self.nodes.all()).filter_map(ends).max()
    }

    /// Another gateway, which follows these channels, drains.
    pub(super) fn note_leaving(&mut self, order: OrderId, follows: Vec<TopicText>, now: Instant) {
        let Some(fleet) = self.fleet_mut(order) else { return };
        if fleet.left.is_some() {
            return;
        }
        let leaving = &mut fleet.leaving;
        let is_listing = |state: &WarmUp| matches!(state, WarmUp::Listing { .. });
        if !leaving.last().is_some_and(is_listing) && leaving.len() < MAX_LEAVING {
            leaving.push(WarmUp::of_leaving(now));
            fleet.timers.notify_one();
        }
        if let Some(listing) = leaving.last_mut() {
            listing.note_followed(follows, order);
        }
    }

    /// What this gateway follows, at most [`MAX_TOPICS`]: those with subscribers first.
    fn followed_texts(&self, order: OrderId) -> Vec<TopicText> {
        let channels = self.channels.iter().map(|(_, channel)| channel);
        let followed =
            channels.filter(|channel| channel.topic.ids == Ids::Ours && channel.order == order);
        let mut followed: Vec<_> = followed.collect();
        followed.sort_by_key(|channel| channel.shards == 0);
        followed.truncate(MAX_TOPICS);
        followed.into_iter().map(|channel| message::topic_text(&channel.topic)).collect()
    }

    /// Takes the next steps that are due. Returns what the source must follow.
    pub(super) fn warm_up_due(&mut self, order: OrderId, now: Instant) -> Vec<Topic> {
        let mut new = Vec::new();
        let Some(fleet) = self.fleet_mut(order) else { return new };
        let (warm_up, leaving) =
            (std::mem::take(&mut fleet.warm_up), std::mem::take(&mut fleet.leaving));
        let warm_up = self.advance(order, warm_up, now, &mut new);
        let leaving = leaving.into_iter().map(|state| self.advance(order, state, now, &mut new));
        let leaving: Vec<_> = leaving.filter(|state| !state.is_over()).collect();
        if let Some(fleet) = self.fleet_mut(order) {
            (fleet.warm_up, fleet.leaving) = (warm_up, leaving);
        }
        new
    }

    /// The next state, if its time has come. Adds to `new` what the source must follow.
    fn advance(
        &mut self,
        order: OrderId,
        state: WarmUp,
        now: Instant,
        new: &mut Vec<Topic>,
    ) -> WarmUp {
        match state {
            WarmUp::Listing { until, topics, .. } if until <= now => {
                let subscriptions = self.follow_topics(order, topics, now, new);
                match subscriptions.is_empty() {
                    true => WarmUp::Done,
                    false => {
                        let (until, look) = (now + CONFIRMING, now + LOOK);
                        WarmUp::Confirming { until, look, subscriptions }
                    }
                }
            }
            WarmUp::Confirming { until, look, subscriptions } if look <= now => {
                if until <= now || subscriptions.iter().all(|one| self.is_confirmed(one)) {
                    let mut here = subscriptions;
                    here.retain(|subscription| self.is_in(order, subscription));
                    self.ask_about(order, &here, now);
                    WarmUp::Asking { until: now + ANSWERING, look: now + LOOK }
                } else {
                    WarmUp::Confirming { until, look: now + LOOK, subscriptions }
                }
            }
            // No call announces that all answers have come, so this is polled.
            WarmUp::Asking { until, look } if look <= now => {
                let is_idle = self.fleet_of(order).is_none_or(|fleet| fleet.asking.is_idle());
                match until <= now || is_idle {
                    true => WarmUp::Done,
                    false => WarmUp::Asking { until, look: now + LOOK },
                }
            }
            other => other,
        }
    }

    /// Whether the messages of a subscription come in this order.
    fn is_in(&self, order: OrderId, subscription: &Subscription) -> bool {
        let name = subscription.name.as_str();
        let mut channels = self.names.of_subscription(subscription.is_pattern, name).iter();
        channels.any(|index| self.channels[*index as usize].order == order)
    }

    fn is_confirmed(&self, subscription: &Subscription) -> bool {
        let name = subscription.name.as_str();
        let mut channels = self.names.of_subscription(subscription.is_pattern, name).iter();
        channels.all(|index| self.channels[*index as usize].is_confirmed())
    }

    /// Follows these, as far as there is room and a route reads them. Returns their subscriptions; adds to
    /// `new` what the source must follow.
    fn follow_topics(
        &mut self,
        order: OrderId,
        topics: HashSet<Topic>,
        now: Instant,
        new: &mut Vec<Topic>,
    ) -> Vec<Subscription> {
        // Channels that were followed before a restart are asked about, too.
        let is_sharded = order != OrderId::PLAIN;
        let with_hole = self.channels.iter().filter(|(_, channel)| {
            channel.hole.is_some() && channel.topic.is_sharded() == is_sharded
        });
        let with_hole = with_hole.map(|(_, channel)| channel.topic.subscription.clone());
        let mut subscriptions: Vec<_> = with_hole.collect();
        for topic in topics.into_iter().take(MAX_TOPICS) {
            let known = self.by_topic.contains_key(&topic);
            let Some(retention) = self.settings.retention.of(&topic) else { continue };
            // A quarter of the channels is left for those that clients ask for.
            let is_full = 4 * self.channels.len() >= 3 * self.settings.max_channels;
            if known || is_full || retention.history.is_none() {
                continue;
            }
            let (index, must_follow) = self.open(topic.clone(), retention, None);
            self.begin_linger(index, now);
            subscriptions.push(topic.subscription.clone());
            if must_follow {
                new.push(topic);
            }
        }
        subscriptions
    }
}
