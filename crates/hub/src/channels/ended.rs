//! Channels that carry an event stream of another server: their source can report a gap, and that the stream has ended.

use tokio::time::Instant;

use super::Hub;
use super::hub_state::HubState;
use super::name_index::ChannelIndexes;
use crate::gap::GapReason;
use crate::inbox::message::Message;

impl Hub {
    /// What came on this channel between the newest event and now may be missing. Its subscribers are sent a
    /// gap, which is also kept for clients that come back. For sources of streams that break
    /// ([`Ids::Mixed`](crate::Ids)).
    pub fn gap(&self, name: &str, reason: GapReason) {
        let mut state = self.state.borrow_mut();
        let channels = state.named(name);
        state.gap(reason, &channels);
    }

    /// Nothing more comes on this channel. Its subscribers are sent the events that they do not have yet, and
    /// are closed as [`CloseReason::SourceEnded`](crate::CloseReason). So is every later subscriber, until
    /// the last one has left.
    pub fn end_channel(&self, name: &str) {
        self.state.borrow_mut().end_channel(name);
    }
}

impl HubState {
    fn named(&self, name: &str) -> ChannelIndexes {
        self.names.of_subscription(false, name).iter().copied().collect()
    }

    fn end_channel(&mut self, name: &str) {
        self.end_message();
        let (now, number) = (Instant::now(), self.numbers.newest());
        for index in self.named(name) {
            let channel = &mut self.channels[index as usize];
            channel.is_ended = true;
            self.senders.send(channel.shards, || Message::Ended { channel: index, number });
            if let Some(linger) = channel.lingers.take() {
                self.lingering.remove(index, linger);
                self.begin_linger(index, now);
            }
        }
    }
}
