//! Which messages are in one order with each other, and with which marks.

use ssegate_hub::{ChannelName, SourceKind};

use crate::source::recorded::{MARKS, RecordedSettings};
use crate::source::redis::cluster::{slot_of, tag_of};

/// A set of channels whose messages are in one order, with marks of its own.
///
/// Sharded channels have the order of their slot: while it is at one node, all messages and marks of the slot arrive on
/// one connection, in the order in which that node received them. The key of the last mark is in the same slot and
/// moves with it, so marks ascend at any node.
#[derive(Clone, Debug)]
pub(in super::super) enum RecordOrder {
    /// All channels of a server.
    Server,
    /// The sharded channels of one slot.
    Slot {
        /// Which one.
        slot: u16,
        /// A hash tag that belongs to it.
        tag: String,
    },
}

impl RecordOrder {
    /// The order of the sharded channels of a slot.
    pub(in super::super) fn of_slot(slot: u16) -> Self {
        Self::Slot { slot, tag: tag_of(slot) }
    }

    /// The number that identifies it among the orders of a server.
    pub(in super::super) fn number(&self) -> u16 {
        match self {
            Self::Server => 0,
            Self::Slot { slot, .. } => *slot,
        }
    }

    /// Whether its channels are sharded.
    pub(in super::super) fn is_sharded(&self) -> bool {
        matches!(self, Self::Slot { .. })
    }

    /// The source of its channels, for the hub.
    pub(in super::super) fn source(&self) -> SourceKind {
        match self {
            Self::Server => SourceKind::Recorded,
            Self::Slot { .. } => SourceKind::ShardedRecorded,
        }
    }

    /// The channel of its marks.
    pub(in super::super) fn marks(&self) -> String {
        match self {
            Self::Server => MARKS.to_owned(),
            Self::Slot { tag, .. } => format!("{MARKS}:{{{tag}}}"),
        }
    }

    /// The key that has its last mark.
    pub(in super::super) fn mark_key(&self, settings: &RecordedSettings) -> String {
        match self {
            Self::Server => settings.mark_key(),
            Self::Slot { tag, .. } => format!("{}:{{{tag}}}", settings.mark_key()),
        }
    }

    /// The key of the log of a channel, by the name that the hub has for it.
    pub(in super::super) fn log_key(
        &self,
        settings: &RecordedSettings,
        name: &ChannelName,
    ) -> String {
        match self {
            Self::Server => settings.log_key(name.as_str()),
            Self::Slot { slot, tag } => {
                // A different key from that of the plain channel of the same name.
                let (prefix, channel) = (&settings.prefix, name.in_redis());
                let key = format!("{prefix}sharded:{{{channel}}}");
                // A name with braces belongs to the slot of what they enclose.
                match slot_of(key.as_bytes()) == *slot {
                    true => key,
                    false => format!("{prefix}sharded:{{{tag}}}:{channel}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ssegate_hub::ChannelName;

    use super::{RecordOrder, slot_of};
    use crate::source::recorded::RecordedSettings;

    #[test]
    fn all_keys_and_the_marks_of_a_sharded_channel_are_in_its_slot() {
        let settings = RecordedSettings::default();
        for channel in ["orders:7", "orders-{7}-new", "{7}", "a}b", "a{b", "{}", "a{}{b}", "{a}b}"]
        {
            let slot = slot_of(channel.as_bytes());
            let order = RecordOrder::of_slot(slot);
            let name = ChannelName::sharded(channel).expect("a name");
            let names = [order.marks(), order.mark_key(&settings), order.log_key(&settings, &name)];
            for name in names {
                assert_eq!(slot_of(name.as_bytes()), slot, "{channel}: {name}");
                assert!(name.starts_with("ssegate:log:") || name.starts_with("ssegate:recorded:"));
            }
        }
        let key = |channel: &str| {
            let name = ChannelName::sharded(channel).expect("a name");
            RecordOrder::of_slot(slot_of(channel.as_bytes())).log_key(&settings, &name)
        };
        assert_eq!(key("orders:7"), "ssegate:log:sharded:{orders:7}");
        assert!(key("orders-{7}-new").ends_with("}:orders-{7}-new"));
    }
}
