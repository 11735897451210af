//! Hash slots: which of the 16,384 slots of a Cluster a key, or a sharded channel, belongs to
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>).

use std::sync::LazyLock;

/// The number of slots of a Cluster.
pub(in super::super) const SLOTS: u16 = 16_384;

/// The slot of a key: the CRC16 of its hash tag, or of all of it.
pub(in super::super) fn slot_of(key: &[u8]) -> u16 {
    crc16(hashed_part(key)) % SLOTS
}

/// A hash tag of this slot, without its braces: a name with the tag in braces belongs to the slot.
pub(in super::super) fn tag_of(slot: u16) -> String {
    TAGS.get(usize::from(slot)).copied().unwrap_or_default().to_string()
}

/// For each slot, the lowest number that is a tag of it.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut tags = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0..MAX_TAG {
        let tag: &mut Option<u32> = &mut tags[usize::from(slot_of(number.to_string().as_bytes()))];
        if tag.is_none() {
            *tag = Some(number);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().map(Option::unwrap_or_default).collect()
});

/// The numbers below this include a tag of every slot.
const MAX_TAG: u32 = 1 << 20;

/// The bytes between the first opening brace and the next closing one; the whole key if there are none
/// or nothing is between them.
fn hashed_part(key: &[u8]) -> &[u8] {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let behind = &key[open + 1..];
        let close = behind.iter().position(|&byte| byte == b'}')?;
        Some(&behind[..close]).filter(|tag| !tag.is_empty())
    });
    tag.unwrap_or(key)
}

/// CRC-16/XMODEM: polynomial 0x1021, starting at zero, without reflection.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from(crc.to_be_bytes()[0] ^ byte)])
}

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut at: usize = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = (at as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, crc16, slot_of, tag_of};

    #[test]
    fn slots_are_those_of_redis() {
        // The check value of the specification, and what CLUSTER KEYSLOT replies.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, slot) in [
            ("123456789", 12739),
            ("foo", 12182),
            ("bar", 5061),
            ("", 0),
            ("user1000", 3443),
            ("{user1000}.following", 3443),
            ("foo{user1000}{bar}", 3443),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        // No tag, a brace in the tag, an empty one before another.
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar"), crc16(b"foo{bar") % SLOTS);
    }

    #[test]
    fn each_slot_has_a_tag() {
        for slot in 0..SLOTS {
            assert_eq!(slot_of(format!("key{{{}}}", tag_of(slot)).as_bytes()), slot);
        }
    }
}
