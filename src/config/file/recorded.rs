//! `recorded`: how long what gateways record is kept, and where.

use std::time::Duration;

use ssegate_strict_yaml::{Count, Size, Time, mapping};

use crate::source::recorded::RecordedSettings;

mapping! {
    /// Channels with `source: recorded`: gateways record in Redis Streams what is published there with PUBLISH.
    #[schemars(rename = "Recorded")]
    pub(crate) struct RecordedFile sets RecordedSettings {
        /// What the keys of the streams begin with; `{channel}` follows.
        prefix: String => prefix,
        /// About how many messages are kept of each channel.
        count: Count => count,
        /// How long a message is kept.
        age: Time => age in Time(Duration::from_secs(1))..=Time(Duration::from_secs(366 * 24 * 60 * 60)),
        /// What may wait to be recorded while Redis is slow, of all channels together. More is delivered, and not
        /// recorded.
        memory: Size => memory in Size::kib(64)..=Size::MAX,
    }
}
