//! How the hub names channels inside: by index, and by subject where two events are compared.

use std::hash::Hasher as _;
use std::num::NonZeroU32;

use rustc_hash::FxHasher;

/// The number by which the hub and its shards name a channel. It is used again only after every shard
/// has left the channel.
pub(super) type ChannelIndex = u32;

/// The channel that an event was published to.
///
/// Where only the newest event of each channel is queued, an event replaces those of its subject. Events of
/// one pattern subscription come from many channels, so the index of the subscription is not enough there.
// Small: it is in queues and histories with every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject(NonZeroU32);

impl Subject {
    /// Set where the subject is a hash.
    const HASHED: u32 = 1 << 31;

    /// The subject of events of a channel that is subscribed to by its name.
    pub(super) fn of(channel: ChannelIndex) -> Self {
        debug_assert!(channel < Self::HASHED - 1);
        Self(NonZeroU32::MIN.saturating_add(channel))
    }

    /// The subject of events of a channel that a pattern matches: a hash of its name. Two names have one
    /// hash once in 2^30 pairs: its highest bit and its lowest are always set.
    pub(super) fn named(channel: &[u8]) -> Self {
        let mut hasher = FxHasher::default();
        hasher.write(channel);
        let hash = hasher.finish();
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one")]
        let half = (hash >> 32) as u32 ^ hash as u32;
        Self(NonZeroU32::MIN | (half | Self::HASHED))
    }

    /// The hash, of a channel that a pattern matches.
    pub(super) fn hash(self) -> Option<u32> {
        Some(self.0.get()).filter(|hash| hash & Self::HASHED != 0)
    }

    /// The subject with this hash.
    pub(super) fn of_hash(hash: u32) -> Self {
        Self(NonZeroU32::MIN | (hash | Self::HASHED))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Subject;

    #[test]
    fn channels_have_different_subjects() {
        let names: Vec<String> = (0..1000).map(|number| format!("sensors:{number}:temp")).collect();
        let named = names.iter().map(|name| Subject::named(name.as_bytes()));
        let all: HashSet<Subject> = (0..1000).map(Subject::of).chain(named).collect();
        assert!(all.len() >= 1999, "{}", all.len());
        assert_eq!(Subject::named(b"a"), Subject::named(b"a"));
        assert_eq!(size_of::<Option<Subject>>(), 4);
    }
}
