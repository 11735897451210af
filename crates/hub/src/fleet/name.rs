//! Names of messages that every gateway of a fleet understands.
//!
//! Redis sends one order of messages to all subscribers of a server, over all its channels. So the k-th
//! message of a subscription since a mark is the same message at every gateway that was already subscribed
//! when the mark came. Two messages with equal payloads have different names.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::rules::FleetRule;
use crate::Subscription;

/// A mark: a random number that a gateway publishes for all.
pub(crate) type MarkId = u64;

/// The name of a message on one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct EventName {
    /// The newest mark that was received before it.
    pub(crate) mark: MarkId,
    /// Which message of the subscription since that mark, from 1 to [`Self::MAX_K`]; 0 for a message without a name.
    pub(crate) k: u32,
    /// A hash of the payload: shows that two servers do not have the same order.
    pub(crate) check: u16,
}

impl EventName {
    /// The last message after a mark that has a name: `k` has 24 bits in a text. Marks come each second, and nobody
    /// publishes 16 million messages on one channel in that time.
    pub(crate) const MAX_K: u32 = (1 << 24) - 1;

    /// The name, if there is one.
    pub(crate) fn known(self) -> Option<Self> {
        (self.k != 0).then_some(self)
    }
}

/// A subscription in a [`FleetPosition`]: a hash of its kind and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubscriptionTag(u32);

impl SubscriptionTag {
    pub(crate) fn of(subscription: &Subscription) -> Self {
        let seed = if subscription.is_pattern { b'P' } else { b'C' };
        let hash = hash(u64::from(seed), subscription.name.as_str().as_bytes());
        let tag = (hash >> 32) as u32;
        Self(if FleetRule::WideTags.holds() { tag } else { tag & 1 })
    }
}

/// A place in the order of a server: right behind a message, or right behind a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FleetPosition {
    /// The subscription of the message. Behind a mark: one subscription of the stream.
    pub(crate) tag: SubscriptionTag,
    /// The message; with `k` 0, the mark itself.
    pub(crate) name: EventName,
}

impl FleetPosition {
    /// Characters of its text.
    pub(crate) const CHARACTERS: usize = 23;

    /// Behind `mark`, for a stream that is subscribed to `tag`.
    pub(crate) fn of_mark(mark: MarkId, tag: SubscriptionTag) -> Self {
        Self { tag, name: EventName { mark, k: 0, check: 0 } }
    }

    /// Its text: 17 bytes in base64url (RFC 4648, section 5, without padding).
    pub(crate) fn text(self) -> [u8; Self::CHARACTERS] {
        let [_, k @ ..] = self.name.k.min(EventName::MAX_K).to_be_bytes();
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&self.name.mark.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.tag.0.to_be_bytes());
        bytes[12..14].copy_from_slice(&self.name.check.to_be_bytes());
        bytes[14..].copy_from_slice(&k);
        let mut text = [0; Self::CHARACTERS];
        let written = BASE64_URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(Self::CHARACTERS));
        text
    }

    /// Reads a text that a client sent; `None` for every other text.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::CHARACTERS {
            return None;
        }
        let mut bytes = [0; 17];
        BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (mark, rest) = bytes.split_first_chunk::<8>()?;
        let (tag, rest) = rest.split_first_chunk::<4>()?;
        let (check, rest) = rest.split_first_chunk::<2>()?;
        let &[high, middle, low] = rest else { return None };
        let name = EventName {
            mark: u64::from_be_bytes(*mark),
            k: u32::from_be_bytes([0, high, middle, low]),
            check: u16::from_be_bytes(*check),
        };
        Some(Self { tag: SubscriptionTag(u32::from_be_bytes(*tag)), name })
    }
}

/// The check of a payload in an [`EventName`].
pub(crate) fn payload_check(payload: &[u8]) -> u16 {
    (hash(0, payload) >> 48) as u16
}

/// A hash that is the same in every version of the gateway, on every machine, because gateways compare its
/// values. It takes eight bytes at a time. It protects against chance, not against an attacker: anyone who
/// may publish has no need to forge.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    /// 2^64 divided by the golden ratio, made odd: its bits are spread evenly.
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    let mut hash = mix(seed, bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = mix(hash, u64::from_le_bytes(last));
    mix(hash, hash >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{EventName, FleetPosition, SubscriptionTag, payload_check};
    use crate::{ChannelName, Subscription};

    fn tag(name: &str, is_pattern: bool) -> SubscriptionTag {
        let name = ChannelName::new(name).expect("a name");
        SubscriptionTag::of(&Subscription { name, is_pattern })
    }

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        for (mark, k, check) in
            [(0, 0, 0), (u64::MAX, EventName::MAX_K, u16::MAX), (1 << 60, 7, 0x8001)]
        {
            let name = EventName { mark, k, check };
            let position = FleetPosition { tag: tag("orders:*", true), name };
            assert_eq!(FleetPosition::parse(&position.text()), Some(position));
        }
    }

    #[test]
    fn every_other_text_is_unknown() {
        let text = FleetPosition::of_mark(7, tag("a", false)).text();
        for end in 0..text.len() {
            assert_eq!(FleetPosition::parse(&text[..end]), None);
        }
        for wrong in [b'=', b'+', b'/', b' ', b'\n', 0xff] {
            let mut text = text;
            text[5] = wrong;
            assert_eq!(FleetPosition::parse(&text), None, "{wrong}");
        }
    }

    // Gateways of two versions stand beside each other during a deploy.
    #[test]
    fn the_hashes_stay_as_they_are() {
        assert_eq!(payload_check(b""), PINNED[0]);
        assert_eq!(payload_check(b"hello"), PINNED[1]);
        assert_eq!(payload_check(&[b'x'; 1000]), PINNED[2]);
        let position = FleetPosition::of_mark(0x0123_4567_89ab_cdef, tag("news", false));
        assert_eq!(str::from_utf8(&position.text()), Ok(PINNED_TEXT));
    }

    const PINNED: [u16; 3] = [0, 37350, 7172];
    const PINNED_TEXT: &str = "ASNFZ4mrze8_3S6fAAAAAAA";

    #[test]
    fn a_pattern_is_not_the_channel_of_its_name() {
        assert_ne!(tag("a", false), tag("a", true));
    }

    #[test]
    fn hashes_of_similar_payloads_and_names_are_spread() {
        let payloads = (0..1000).map(|number| format!("{{\"order\":{number}}}"));
        let checks: HashSet<u16> = payloads.map(|text| payload_check(text.as_bytes())).collect();
        assert!(checks.len() > 980, "{}", checks.len());
        let tags: HashSet<_> = (0..10_000).map(|n| tag(&format!("user:{n}"), false)).collect();
        assert!(tags.len() >= 9_999, "{}", tags.len());
        let zeros: HashSet<u16> = (0..64).map(|length| payload_check(&vec![0; length])).collect();
        assert!(zeros.len() > 62, "{}", zeros.len());
    }
}
