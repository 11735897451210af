//! What the hub reports to its owner as it happens.

use std::time::Duration;

use super::gap::GapReason;

/// Receives what happens in the hub or in one of its shards, on their thread. For metrics.
///
/// The methods are called on the way of an event: none may block. By default each does nothing.
pub trait Observer {
    /// The hub has this many channels now.
    fn channels(&self, _channels: usize) {}

    /// A channel was refused: there are `max_channels`.
    fn channel_refused(&self) {}

    /// The histories of all channels hold this many bytes now.
    fn history_bytes(&self, _bytes: usize) {}

    /// Events were dropped because the inbox of a shard was full.
    fn events_dropped_by_overload(&self, _events: u64) {}

    /// Events were dropped because the queue of a stream was full.
    fn events_dropped_by_overflow(&self, _events: u64) {}

    /// Events may be missing from a stream, whether its route sends gaps or not.
    fn gap(&self, _reason: GapReason) {}

    /// A client came with the id of another gateway, or of an earlier run. `is_complete`: nothing is missing
    /// on any of its channels; otherwise it is sent a gap.
    fn client_placed(&self, _is_complete: bool) {}

    /// A stream with this many channels was opened.
    fn subscribed(&self, _channels: usize) {}

    /// A stream with this many channels has ended.
    fn unsubscribed(&self, _channels: usize) {}

    /// A stream has taken this many bytes of frames, to be written.
    fn bytes_sent(&self, _bytes: usize) {}

    /// A stream has taken an event, this long after it was received.
    fn event_sent(&self, _latency: Duration) {}

    /// An entry of a log was delivered to the streams of a shard that are live there. `milliseconds` are
    /// those of its id: by default the Unix time at which it was published. Once for each entry and shard.
    fn entry_delivered(&self, _milliseconds: u64) {}

    /// The tick of a shard, whose queues hold this many bytes now.
    fn tick(&self, _queue_bytes: usize) {}
}

/// Ignores everything.
impl Observer for () {}
