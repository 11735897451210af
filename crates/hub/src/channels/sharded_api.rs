//! What a source of sharded channels calls: each of them can be lost by itself.

use super::Hub;
use crate::ChannelName;

impl Hub {
    /// Every sharded channel that is followed.
    pub fn followed_sharded(&self) -> Vec<ChannelName> {
        let state = self.state.borrow();
        let names = state.names.plain.keys().filter(|name| name.as_sharded().is_some());
        names.cloned().collect()
    }

    /// The source is not subscribed to these channels any more; others stay.
    pub fn lose_channels<'n>(&self, names: impl IntoIterator<Item = &'n ChannelName>) {
        self.state.borrow_mut().lose_channels(names);
        self.flush();
    }

    /// These channels were lost and are confirmed again: sends one gap for all of them.
    pub fn restored_channels<'n>(&self, names: impl IntoIterator<Item = &'n ChannelName>) {
        self.state.borrow_mut().restored_channels(names);
    }
}
