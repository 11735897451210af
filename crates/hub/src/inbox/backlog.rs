//! What a shard missed because its inbox was full.
//!
//! Events are not held back: they are in the histories, or lost to this shard. Nor are the gaps of which
//! there may be as many as events. Other messages are held back, in their order: joins, confirmations, pages,
//! losses of the source and the gaps that follow from them, and of several marks in a row the newest. Their
//! number is bounded by the requests of the shard and its streams, and by the reconnections of the source.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::Message;
use super::{MAX_BYTES, MAX_MESSAGES};
use crate::gap::GapReason;
use crate::subject::ChannelIndex;

/// Up to where a shard was sent everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentUpTo {
    /// The number up to which it was sent messages: no further copy of one up to here follows.
    pub(crate) messages: u64,
    /// The number up to which it was sent entries of logs, which have no copies. Never less than `messages`.
    pub(crate) entries: u64,
}

impl SentUpTo {
    /// Everything up to `number` was sent.
    pub(crate) fn reach(&mut self, number: u64) {
        self.messages = self.messages.max(number);
        self.entries = self.entries.max(number);
    }
}

/// What a shard missed.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Up to where the shard was sent everything.
    pub(crate) sent: SentUpTo,
    /// Messages that are not in the histories, each with the number after which it comes.
    pub(crate) held: VecDeque<(u64, Message)>,
    /// The channels of the missed events and gaps.
    pub(crate) channels: BTreeSet<ChannelIndex>,
    /// Channels for which a gap was sent, and the number after which they are complete.
    pub(crate) gaps: BTreeMap<ChannelIndex, u64>,
    /// Missed events of channels other than logs, less those that were sent later.
    pub(crate) events: u64,
}

impl Backlog {
    /// The most messages that are sent together.
    pub(crate) const MAX_MESSAGES: usize = MAX_MESSAGES / 4;
    /// The most bytes that are sent together.
    pub(crate) const MAX_BYTES: usize = MAX_BYTES / 4;

    /// An empty backlog of a shard that was sent everything up to here.
    pub(super) fn after(sent: SentUpTo) -> Self {
        Self { sent, ..Self::default() }
    }

    /// Whether gaps for this reason are taken out of the histories, as events are. There may be one for
    /// every message.
    pub(crate) fn is_in_history(reason: GapReason) -> bool {
        matches!(reason, GapReason::TooLarge | GapReason::Trimmed)
    }

    /// Takes a batch that cannot be sent.
    pub(super) fn hold(&mut self, batch: &mut Vec<Message>) {
        let mut number = self.held.back().map_or(self.sent.messages, |(number, _)| *number);
        for message in batch.drain(..) {
            number = message.number().unwrap_or(number).max(number);
            match message {
                Message::Event { channel, entry, .. } => {
                    self.events += u64::from(entry.is_none());
                    self.channels.insert(channel);
                }
                Message::Gap { reason, channels, .. } if Self::is_in_history(reason) => {
                    self.channels.extend(channels.iter().copied());
                }
                // Of marks of one order in a row, only the newest counts.
                Message::Mark(order, _) if matches!(self.held.back(), Some((_, Message::Mark(of, _))) if *of == order) =>
                {
                    self.held.pop_back();
                    self.held.push_back((number, message));
                }
                other => self.held.push_back((number, other)),
            }
        }
    }

    /// Forgets a channel that was closed: its number may soon be that of another.
    pub(super) fn forget(&mut self, channel: ChannelIndex) {
        self.channels.remove(&channel);
        self.gaps.remove(&channel);
    }
}
