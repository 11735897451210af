//! One channel: what is known of it, and what is kept of it.

use std::rc::Weak;
use std::time::Duration;

use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use super::hole::Hole;
use super::lingering::Linger;
use crate::EntryId;
use crate::Topic;
use crate::fleet::answer::Answer;
use crate::fleet::marks::ReceivedMark;
use crate::fleet::name::{EventName, FleetPosition, MarkId, SubscriptionTag};
use crate::fleet::order_id::OrderId;
use crate::fleet::rules::FleetRule;
use crate::gap::GapReason;
use crate::history::History;
use crate::history::budget::{ChannelIncarnation, HistoryBudget};
use crate::history::record::RecordContent;
use crate::history::retention::Retention;
use crate::inbox::message::Message;
use crate::inbox::shard_sender::ShardSenders;
use crate::requests::shard_request::StreamAddress;
use crate::subject::{ChannelIndex, Subject};

pub(super) struct Channel {
    pub(super) topic: Topic,
    pub(super) index: ChannelIndex,
    pub(super) confirmation: Confirmation,
    // The number of the last confirmation; 0 before the first.
    pub(super) confirmed: u64,
    // The number after which it was followed without a hole: that of the confirmation, or, after a break,
    // that of the gap for it. `None` while that gap is still to be sent.
    pub(super) whole_since: Option<u64>,
    pub(super) tag: SubscriptionTag,
    // The order in which its messages come since it was confirmed.
    pub(super) order: OrderId,
    // The newest mark before the newest message, and how many messages came since.
    pub(super) counted: (MarkId, u32),
    // What other gateways have said of it since its confirmation, one answer of each.
    pub(super) answers: Vec<Weak<Answer>>,
    // Its past is that of an earlier process, and messages between the two processes may be missing.
    pub(super) hole: Option<Box<Hole>>,
    // One bit for each shard that has joined.
    pub(super) shards: u128,
    pub(super) linger: Duration,
    pub(super) lingers: Option<Linger>,
    pub(super) history: Option<History>,
    // Of a log, its newest entry.
    pub(super) newest_entry: EntryId,
    // Streams that have requested a replay and wait for the confirmation. Some may have left.
    pub(super) waiting: Vec<StreamAddress>,
    // The number of its newest message, whether it was kept or not; 0 before the first.
    pub(super) newest: u64,
    // How many messages it has had, and the same at the last call of `busiest`; both wrap.
    pub(super) messages: u32,
    pub(super) messages_seen: u32,
    // The newest number when it was opened, and when its history was last used.
    pub(super) opened: u64,
    pub(super) used: u64,
    // Whether it is in the queue of `HistoryBudget`.
    pub(super) is_budgeted: bool,
    // Nothing more comes.
    pub(super) is_ended: bool,
}

/// Whether the source sends the channel's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmation {
    Awaited,
    Given,
    // It was given, and then the connection was lost: something may be missing.
    Withdrawn,
    // The source is not allowed to subscribe.
    Denied,
}

/// An event that was just received.
pub(super) struct NewEvent {
    pub(super) number: u64,
    pub(super) name: EventName,
    pub(super) subject: Subject,
    pub(super) frame: Frame,
    pub(super) received: Instant,
}

impl Channel {
    pub(super) fn is_log(&self) -> bool {
        self.topic.ids.is_log()
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmation == Confirmation::Given
    }

    pub(super) fn incarnation(&self) -> ChannelIncarnation {
        ChannelIncarnation { index: self.index, opened: self.opened }
    }

    pub(super) fn retention(&self) -> Retention {
        Retention { history: self.history.as_ref().map(History::settings), linger: self.linger }
    }

    /// Its newest entry; `None` if it is not a log.
    pub(super) fn entry(&self) -> Option<EntryId> {
        self.is_log().then_some(self.newest_entry)
    }

    /// Sends an event to the shards that have joined, and keeps it. In a log, it is the newest entry.
    pub(super) fn publish(
        &mut self,
        event: NewEvent,
        senders: &mut ShardSenders,
        budget: &mut HistoryBudget,
    ) {
        let NewEvent { number, name, subject, frame, received } = event;
        self.messages = self.messages.wrapping_add(1);
        let (channel, entry) = (self.index, self.entry());
        senders.send(self.shards, || Message::Event {
            channel,
            subject,
            number,
            name,
            entry,
            frame: frame.clone(),
            received,
        });
        self.keep(number, (RecordContent::Event(frame, subject), name), received, budget);
    }

    /// A message has come on its subscription: returns its name. It has one if `mark`, the newest, came
    /// after the confirmation.
    pub(super) fn count(&mut self, mark: Option<ReceivedMark>, check: u16) -> EventName {
        let is_after = |mark: &ReceivedMark| {
            mark.number >= self.confirmed || !FleetRule::MarkAfterConfirmation.holds()
        };
        let Some(mark) = mark.filter(|mark| self.is_confirmed() && is_after(mark)) else {
            return EventName::default();
        };
        let (counted, k) = self.counted;
        let k = if counted == mark.id { k.saturating_add(1) } else { 1 };
        self.counted = (mark.id, k);
        if k > EventName::MAX_K {
            return EventName::default();
        }
        EventName { mark: mark.id, k, check }
    }

    /// The place behind a message of the channel; `None` where it has no name.
    pub(super) fn place(&self, name: EventName) -> Option<FleetPosition> {
        name.known().map(|name| FleetPosition { tag: self.tag, name })
    }

    /// Its newest message since `number`, and the name.
    pub(super) fn newest_message(&self, number: u64) -> Option<(u64, EventName)> {
        self.history.as_ref()?.newest_message(number)
    }

    /// The number of the newest message or gap, kept or not. Without any, an earlier number.
    pub(super) fn newest_number(&self) -> u64 {
        self.history.as_ref().map_or(0, History::newest_number).max(self.newest)
    }

    /// Whether a message is needed here. Not before the confirmation: a subscription that was left and is
    /// followed again may still send messages, but not without holes.
    pub(super) fn takes_messages(&self) -> bool {
        (self.shards != 0 || self.history.is_some()) && self.is_confirmed()
    }

    /// Sends a gap to the shards that have joined; of a log, it reaches up to its newest entry.
    pub(super) fn send_gap(
        &self,
        reason: GapReason,
        (number, name): (u64, EventName),
        senders: &mut ShardSenders,
    ) {
        let (channel, entry) = (self.index, self.entry());
        senders.send(self.shards, || Message::Gap {
            reason,
            channels: [channel].into(),
            number,
            name,
            entry,
        });
    }

    /// Keeps a record, if the channel has a history.
    pub(super) fn keep(
        &mut self,
        number: u64,
        record: (RecordContent, EventName),
        received: Instant,
        budget: &mut HistoryBudget,
    ) {
        let entry = self.entry();
        if !self.change_history(budget, |h| h.push(number, entry, record, received)) {
            return;
        }
        self.used = number;
        self.enter_budget(budget);
    }

    /// Puts the channel into the budget: it keeps something, which may have to be evicted.
    pub(super) fn enter_budget(&mut self, budget: &mut HistoryBudget) {
        if !std::mem::replace(&mut self.is_budgeted, true) {
            budget.enter(self.incarnation(), self.used);
        }
    }

    /// Changes the history, if there is one, and accounts for its growth; returns whether there is one.
    pub(super) fn change_history(
        &mut self,
        budget: &mut HistoryBudget,
        change: impl FnOnce(&mut History),
    ) -> bool {
        let Some(history) = &mut self.history else {
            return false;
        };
        let before = history.held();
        change(history);
        budget.account(before, history.held());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ssegate_format::Format;

    use crate::channels::hub_state::HubState;
    use crate::fleet::marks::ReceivedMark;
    use crate::fleet::name::EventName;
    use crate::inbox::shard_sender::{ShardSender, ShardSenders};
    use crate::position::event_id::RunTag;
    use crate::requests::shard_request::JoinRequest;
    use crate::{ChannelName, HubSettings, Ids, Subscription, Topic};

    #[test]
    fn a_message_after_more_than_fit_has_no_name_until_the_next_mark() {
        let senders = ShardSenders::new(vec![ShardSender::new()]);
        let mut state =
            HubState::new(RunTag::draw(), senders, HubSettings::default(), Box::new(()));
        let name = ChannelName::new("news").expect("a name");
        let subscription = Subscription { name, is_pattern: false };
        let topic = Topic { subscription, format: Format::Raw, ids: Ids::Ours };
        let (linger, history) = (Duration::ZERO, None);
        state.join(JoinRequest { shard: 0, topic: topic.clone(), linger, history, ticket: 0 });
        state.confirm(false, "news");
        let channel = &mut state.channels[state.by_topic[&topic] as usize];
        let number = channel.confirmed;
        channel.counted = (7, EventName::MAX_K - 1);
        let mut name = |id| channel.count(Some(ReceivedMark { id, number }), 3);
        assert_eq!(name(7), EventName { mark: 7, k: EventName::MAX_K, check: 3 });
        assert_eq!(name(7).known(), None);
        assert_eq!(name(7).known(), None);
        assert_eq!(name(8), EventName { mark: 8, k: 1, check: 3 });
    }
}
