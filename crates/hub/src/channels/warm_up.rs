//! A gateway that starts follows what its fleet follows, before its first client comes.
//!
//! Clients of a gateway that is replaced come to the new one with ids of the old. What the new one has
//! followed since before, and asked about, is no gap for them, quiet channels included.

use std::collections::HashSet;

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::fleet::message::{self, ForAll, ForOne, MAX_FOLLOWED};
use crate::fleet::warm_up::{ANSWERING, CONFIRMING, LOOK, MAX_TOPICS, PUBLISHING, WarmUp};
use crate::{Ids, Subscription, Topic};

impl HubState {
    /// Asks the other gateways what they follow.
    pub(super) fn begin_warm_up(&mut self, now: Instant) {
        let mark = fastrand::u64(..);
        let list = ForAll::List { list: self.run.to_string() };
        self.publish_for_all(&list, Some(mark));
        let topics = HashSet::new();
        self.fleet.warm_up =
            WarmUp::Listing { mark, until: now + PUBLISHING, topics, is_alone: false };
    }

    /// Tells another gateway what this one follows: at most [`MAX_TOPICS`].
    pub(super) fn tell_followed(&self, to: &str) {
        let channels = self.channels.iter().map(|(_, channel)| channel);
        let followed = channels.filter(|channel| channel.topic.ids == Ids::Ours);
        let mut followed: Vec<_> = followed.collect();
        // Those with subscribers first.
        followed.sort_by_key(|channel| channel.shards == 0);
        followed.truncate(MAX_TOPICS);
        let topics: Vec<_> =
            followed.into_iter().map(|channel| message::topic_text(&channel.topic)).collect();
        let run = self.run.to_string();
        for some in topics.chunks(MAX_FOLLOWED) {
            let message = ForOne::Follows { run: run.clone(), follows: some.to_vec() };
            self.publish_for_one(to.to_owned(), &message);
        }
    }

    /// Takes the next step if it is due. Returns what the source must follow.
    pub(super) fn warm_up_due(&mut self, now: Instant) -> Vec<Topic> {
        match &mut self.fleet.warm_up {
            WarmUp::Listing { until, topics, .. } if *until <= now => {
                let topics = std::mem::take(topics);
                self.follow_topics(topics, now)
            }
            WarmUp::Confirming { until, look, subscriptions } if *look <= now => {
                let (is_over, asked) = (*until <= now, std::mem::take(subscriptions));
                let names = &self.names;
                let is_confirmed = |subscription: &Subscription| {
                    let name = subscription.name.as_str();
                    let mut channels = names.of_subscription(subscription.is_pattern, name).iter();
                    channels.all(|index| self.channels[*index as usize].is_confirmed())
                };
                if is_over || asked.iter().all(is_confirmed) {
                    let (until, look) = (now + ANSWERING, now + LOOK);
                    self.fleet.warm_up = WarmUp::Asking { until, look };
                    self.ask_about(&asked, now);
                } else {
                    *look = now + LOOK;
                    *subscriptions = asked;
                }
                Vec::new()
            }
            // Answers come, and questions end, at no time of their own.
            WarmUp::Asking { until, look } if *look <= now => {
                if *until <= now || self.fleet.asking.is_idle() {
                    self.fleet.warm_up = WarmUp::Done;
                } else {
                    *look = now + LOOK;
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Follows these, as far as there is room and a route reads them.
    fn follow_topics(&mut self, topics: HashSet<Topic>, now: Instant) -> Vec<Topic> {
        let mut new = Vec::new();
        let mut subscriptions = Vec::new();
        for topic in topics.into_iter().take(MAX_TOPICS) {
            let known = self.by_topic.contains_key(&topic);
            let Some(retention) = self.settings.retention.of(&topic) else { continue };
            if known || self.is_full() || retention.history.is_none() {
                continue;
            }
            let (index, must_follow) = self.open(topic.clone(), retention, None);
            self.begin_linger(index, now);
            subscriptions.push(topic.subscription.clone());
            if must_follow {
                new.push(topic);
            }
        }
        let until = now + CONFIRMING;
        self.fleet.warm_up = match subscriptions.is_empty() {
            true => WarmUp::Done,
            false => WarmUp::Confirming { until, look: now + LOOK, subscriptions },
        };
        new
    }
}
