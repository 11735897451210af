//! The channels by the subscriptions that their events come from.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::Topic;
use crate::subject::ChannelIndex;
use crate::{ChannelName, Ids, SourceKind};

/// The channels of each subscription of a source. There are several where routes read one subscription
/// in different formats, or with other ids.
#[derive(Default)]
pub(super) struct NameIndex {
    pub(super) plain: HashMap<ChannelName, ChannelIndexes>,
    pub(super) patterns: HashMap<ChannelName, ChannelIndexes>,
    logs: HashMap<ChannelName, ChannelIndexes>,
    recorded: HashMap<ChannelName, ChannelIndexes>,
}

// As a rule one, which takes no allocation.
pub(super) type ChannelIndexes = SmallVec<[ChannelIndex; 4]>;

impl NameIndex {
    /// The map that has the channel of this topic.
    pub(super) fn of(&mut self, topic: &Topic) -> &mut HashMap<ChannelName, ChannelIndexes> {
        match topic.ids {
            Ids::Entries => &mut self.logs,
            Ids::Recorded => &mut self.recorded,
            _ if topic.subscription.is_pattern => &mut self.patterns,
            _ => &mut self.plain,
        }
    }

    /// The channels of a pub/sub subscription; empty if it is not followed.
    pub(super) fn of_subscription(&self, is_pattern: bool, name: &str) -> &[ChannelIndex] {
        let names = if is_pattern { &self.patterns } else { &self.plain };
        names.get(name).map_or(&[], SmallVec::as_slice)
    }

    /// The channels of a log; empty if it is not followed.
    pub(super) fn of_log(&self, source: SourceKind, name: &str) -> &[ChannelIndex] {
        let names = match source {
            SourceKind::Recorded | SourceKind::ShardedRecorded => &self.recorded,
            SourceKind::PubSub | SourceKind::Sharded | SourceKind::Logs => &self.logs,
        };
        names.get(name).map_or(&[], SmallVec::as_slice)
    }
}
