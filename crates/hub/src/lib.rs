#![doc = include_str!("../README.md")]
//!
//! # The way of an event
//!
//! The hub lives on one thread, beside the sources; each shard lives on a thread of its own, with its
//! subscribers in plain cells. An event passes these folders in order:
//!
//! 1. [`channels`]: a source publishes it to the hub. [`channels::hub_state`](channels) finds the channels of
//!    the subscription that it came on, gives it a number ([`channels::numbers`](channels)), encodes its
//!    frame once, and puts it into the batch of each shard that has joined
//!    ([`channels::channel`](channels)).
//! 2. [`history`]: keeps the newest events of each channel, within bounds for one channel
//!    ([`history::retention`]) and for all ([`history::budget`]).
//! 3. [`inbox`]: takes the batches ([`inbox::shard_sender`]) across threads, as messages
//!    ([`inbox::message`]). A shard that cannot keep up gets a backlog ([`inbox::backlog`]), and is sent
//!    what it missed out of the histories ([`channels::catch_up`](channels)).
//! 4. [`shard`]: finds the subscribers of the channel on its core ([`shard::local_channel`]) and offers the
//!    event to each ([`shard::deliver`](shard)).
//! 5. [`mailbox`]: the queue of one stream, where it stands, and its deadlines.
//! 6. [`subscriber`]: the body of the response takes what is queued.
//!
//! Beside that way, [`position`] is where a stream stands: what the id of an event says, and what a
//! client that comes back is sent first ([`position::resume`]). That is read out of the histories in pages
//! ([`channels::replay`](channels), [`history::page`]); of a log, whose source keeps its entries, the
//! source reads again what is older ([`channels::log_replay`](channels)). Where something may be missing,
//! the client is sent a [`gap`].
//!
//! What a hub leaves to that of the next process is a [`snapshot`]; that one goes on with it
//! ([`channels::inherit`](channels)), without a gap where both heard the source for a while.
//!
//! The way back are [`requests`]: a shard requests to join and leave channels, and pages of their past; the
//! hub requests of its sources to follow and leave subscriptions, and to read logs again.

mod channel_name;
mod channels;
mod drain_pace;
mod entry_id;
mod fleet;
mod gap;
mod history;
mod inbox;
mod mailbox;
mod observer;
mod position;
mod requests;
mod settings;
mod shard;
mod snapshot;
mod subject;
mod subscriber;
#[cfg(test)]
mod tests;
mod timed_streams;
mod timers;
mod top_list;
mod topic;

pub use channel_name::{ChannelName, InvalidChannelName};
pub use channels::{BusyChannel, Continued, Hub, HubOrder};
pub use drain_pace::drain_evenly;
pub use entry_id::EntryId;
pub use fleet::order_id::OrderId;
pub use fleet::requests::FleetRequest;
pub use gap::GapReason;
pub use history::retention::{
    HistorySettings, NameShape, Retention, RetentionRule, RetentionRules,
};
pub use mailbox::StreamOpening;
pub use mailbox::close_reason::{CloseReason, jittered};
pub use mailbox::watchdog::CLOSE_GRACE;
pub use observer::Observer;
pub use position::event_id::{EventId, RunTag};
pub use position::foreign_id::{MAX_FOREIGN_ID, is_foreign_id};
pub use position::log_positions::{MAX_LOGS, max_position_bytes};
pub use position::resume::{LastSeen, Replay, ResumedFrom};
pub use requests::source_request::{
    LogRange, LogRead, LogReadKey, LogReadResult, SourceKind, SourceRequest,
};
pub use settings::{FollowedPattern, HubSettings, MAX_SHARDS, StreamSettings, WhenFull};
pub use shard::Shard;
pub use shard::link::ShardLink;
pub use shard::slowest::SlowStream;
pub use shard::streams::StreamRequest;
pub use snapshot::Snapshot;
pub use snapshot::text::InvalidSnapshot;
pub use subscriber::{StreamEnder, Subscriber};
pub use timed_streams::{StreamKey, TimedStreams};
pub use timers::TIMER_TICK;
pub use topic::{Ids, Subscription, Topic};
