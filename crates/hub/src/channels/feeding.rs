//! Channels that begin or stop being fed: by a reload, and as the source confirms and denies patterns.
//!
//! No change makes a hole. A channel gives up its own subscription once a pattern that matches it is
//! confirmed. A pattern that is no longer in the settings is left once its channels have another subscription
//! that is confirmed. Meanwhile a message comes twice, as copies of one number. A reload may come between two
//! copies: a pattern that is in the settings again feeds channels only from the next message on.

use tokio::time::Instant;

use super::channel::Confirmation;
use super::followed::{FedOrigin, FollowedPatterns};
use super::hub_state::HubState;
use super::name_index::ChannelIndexes;
use crate::fleet::order_id::OrderId;
use crate::subject::ChannelIndex;
use crate::{ChannelName, SourceRequest};

impl HubState {
    /// Follows the patterns in the settings, and no others.
    pub(super) fn change_followed(&mut self, now: Instant) {
        self.is_change_due = false;
        let wanted = FollowedPatterns::grouped(&self.settings.followed);
        let gone = self.followed.current().into_iter().filter(|name| !wanted.contains_key(name));
        let gone: Vec<ChannelName> = gone.collect();
        for (pattern, formats) in &wanted {
            // The confirmation of its channels takes a number, after which no copy of a message may come.
            if self.numbers.is_message_open() && self.followed.would_change(pattern, formats) {
                self.is_change_due = true;
                continue;
            }
            let (is_new, feeds) = self.followed.put(pattern, formats, self.numbers.newest());
            if is_new {
                self.names.patterns.entry(pattern.clone()).or_default();
                self.followed.request(pattern.clone(), true, SourceRequest::Follow);
            } else if feeds {
                // Their own subscriptions are left, so that their confirmations do not count any more.
                let unconfirmed = self.feed_from(pattern.as_str());
                if !unconfirmed.is_empty() {
                    let number = self.numbers.take();
                    self.confirm_channels(unconfirmed, number, OrderId::PLAIN);
                }
            }
        }
        for pattern in gone {
            self.followed.retire(pattern.as_str());
            self.release(pattern.as_str(), now);
        }
        self.leave_unneeded();
        let lingering = self.channels.iter().filter(|(_, channel)| channel.lingers.is_some());
        let lingering: Vec<ChannelIndex> = lingering.map(|(_, channel)| channel.index).collect();
        lingering.into_iter().for_each(|index| self.renew_linger(index));
    }

    /// No further copy of the newest message follows: the source has sent something else since.
    pub(super) fn end_message(&mut self) {
        self.numbers.end_message();
        self.finish_change();
    }

    /// Does the part of a reload that had to wait until no copy of a message may follow.
    pub(super) fn finish_change(&mut self) {
        if self.is_change_due {
            self.numbers.end_message();
            self.change_followed(Instant::now());
        }
    }

    /// A followed pattern is about to be confirmed, or is in the settings again: it feeds all channels that
    /// it matches. Returns those that are not confirmed.
    pub(super) fn feed_from(&mut self, pattern: &str) -> ChannelIndexes {
        let matches = |name: &&ChannelName| {
            ssegate_glob::matches(pattern.as_bytes(), name.as_str().as_bytes())
        };
        let names: Vec<_> = self.names.plain.keys().filter(matches).cloned().collect();
        let mut unconfirmed = ChannelIndexes::new();
        for name in names.into_iter().filter(|name| FollowedPatterns::may_keep(name.as_str())) {
            let channels = self.names.of_subscription(false, name.as_str());
            let is_unconfirmed =
                |index: &&ChannelIndex| !self.channels[**index as usize].is_confirmed();
            unconfirmed.extend(channels.iter().filter(is_unconfirmed).copied());
            if self.followed.feed(&name) {
                self.followed.request(name, false, SourceRequest::Leave);
            }
        }
        unconfirmed
    }

    /// A pattern feeds no channels any more. Those with subscribers, and those that linger, get a subscription of
    /// their own if no other pattern matches them.
    pub(super) fn release(&mut self, pattern: &str, now: Instant) {
        for name in self.followed.fed_by(pattern) {
            match self.followed.origin(name.as_str(), None) {
                Some(FedOrigin::Given { .. }) => self.followed.settle(name.as_str()),
                Some(FedOrigin::Awaited) => {}
                None => {
                    self.close_forgotten(&name, now);
                    if self.followed.stop_feeding(&name) {
                        self.followed.request(name, false, SourceRequest::Follow);
                    }
                }
            }
        }
    }

    /// Leaves the patterns that are not in the settings and that no channel needs any more.
    pub(super) fn leave_unneeded(&mut self) {
        // One of them may be about to be followed again.
        if self.is_change_due {
            return;
        }
        for pattern in self.followed.take_unneeded() {
            if self.forget_pattern(&pattern) {
                self.followed.request(pattern, true, SourceRequest::Leave);
            }
        }
    }

    /// A pattern is not followed any more. Returns whether no stream is subscribed to it.
    pub(super) fn forget_pattern(&mut self, pattern: &ChannelName) -> bool {
        let is_unused =
            self.names.patterns.get(pattern).is_some_and(|channels| channels.is_empty());
        if is_unused {
            self.names.patterns.remove(pattern);
        }
        is_unused
    }

    /// Channels of this name are confirmed by their own subscription, and need no retired pattern any more. A
    /// channel whose subscription is denied stays with the pattern that fed it, without a time limit.
    pub(super) fn settle(&mut self, name: &str) {
        if !self.followed.is_empty() {
            self.followed.settle(name);
            self.leave_unneeded();
        }
    }

    /// A followed pattern is confirmed with this number, and so are these channels.
    pub(super) fn confirm_followed(
        &mut self,
        pattern: &str,
        number: u64,
        unconfirmed: &ChannelIndexes,
    ) {
        let is_withdrawn = |index: &ChannelIndex| {
            self.channels[*index as usize].confirmation == Confirmation::Withdrawn
        };
        let is_restoring = unconfirmed.iter().any(is_withdrawn);
        self.followed.confirm(pattern, number, is_restoring);
        for name in self.followed.fed_by(pattern) {
            self.followed.settle(name.as_str());
            let channels = self.names.of_subscription(false, name.as_str());
            let channels: ChannelIndexes = channels.iter().copied().collect();
            channels.into_iter().for_each(|index| self.renew_linger(index));
        }
        self.leave_unneeded();
    }

    /// Closes the channels of this name that were left for longer than they linger.
    fn close_forgotten(&mut self, name: &ChannelName, now: Instant) {
        let channels = self.names.of_subscription(false, name.as_str());
        let is_forgotten = |index: &&ChannelIndex| {
            let channel = &self.channels[**index as usize];
            channel.lingers.is_some_and(|lingers| lingers.since + channel.linger <= now)
        };
        let forgotten: ChannelIndexes = channels.iter().filter(is_forgotten).copied().collect();
        for index in forgotten {
            let left = self.close(index);
            debug_assert!(left.is_none(), "it has no subscription of its own");
        }
    }

    /// The connection is lost: what was not confirmed on it never will be.
    pub(super) fn lose_followed(&mut self) {
        for pattern in self.followed.lose() {
            self.forget_pattern(&pattern);
        }
    }

    /// The source is not allowed to subscribe to a followed pattern: its channels need others.
    pub(super) fn deny_followed(&mut self, pattern: &str) {
        if self.followed.deny(pattern) {
            self.release(pattern, Instant::now());
        }
    }
}
