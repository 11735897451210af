//! A shard that fell behind gets what it missed out of the histories, in its order and its own time;
//! where they no longer have it, it is told so.

use slab::Slab;

use super::channel::Channel;
use super::hub_state::HubState;
use crate::event::EntryId;
use crate::hub::gap::GapReason;
use crate::hub::history::RecordContent;
use crate::hub::history::page::{ChannelPast, ExpiredChannels, MergedRecord, merged};
use crate::hub::inbox::shard_sender::{Backlog, SentUpTo};
use crate::hub::inbox::{ChannelIndex, Message};

impl HubState {
    /// Hands the batches to the shards, and to those that are behind some of what they miss.
    pub(in crate::hub) fn flush(&mut self) {
        let Self { ports, numbers, metrics, channels, .. } = self;
        ports.flush(SentUpTo { messages: numbers.settled(), entries: numbers.newest() });
        for port in ports.iter_mut() {
            if let Some(mut behind) = port.take_owed() {
                let (part, is_over) = next_part(&mut behind, channels, numbers.newest());
                if is_over && behind.owed > 0 {
                    metrics.events_dropped_by_overload(behind.owed);
                }
                // Another copy of the newest message may follow; of entries there is one.
                behind.handed.messages = behind.handed.messages.min(numbers.settled());
                let handed = behind.handed;
                port.catch_up(part, handed, (!is_over).then_some(behind));
            }
        }
    }
}

/// Some of what is owed, up to `number`, and whether that is all.
fn next_part(behind: &mut Backlog, channels: &Slab<Channel>, number: u64) -> (Vec<Message>, bool) {
    let mut part = Vec::new();
    loop {
        let until = behind.held.front().map_or(number, |(number, _)| *number);
        if !catch_up_to(until, behind, channels, &mut part) {
            return (part, false);
        }
        match behind.held.pop_front() {
            Some((_, message)) => part.push(message),
            None => return (part, true),
        }
        if part.len() >= Backlog::MAX_MESSAGES {
            return (part, false);
        }
    }
}

/// Adds the events up to `until`; answers whether these were all.
fn catch_up_to(
    until: u64,
    behind: &mut Backlog,
    channels: &Slab<Channel>,
    part: &mut Vec<Message>,
) -> bool {
    let mut bytes: usize = part.iter().map(Message::bytes).sum();
    let pasts = pasts(behind, channels);
    let mut expired = ExpiredChannels::find(&pasts);
    let mut told = Vec::new();
    let mut tell_expired = |before: u64, part: &mut Vec<Message>| {
        if let Some((number, lost)) = expired.due_before(before) {
            tell_overload(part, channels, &lost, number);
            told = pasts.iter().map(|past| (past.channel, past.complete_after())).collect();
        }
    };
    let mut newest = behind.handed.messages;
    for MergedRecord { at, entry, id } in merged(&pasts) {
        if entry.number > until {
            break;
        }
        let is_full = part.len() >= Backlog::MAX_MESSAGES || bytes >= Backlog::MAX_BYTES;
        // What several channels share stays together.
        if is_full && newest < entry.number {
            behind.told.extend(told);
            return false;
        }
        tell_expired(entry.number, part);
        newest = entry.number;
        behind.handed.reach(newest);
        // A gap has been held back as a message of its own.
        let RecordContent::Event(frame, subject) = &entry.kept else { continue };
        bytes += frame.len();
        let (channel, number, received) = (pasts[at].channel, entry.number, entry.received);
        let frame = frame.clone();
        part.push(match id {
            Some(id) => Message::Entry { channel, number, id, frame, received },
            None => {
                behind.owed = behind.owed.saturating_sub(1);
                let subject = *subject;
                Message::Event { channel, subject, number, frame, received }
            }
        });
    }
    tell_expired(until.saturating_add(1), part);
    behind.told.extend(told);
    // What keeps no history is lost as a whole.
    let is_kept = |channel: &Channel| channel.history.is_some();
    let is_lost = |index: &ChannelIndex| !channels.get(*index as usize).is_some_and(is_kept);
    let lost: Vec<_> = behind.missed.iter().copied().filter(is_lost).collect();
    behind.missed.retain(|index| !is_lost(index));
    tell_overload(part, channels, &lost, until);
    behind.handed.reach(until);
    true
}

fn pasts<'a>(behind: &Backlog, channels: &'a Slab<Channel>) -> Vec<ChannelPast<'a>> {
    let past = |&channel: &ChannelIndex| {
        let known = channels.get(channel as usize)?;
        let SentUpTo { messages, entries } = behind.handed;
        let handed = if known.is_log() { entries } else { messages };
        let told = behind.told.get(&channel).copied().unwrap_or_default();
        Some(ChannelPast { channel, history: known.history.as_ref()?, after: handed.max(told) })
    };
    behind.missed.iter().filter_map(past).collect()
}

/// Of a log nothing is lost: the source still has it, and the shard asks for it.
fn tell_overload(
    part: &mut Vec<Message>,
    channels: &Slab<Channel>,
    lost: &[ChannelIndex],
    number: u64,
) {
    let reason = GapReason::Overload;
    let is_log = |index: &ChannelIndex| channels.get(*index as usize).is_some_and(Channel::is_log);
    let (logs, others): (Vec<ChannelIndex>, Vec<ChannelIndex>) =
        lost.iter().copied().partition(is_log);
    for channel in logs {
        part.push(Message::LogGap { reason, channel, entry: EntryId::ZERO, number });
    }
    if !others.is_empty() {
        part.push(Message::Gap { reason, channels: others.into(), number });
    }
}
