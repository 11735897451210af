//! Channels on which nothing more comes: each of their subscribers ends once it has all events.

use tokio::time::Instant;

use super::Shard;
use super::local_channel::OpenStream;
use crate::mailbox::close_reason::CloseReason;
use crate::subject::ChannelIndex;

impl Shard {
    /// Nothing more comes on this channel.
    pub(super) fn channel_ended(&self, index: ChannelIndex, now: Instant) {
        let Some(channel) = self.channel(index) else { return };
        channel.is_ended.set(true);
        for subscriber in &*channel.subscribers.borrow() {
            self.end_if_over(&subscriber.stream, now);
        }
    }

    /// Ends a stream that has all of its past, if nothing more comes on one of its channels.
    pub(super) fn end_if_over(&self, stream: &OpenStream, now: Instant) {
        let is_over = !stream.mailbox.is_replaying()
            && stream.channels.borrow().iter().any(|channel| channel.is_ended.get());
        if is_over && !stream.mailbox.is_closed() {
            stream.mailbox.end(CloseReason::SourceEnded, now);
            self.visit_after_grace(&stream.mailbox, now);
        }
    }
}
