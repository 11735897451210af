//! The channels of the hub by what the source listens to.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::event::{ChannelName, Ids, Topic};
use crate::hub::inbox::ChannelIndex;

/// The channels by what the source listens to: each subscription with its readings.
#[derive(Default)]
pub(super) struct NameIndex {
    pub(super) plain: HashMap<ChannelName, ChannelIndexes>,
    pub(super) patterns: HashMap<ChannelName, ChannelIndexes>,
    pub(super) logs: HashMap<ChannelName, ChannelIndexes>,
}

/// The channels that read one subscription: as a rule one, which is found without another step.
pub(super) type ChannelIndexes = SmallVec<[ChannelIndex; 4]>;

impl NameIndex {
    /// Those among which this topic is.
    pub(super) fn of(&mut self, topic: &Topic) -> &mut HashMap<ChannelName, ChannelIndexes> {
        match topic.ids {
            Ids::Entries => &mut self.logs,
            _ if topic.subscription.is_pattern => &mut self.patterns,
            _ => &mut self.plain,
        }
    }

    /// The readings of a subscription; none where nobody follows it.
    pub(super) fn readings(&self, is_pattern: bool, name: &str) -> &[ChannelIndex] {
        let names = if is_pattern { &self.patterns } else { &self.plain };
        names.get(name).map_or(&[], SmallVec::as_slice)
    }

    /// The readings of a log; none where nobody follows it.
    pub(super) fn readings_of_log(&self, name: &str) -> &[ChannelIndex] {
        self.logs.get(name).map_or(&[], SmallVec::as_slice)
    }
}
