//! What the hub sends a shard.

use std::sync::Arc;

use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use crate::EntryId;
use crate::Topic;
use crate::fleet::marks::ReceivedMark;
use crate::fleet::name::EventName;
use crate::fleet::order_id::OrderId;
use crate::gap::GapReason;
use crate::history::page::ReplayPage;
use crate::subject::{ChannelIndex, Subject};
use crate::timed_streams::StreamKey;

/// A message to a shard.
// Small: a batch of them is moved for every event. What is larger than an event is boxed.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// An event of a channel. Where the channel is a log, `entry` is its id there.
    Event {
        channel: ChannelIndex,
        subject: Subject,
        number: u64,
        name: EventName,
        entry: Option<EntryId>,
        frame: Frame,
        received: Instant,
    },
    /// The shard gets the events of this channel from now on: those after `number`; of a log, those after
    /// `entry`.
    Joined {
        topic: Topic,
        ticket: u64,
        channel: ChannelIndex,
        // Boxed: rare, and larger than an event.
        confirmed: Option<Box<ChannelStart>>,
        number: u64,
    },
    /// The channel cannot be followed: there are too many.
    Refused { topic: Topic, ticket: u64 },
    /// The source sends the events of this channel; of a log, those after `entry`. Everything up to `settled`
    /// has come. `settled` is less than `number` while another copy of a message may follow.
    Confirmed { channel: ChannelIndex, order: OrderId, number: u64, settled: u64, entry: EntryId },
    /// The source has lost its connection: no channel is confirmed any more, except logs, which are read on
    /// from where they were left, and sharded channels, which have other connections.
    SourceLost,
    /// The source has lost these channels.
    ChannelsLost(Arc<[ChannelIndex]>),
    /// A page of the past, for a subscriber that has requested it.
    Replay(Box<ReplayMessage>),
    /// Events of these channels may be missing, up to `number`.
    ///
    /// In a log, up to `entry`; after a reset, `entry` is of another log than the one before.
    Gap {
        reason: GapReason,
        channels: Arc<[ChannelIndex]>,
        number: u64,
        // Of the message that is too large.
        name: EventName,
        entry: Option<EntryId>,
    },
    /// Nothing more comes on the channel, after `number`.
    Ended { channel: ChannelIndex, number: u64 },
    /// A mark of the fleet came in this order, behind the event `number`.
    Mark(OrderId, ReceivedMark),
    /// Nothing more comes in this order: its channels were lost.
    OrderEnded(OrderId),
}

/// Since when the source sends the events of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelStart {
    /// The number of the confirmation.
    pub(crate) number: u64,
    /// The order in which its messages come.
    pub(crate) order: OrderId,
    /// The number and the name of the newest message since then; 0 if there is none.
    pub(crate) newest: (u64, EventName),
    /// In a log, its newest entry.
    pub(crate) entry: EntryId,
}

/// A page of the past, and the stream that it is for.
#[derive(Clone, Debug)]
pub(crate) struct ReplayMessage {
    pub(crate) stream: StreamKey,
    pub(crate) ticket: u64,
    pub(crate) topics: Arc<[Topic]>,
    pub(crate) page: ReplayPage,
    /// Live events that the shard receives after this message have higher numbers than this.
    pub(crate) number: u64,
}

impl Message {
    /// What counts against the bound of an inbox, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Event { frame, .. } => frame.len(),
            // Bounded by the subscriber that requested it: it requests the next page when it has written this one.
            _ => 0,
        }
    }

    /// The number that the shard has reached with this message, if it has one.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Event { number, .. }
            | Self::Joined { number, .. }
            | Self::Confirmed { number, .. }
            | Self::Gap { number, .. }
            | Self::Ended { number, .. } => Some(*number),
            Self::Replay(replay) => Some(replay.number),
            Self::Mark(_, mark) => Some(mark.number),
            Self::Refused { .. }
            | Self::SourceLost
            | Self::ChannelsLost(_)
            | Self::OrderEnded(_) => None,
        }
    }

    /// The number up to which a stream has everything once this message was delivered. `None` for messages
    /// that say nothing about this: an entry or a gap of a log may come between two copies of one message.
    pub(crate) fn settled(&self) -> Option<u64> {
        match self {
            Self::Event { entry: Some(_), .. } | Self::Gap { entry: Some(_), .. } => None,
            // Another copy of the message may follow.
            Self::Event { number, .. } | Self::Gap { reason: GapReason::TooLarge, number, .. } => {
                Some(number - 1)
            }
            Self::Confirmed { settled, .. } => Some(*settled),
            other => other.number(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn a_message_takes_80_bytes() {
        assert_eq!(size_of::<Message>(), 80);
    }
}
