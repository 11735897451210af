//! Channels that are fed by followed patterns: how they are opened, kept and evicted.
//!
//! A channel without subscribers is closed when its linger is over. One whose format a followed pattern
//! keeps stays, and makes room when another is opened and there are `max_channels`: the longest unused first.

use std::time::Duration;

use tokio::time::Instant;

use super::channel::{Channel, Confirmation};
use super::followed::FedOrigin;
use super::hub_state::HubState;
use super::lingering::Linger;
use crate::requests::source_request::SourceRequests;
use crate::subject::ChannelIndex;
use crate::{Ids, SourceRequest, Subscription, Topic};

/// How a channel begins.
pub(super) struct ChannelOrigin {
    pub(super) confirmation: Confirmation,
    /// The number since which it is followed without a hole.
    pub(super) confirmed: u64,
    /// As `confirmed`; `None` while the gap for a break is still to be sent.
    pub(super) whole_since: Option<u64>,
    /// The number after which its history is complete.
    pub(super) history_from: u64,
    /// If it is fed: the number after which it has missed no message.
    pub(super) fed_since: Option<u64>,
    /// Whether its siblings have counted the messages since that number: then it continues their count.
    pub(super) is_counted: bool,
    /// The source has to follow its subscription.
    pub(super) must_follow: bool,
    /// The gap for a loss is still to be sent.
    pub(super) is_restoring: bool,
}

impl ChannelOrigin {
    /// The same origin. If the channel is fed, and has missed nothing since an earlier `number`, it begins there.
    pub(super) fn or_fed_since(self, number: Option<u64>) -> Self {
        match self.fed_since.min(number) {
            Some(number) => {
                let whole_since = self.whole_since.map(|_| number);
                Self { confirmed: number, whole_since, history_from: number, ..self }
            }
            None => self,
        }
    }
}

impl HubState {
    /// The requests to the sources.
    pub(super) fn source_requests(&self) -> &SourceRequests {
        &self.followed.requests
    }

    /// Opens the channels that keep the newest message, which came through this pattern.
    pub(super) fn open_kept(&mut self, pattern: &str, received: Instant) {
        let siblings = self.names.of_subscription(false, self.followed.channel());
        let mut missing = self.followed.formats_of(pattern);
        missing.retain(|format| {
            let is_it = |index: &ChannelIndex| {
                let Topic { format: known, ids, .. } = self.channels[*index as usize].topic;
                (known, ids) == (*format, Ids::Ours)
            };
            !siblings.iter().any(is_it)
        });
        if missing.is_empty() {
            return;
        }
        let Some(name) = self.followed.name_to_keep() else { return };
        for format in missing {
            let subscription = Subscription { name: name.clone(), is_pattern: false };
            self.open_to_keep(Topic { subscription, format, ids: Ids::Ours }, received);
        }
    }

    fn open_to_keep(&mut self, topic: Topic, received: Instant) {
        let Some(retention) = self.settings.retention.of(&topic) else { return };
        if retention.history.is_none() {
            return;
        }
        let fed_since = self.make_room(&topic);
        if self.is_full() {
            self.observer.channel_refused();
            return self.followed.note_lost(&topic, self.numbers.message());
        }
        let (index, must_follow) = self.open(topic, retention, fed_since);
        debug_assert!(!must_follow, "it is fed by the pattern that the message came through");
        self.begin_linger(index, received);
    }

    /// How a channel begins. `sibling` is a channel of the same subscription, in another format or with other ids.
    pub(super) fn origin(&self, topic: &Topic, sibling: Option<ChannelIndex>) -> ChannelOrigin {
        let name = &topic.subscription.name;
        let is_feedable = !self.followed.is_empty()
            && !topic.ids.is_log()
            && !topic.subscription.is_pattern
            && (sibling.is_none() || self.followed.is_fed(name.as_str()));
        let format = (topic.ids == Ids::Ours).then_some(topic.format);
        let fed = is_feedable.then(|| self.followed.origin(name.as_str(), format)).flatten();
        // Not the newest number: entries of logs may have taken later ones, and a gap that reached up to
        // those would lie behind the next copy of this message.
        let now = self.numbers.message();
        let awaited = ChannelOrigin {
            confirmation: Confirmation::Awaited,
            confirmed: 0,
            whole_since: None,
            history_from: now,
            fed_since: None,
            is_counted: true,
            must_follow: sibling.is_none() && fed.is_none(),
            is_restoring: false,
        };
        match (fed, sibling.map(|sibling| &self.channels[sibling as usize])) {
            (Some(FedOrigin::Given { complete_after: Some(number), is_restoring, .. }), _) => {
                Self::fed_since(number, is_restoring)
            }
            (Some(FedOrigin::Given { quiet_since, is_restoring, .. }), None) => {
                Self::fed_since(quiet_since, is_restoring)
            }
            (_, Some(sibling)) => {
                let is_given = sibling.confirmation == Confirmation::Given;
                let confirmation = match is_given {
                    true => Confirmation::Given,
                    false => Confirmation::Awaited,
                };
                let (confirmed, whole_since) = (sibling.confirmed, sibling.whole_since);
                ChannelOrigin { confirmation, confirmed, whole_since, ..awaited }
            }
            (Some(FedOrigin::Awaited) | None, None) => awaited,
        }
    }

    /// The number after which nothing has come on a channel that is not open: a followed pattern would have
    /// opened it.
    pub(super) fn quiet_since(
        &self,
        Subscription { name, is_pattern }: &Subscription,
    ) -> Option<u64> {
        if *is_pattern || self.names.plain.contains_key(name) {
            return None;
        }
        match self.followed.origin(name.as_str(), None)? {
            FedOrigin::Given { quiet_since, is_restoring: false, .. } => Some(quiet_since),
            FedOrigin::Given { .. } | FedOrigin::Awaited => None,
        }
    }

    /// The origin of a channel that is fed and has missed no message after `number`.
    fn fed_since(number: u64, is_restoring: bool) -> ChannelOrigin {
        ChannelOrigin {
            confirmation: Confirmation::Given,
            confirmed: number,
            whole_since: (!is_restoring).then_some(number),
            history_from: number,
            fed_since: Some(number),
            is_counted: false,
            must_follow: false,
            is_restoring,
        }
    }

    /// A channel has no subscribers.
    pub(super) fn begin_linger(&mut self, index: ChannelIndex, now: Instant) {
        let channel = &mut self.channels[index as usize];
        let linger = if channel.is_ended { Duration::ZERO } else { channel.linger };
        let until = (!self.followed.keeps(&channel.topic)).then(|| now + linger);
        let linger = Linger { since: now, used: now, until };
        channel.lingers = Some(linger);
        self.lingering.add(index, linger);
    }

    /// The reason for which a channel without subscribers is kept may have changed.
    pub(super) fn renew_linger(&mut self, index: ChannelIndex) {
        let channel = &mut self.channels[index as usize];
        let Some(lingers) = channel.lingers else { return };
        let until = (!self.followed.keeps(&channel.topic)).then(|| lingers.since + channel.linger);
        self.lingering.remove(index, lingers);
        let lingers = Linger { until, ..lingers };
        channel.lingers = Some(lingers);
        self.lingering.add(index, lingers);
    }

    /// Closes channels without subscribers until one more can be opened. Returns the number since which the
    /// new one has missed nothing, taken before others are closed: their loss does not concern it.
    pub(super) fn make_room(&mut self, topic: &Topic) -> Option<u64> {
        let sibling = self.names.of(topic).get(&topic.subscription.name);
        let sibling = sibling.and_then(|siblings| siblings.first().copied());
        let fed_since = self.origin(topic, sibling).fed_since;
        self.evict_surplus(1);
        fed_since
    }

    /// Closes channels without subscribers until there is room for `more`, the longest unused first.
    pub(super) fn evict_surplus(&mut self, more: usize) {
        while self.channels.len() + more > self.settings.max_channels {
            let Some(longest) = self.longest_unused() else { return };
            if let Some(left) = self.close(longest) {
                self.source_requests().put(left, SourceRequest::Leave);
            }
        }
    }

    /// The channel without subscribers that was unused for longest. A join is a use; where the channel is
    /// kept for a pattern, so is a message.
    fn longest_unused(&mut self) -> Option<ChannelIndex> {
        loop {
            let index = self.lingering.longest_unused()?;
            let channel = &mut self.channels[index as usize];
            let lingers = channel.lingers.expect("a channel in the list lingers");
            let received = channel.history.as_ref().and_then(|history| history.newest_received());
            let used = received.filter(|_| lingers.until.is_none()).unwrap_or(lingers.used);
            if used <= lingers.used {
                return Some(index);
            }
            // Its place in the list is corrected only here: so an event has no cost for it.
            self.lingering.remove(index, lingers);
            let lingers = Linger { used, ..lingers };
            channel.lingers = Some(lingers);
            self.lingering.add(index, lingers);
        }
    }

    /// The last channel of a subscription was closed: removes the subscription from the index, unless it is a
    /// followed pattern. Returns whether the source need not leave it: it is followed, or was fed by a
    /// pattern.
    pub(super) fn forget_subscription(&mut self, topic: &Topic) -> bool {
        let Subscription { name, is_pattern } = &topic.subscription;
        if *is_pattern && self.followed.has(name.as_str()) {
            return true;
        }
        self.names.of(topic).remove(name);
        if *is_pattern || topic.ids.is_log() || self.followed.is_empty() {
            return false;
        }
        let was_fed = self.followed.note_closed(name);
        self.leave_unneeded();
        was_fed
    }

    /// A channel was closed.
    pub(super) fn note_lost(&mut self, channel: &Channel) {
        if self.followed.is_empty() {
            return;
        }
        let name = channel.topic.subscription.name.as_str();
        let mut newest = channel.newest_number();
        // It was opened for the newest message, of which no copy has been delivered to it yet.
        if name == self.followed.channel() {
            newest = newest.max(self.numbers.message());
        }
        self.followed.note_lost(&channel.topic, newest);
    }
}
