//! What an event tells of: the channel that it was published to.
//!
//! Where only the newest event of each channel is kept, events of one subject replace one another. A
//! pattern hears many channels, so there it is not the subscription that counts.

use std::hash::Hasher as _;
use std::num::NonZeroU32;

use rustc_hash::FxHasher;

use super::inbox::ChannelIndex;

/// A channel, as far as it is needed to know two events of one channel.
// Small: it waits in queues and histories with every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject(NonZeroU32);

impl Subject {
    /// Set for channels that are known by their names.
    const NAMED: u32 = 1 << 31;

    /// A channel that is followed by its name.
    pub(super) fn of(channel: ChannelIndex) -> Self {
        debug_assert!(channel < Self::NAMED - 1);
        Self(NonZeroU32::MIN.saturating_add(channel))
    }

    /// A channel that a pattern matches. Two of them may have one subject: once in 2^31 pairs.
    pub(super) fn named(channel: &[u8]) -> Self {
        let mut hasher = FxHasher::default();
        hasher.write(channel);
        let hash = hasher.finish();
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one")]
        let half = (hash >> 32) as u32 ^ hash as u32;
        Self(NonZeroU32::MIN | (half | Self::NAMED))
    }

    /// One of a stream's logs.
    pub(super) fn of_log(log: usize) -> Self {
        Self::of(ChannelIndex::try_from(log).expect("a stream has few"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Subject;

    #[test]
    fn channels_differ() {
        let names: Vec<String> = (0..1000).map(|number| format!("sensors:{number}:temp")).collect();
        let named = names.iter().map(|name| Subject::named(name.as_bytes()));
        let all: HashSet<Subject> = (0..1000).map(Subject::of).chain(named).collect();
        assert!(all.len() >= 1999, "{}", all.len());
        assert_eq!(Subject::named(b"a"), Subject::named(b"a"));
        assert_eq!(size_of::<Option<Subject>>(), 4);
    }
}
