//! Sends a shard that fell behind what it missed, out of the histories; where they no longer have it, a
//! gap.

use slab::Slab;

use super::channel::Channel;
use super::hub_state::HubState;
use crate::EntryId;
use crate::fleet::name::EventName;
use crate::gap::GapReason;
use crate::history::merge::{HistorySlice, MergedRecord, merge};
use crate::history::page::ExpiredChannels;
use crate::history::record::{HistoryRecord, RecordContent};
use crate::inbox::backlog::{Backlog, SentUpTo};
use crate::inbox::message::Message;
use crate::subject::ChannelIndex;

impl HubState {
    /// Sends the batches to the shards, and parts of the backlogs to those that are behind.
    pub(crate) fn flush(&mut self) {
        let Self { senders, numbers, observer, channels, .. } = self;
        senders.flush(SentUpTo { messages: numbers.settled(), entries: numbers.newest() });
        for sender in senders.iter_mut() {
            if let Some(mut backlog) = sender.take_backlog() {
                let (part, is_last) = next_part(&mut backlog, channels, numbers.newest());
                if is_last && backlog.events > 0 {
                    observer.events_dropped_by_overload(backlog.events);
                }
                // Another copy of the newest message may follow; entries have no copies.
                backlog.sent.messages = backlog.sent.messages.min(numbers.settled());
                let sent = backlog.sent;
                sender.catch_up(part, sent, (!is_last).then_some(backlog));
            }
        }
    }
}

/// Takes a part of the backlog, up to `number`. Returns it, and whether nothing is left.
fn next_part(backlog: &mut Backlog, channels: &Slab<Channel>, number: u64) -> (Vec<Message>, bool) {
    let mut part = Vec::new();
    loop {
        let until = backlog.held.front().map_or(number, |(number, _)| *number);
        if !take_events(until, backlog, channels, &mut part) {
            return (part, false);
        }
        match backlog.held.pop_front() {
            Some((_, message)) => part.push(message),
            None => return (part, true),
        }
        if part.len() >= Backlog::MAX_MESSAGES {
            return (part, false);
        }
    }
}

/// Adds the events up to `until` to `part`; returns whether none is left.
fn take_events(
    until: u64,
    backlog: &mut Backlog,
    channels: &Slab<Channel>,
    part: &mut Vec<Message>,
) -> bool {
    let mut bytes: usize = part.iter().map(Message::bytes).sum();
    let slices = slices(backlog, channels);
    let mut expired = ExpiredChannels::find(&slices);
    let mut gaps = Vec::new();
    let mut push_expired = |before: u64, part: &mut Vec<Message>| {
        if let Some((number, lost)) = expired.take_before(before) {
            let lost: Vec<_> = lost.iter().map(|slice| slices[*slice].channel).collect();
            push_gaps(part, channels, &lost, number);
            gaps = slices.iter().map(|slice| (slice.channel, slice.complete_after())).collect();
        }
    };
    let mut newest = backlog.sent.messages;
    for MergedRecord { slice, record, entry } in merge(&slices) {
        if record.number > until {
            break;
        }
        let is_full = part.len() >= Backlog::MAX_MESSAGES || bytes >= Backlog::MAX_BYTES;
        // Records with one number stay together: they are one event of several channels.
        if is_full && newest < record.number {
            backlog.gaps.extend(gaps);
            return false;
        }
        push_expired(record.number, part);
        newest = record.number;
        backlog.sent.reach(newest);
        bytes += record.content.bytes();
        let is_counted = entry.is_none() && record.is_event();
        backlog.events = backlog.events.saturating_sub(u64::from(is_counted));
        part.extend(message(slices[slice].channel, record, entry));
    }
    push_expired(until.saturating_add(1), part);
    backlog.gaps.extend(gaps);
    // A channel without a history has lost all its events.
    let has_history = |channel: &Channel| channel.history.is_some();
    let is_lost = |index: &ChannelIndex| !channels.get(*index as usize).is_some_and(has_history);
    let lost: Vec<_> = backlog.channels.iter().copied().filter(is_lost).collect();
    backlog.channels.retain(|index| !is_lost(index));
    push_gaps(part, channels, &lost, until);
    backlog.sent.reach(until);
    true
}

/// The record as a message for the shard; `None` for a gap that is among the messages held back.
fn message(
    channel: ChannelIndex,
    record: &HistoryRecord,
    entry: Option<EntryId>,
) -> Option<Message> {
    let HistoryRecord { number, received, name, .. } = *record;
    match &record.content {
        RecordContent::Event(frame, subject) => {
            let (frame, subject) = (frame.clone(), *subject);
            Some(Message::Event { channel, subject, number, name, entry, frame, received })
        }
        RecordContent::Gap(reason) if Backlog::is_in_history(*reason) => {
            Some(Message::Gap { reason: *reason, channels: [channel].into(), number, name, entry })
        }
        RecordContent::Gap(_) => None,
    }
}

/// The histories of the channels of a backlog, each after what the shard has of it.
fn slices<'a>(backlog: &Backlog, channels: &'a Slab<Channel>) -> Vec<HistorySlice<'a>> {
    let slice = |&index: &ChannelIndex| {
        let channel = channels.get(index as usize)?;
        let SentUpTo { messages, entries } = backlog.sent;
        let sent = if channel.is_log() { entries } else { messages };
        let complete = backlog.gaps.get(&index).copied().unwrap_or_default();
        let (history, after) = (channel.history.as_ref()?, sent.max(complete));
        Some(HistorySlice { channel: index, history, after })
    };
    backlog.channels.iter().filter_map(slice).collect()
}

/// Adds gaps for events that the histories no longer have. Streams of logs are not sent them: they request
/// what follows their positions, which the source may still have.
fn push_gaps(
    part: &mut Vec<Message>,
    channels: &Slab<Channel>,
    lost: &[ChannelIndex],
    number: u64,
) {
    let reason = GapReason::Overload;
    let is_log = |&index: &ChannelIndex| channels.get(index as usize).is_some_and(Channel::is_log);
    let (logs, others): (Vec<_>, Vec<_>) = lost.iter().copied().partition(is_log);
    // One for all logs, however many there are, so that a part keeps its bound. Each stream requests what
    // follows its own position: which entry stands here does not matter.
    for (channels, entry) in [(logs, Some(EntryId::ZERO)), (others, None)] {
        if !channels.is_empty() {
            let (channels, name) = (channels.into(), EventName::default());
            part.push(Message::Gap { reason, channels, number, name, entry });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ssegate_format::Format;
    use ssegate_sse::Event;
    use tokio::time::Instant;

    use super::{Backlog, HubState, Message, next_part};
    use crate::inbox::shard_sender::{ShardSender, ShardSenders};
    use crate::position::event_id::RunTag;
    use crate::requests::shard_request::JoinRequest;
    use crate::{
        ChannelName, EntryId, HistorySettings, HubSettings, Ids, SourceKind, Subscription, Topic,
    };

    #[test]
    fn a_part_is_within_its_bound_however_many_logs_have_lost_entries() {
        let count = 2 * Backlog::MAX_MESSAGES;
        let settings = HubSettings { max_channels: count, ..HubSettings::default() };
        let senders = ShardSenders::new(vec![ShardSender::new()]);
        let mut state = HubState::new(RunTag::draw(), senders, settings, Box::new(()));
        let mut backlog = Backlog::default();
        for number in 0..count {
            let name = ChannelName::new(&format!("log{number}")).expect("a name");
            let subscription = Subscription { name, is_pattern: false };
            let topic = Topic { subscription, format: Format::Raw, ids: Ids::Entries };
            // Half of them keep one entry.
            let history = HistorySettings { count: 1, ..HistorySettings::default() };
            let history = (number % 2 == 0).then_some(history);
            let linger = Duration::ZERO;
            state.join(JoinRequest { shard: 0, topic: topic.clone(), linger, history, ticket: 0 });
            let name = topic.subscription.name.as_str();
            state.begin_log((SourceKind::Logs, name), EntryId::ZERO);
            for milliseconds in 1..=2 {
                let id = EntryId { milliseconds, sequence: 0 };
                state.publish_entry((SourceKind::Logs, name), id, Instant::now(), |_| {
                    Some(Event::default())
                });
            }
            backlog.channels.insert(state.by_topic[&topic]);
        }
        let (mut gaps, mut is_last) = (0, false);
        while !is_last {
            let (part, was_last) = next_part(&mut backlog, &state.channels, state.numbers.newest());
            assert!(part.len() <= Backlog::MAX_MESSAGES + 2, "{}", part.len());
            let channels = part.iter().map(|message| match message {
                Message::Gap { channels, .. } => channels.len(),
                _ => 0,
            });
            gaps += channels.sum::<usize>();
            is_last = was_last;
        }
        assert_eq!(gaps, count, "each log has one gap");
    }
}
