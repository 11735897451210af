//! A simulated Redis, which numbers all messages and sends the gateway those that it is subscribed to.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use ssegate_sse::Event;
use tokio::time::Instant;

use crate::tests::TestHub;
use crate::{SourceRequest, Subscription};

/// What is on its way from Redis to the gateway.
#[derive(Clone, Debug)]
pub(super) enum WireItem {
    Copy {
        subscription: Subscription,
        channel: String,
        index: u64,
    },
    /// With the newest message before it.
    Subscribed(Subscription, u64),
    Unsubscribed(Subscription),
    Restored,
    /// What the gateway has published to itself.
    Echo,
}

/// Redis, and the connection of one gateway to it.
#[derive(Default)]
pub(super) struct Redis {
    // The messages of each channel; the pattern `c*` matches all.
    pub(super) messages: BTreeMap<String, Vec<u64>>,
    pub(super) newest: u64,
    pub(super) subscribed: HashSet<Subscription>,
    pub(super) wire: VecDeque<WireItem>,
    pub(super) is_connected: bool,
    // All that was subscribed when the connection was made is confirmed.
    pub(super) is_restored: bool,
    // The newest message that the gateway has received, or missed for good.
    pub(super) taken: u64,
    // The message of which another copy may follow.
    pub(super) newest_copy: Option<u64>,
    // The newest message when a number was given.
    pub(super) by_number: HashMap<u64, u64>,
}

impl Redis {
    pub(super) fn publish(&mut self, channel: &str) {
        self.newest += 1;
        let index = self.newest;
        self.messages.entry(channel.to_owned()).or_default().push(index);
        self.messages.entry("c*".to_owned()).or_default().push(index);
        // The channel first, then the patterns.
        let matches = |subscription: &&Subscription| {
            let (name, text) = (subscription.name.as_str().as_bytes(), channel.as_bytes());
            if subscription.is_pattern { ssegate_glob::matches(name, text) } else { name == text }
        };
        let mut matching: Vec<_> = self.subscribed.iter().filter(matches).cloned().collect();
        matching.sort_by_key(|subscription| (subscription.is_pattern, subscription.name.clone()));
        for subscription in matching {
            let channel = channel.to_owned();
            self.wire.push_back(WireItem::Copy { subscription, channel, index });
        }
    }

    pub(super) fn execute(&mut self, subscription: Subscription, request: SourceRequest) {
        match request {
            SourceRequest::Follow => {
                self.subscribed.insert(subscription.clone());
                self.wire.push_back(WireItem::Subscribed(subscription, self.newest));
            }
            SourceRequest::Leave => {
                self.subscribed.remove(&subscription);
                self.wire.push_back(WireItem::Unsubscribed(subscription));
            }
        }
    }

    /// The gateway receives the next item that Redis sent.
    pub(super) fn take_one(&mut self, test: &TestHub) {
        let Some(next) = self.wire.pop_front() else { return };
        match next {
            WireItem::Copy { subscription, channel, index } => {
                if self.newest_copy != Some(index) {
                    test.hub.begin_message(channel.as_bytes(), None);
                }
                self.newest_copy = Some(index);
                self.taken = index;
                let data = Bytes::from(format!("{channel} {index}"));
                let (is_pattern, name) = (subscription.is_pattern, subscription.name.as_str());
                test.hub.publish(is_pattern, name, Instant::now(), |_| {
                    Some(Event { data: data.clone(), ..Event::default() })
                });
            }
            WireItem::Subscribed(subscription, index) => {
                self.taken = index;
                let is_left_later = self.wire.iter().any(
                    |later| matches!(later, WireItem::Unsubscribed(left) if *left == subscription),
                );
                if !is_left_later {
                    test.hub.confirm(subscription.is_pattern, subscription.name.as_str());
                    // It may have been fed by a pattern when the connection was lost.
                    if self.is_restored {
                        test.hub.restored();
                    }
                }
            }
            WireItem::Unsubscribed(_) => {}
            WireItem::Restored => {
                test.hub.restored();
                self.is_restored = true;
            }
            WireItem::Echo => test.hub.end_message(),
        }
        self.by_number.insert(test.hub.newest_number(), self.taken);
    }

    /// The newest message when this number was given.
    pub(super) fn newest_at(&self, number: u64) -> u64 {
        let known = self.by_number.iter().filter(|(given, _)| **given <= number);
        known.max_by_key(|(given, _)| **given).map_or(0, |(_, index)| *index)
    }
}
