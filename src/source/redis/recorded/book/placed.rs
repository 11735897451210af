//! Channels that are, for a while, subscribed to at another node than the channel of the marks.

use ssegate_hub::ChannelName;

use super::RecordBook;

impl RecordBook {
    /// The channels that the hub wants.
    pub(in super::super::super) fn followed(&self) -> Vec<ChannelName> {
        let followed = self.channels.iter().filter(|(_, channel)| channel.is_followed);
        followed.map(|(name, _)| name.clone()).collect()
    }

    /// Of this channel nothing is received any more, until its subscription is confirmed again. Others go on.
    pub(in super::super::super) fn lose_channel(&mut self, name: &ChannelName) {
        drop(self.take_catch_up(name));
        self.unopened.remove(name);
        if let Some(channel) = self.channels.get_mut(name) {
            channel.lose();
        }
    }
}
