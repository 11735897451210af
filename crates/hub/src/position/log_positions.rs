//! Where a stream stands in logs: the newest entry of each.
//!
//! On a stream of one log the id is that of the entry, `1700000000000-7`: the log's publisher knows it, and
//! so do other clients of the log. On a stream of several logs the id is a text of our own that has an
//! entry for each log. It names a log by a hash of its name, so that a client may name its channels in
//! another order when it comes back, leave some out, or add others. A log in which the stream has no
//! position yet is left out; a log that the client adds begins live.
//!
//! Such a text is `.` and base64url (RFC 4648, section 5, without padding) of these bytes: the
//! largest of the milliseconds as a varint; then for each log the hash in four bytes, how much
//! smaller its milliseconds are, and the sequence, both as varints. A varint is seven bits a byte, the
//! lowest first, the highest bit set where another byte follows. Every gateway reads such a text in
//! the same way, also after a restart. Older versions wrote `1-0~2-5`, in the order in which the
//! channels were named: that is unknown now, since the order may be another.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use smallvec::SmallVec;

use crate::EntryId;

/// The most logs on one stream. A client sends its position back in a header field, no longer than
/// [`max_position_bytes`].
pub const MAX_LOGS: usize = 250;

/// Begins a position in several logs; no id of any other kind begins so.
const MARK: &str = ".";
const TAG_BYTES: usize = 4;
const VARINT_BYTES: usize = 10;

/// The longest position in this many logs, in bytes.
pub const fn max_position_bytes(logs: usize) -> usize {
    let bytes = VARINT_BYTES + logs * (TAG_BYTES + 2 * VARINT_BYTES);
    MARK.len() + bytes.div_ceil(3) * 4
}

/// The hash that names a log in positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogTag(u32);

impl LogTag {
    /// The higher half of 64-bit FNV-1a, mixed as MurmurHash3 finishes.
    fn of(name: &str) -> Self {
        let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Self(u32::try_from(mixed >> 32).expect("half of 64 bits are 32"))
    }
}

/// The positions of a stream in its logs, in the order in which it names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPositions(Box<[LogPosition]>);

// The entry apart from whether it is known: as an option it would take a third more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogPosition {
    entry: EntryId,
    tag: LogTag,
    is_known: bool,
}

impl LogPositions {
    /// No position yet in any of these logs.
    pub(crate) fn unknown<'a>(logs: impl Iterator<Item = &'a str>) -> Self {
        let unknown =
            |name| LogPosition { entry: EntryId::ZERO, tag: LogTag::of(name), is_known: false };
        Self(logs.map(unknown).collect())
    }

    /// Takes the positions that a client sent. Returns false for a text that has none in these logs: one that
    /// no gateway writes, or in which two of these logs have the same hash.
    pub(crate) fn read(&mut self, text: &[u8]) -> bool {
        if let [position] = &mut *self.0
            && let Some(entry) = EntryId::parse(text)
        {
            position.set(entry);
            return true;
        }
        let Some(entries) = decode(text) else { return false };
        let mut is_any_known = false;
        for position in &mut self.0 {
            let mut own = entries.iter().filter(|(tag, _)| *tag == position.tag);
            match (own.next(), own.next()) {
                (Some(&(_, entry)), None) => {
                    position.set(entry);
                    is_any_known = true;
                }
                (None, _) => {}
                (Some(_), Some(_)) => return false,
            }
        }
        is_any_known && self.tags_differ()
    }

    /// The same for one of the logs. The text is the id of an entry, or a position in several logs.
    pub(crate) fn read_one(&mut self, log: usize, text: &[u8]) -> bool {
        let position = &mut self.0[log];
        let entry = EntryId::parse(text).or_else(|| {
            let entries = decode(text)?;
            let mut own = entries.iter().filter(|(tag, _)| *tag == position.tag);
            own.next().filter(|_| own.next().is_none()).map(|&(_, entry)| entry)
        });
        entry.map(|entry| position.set(entry)).is_some()
    }

    pub(crate) fn get(&self, log: usize) -> Option<EntryId> {
        self.0[log].get()
    }

    pub(crate) fn set(&mut self, log: usize, entry: EntryId) {
        self.0[log].set(entry);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<EntryId>> {
        self.0.iter().map(LogPosition::get)
    }

    /// Whether there is one log, so that the position is the id of an entry.
    pub(crate) fn is_of_one(&self) -> bool {
        self.0.len() == 1
    }

    /// The text that [`LogPositions::read`] reads; `None` while no position is known.
    pub(crate) fn text(&self) -> Option<String> {
        if let [position] = &*self.0 {
            return position.get().map(|entry| entry.to_string());
        }
        let known = || self.0.iter().filter(|position| position.is_known);
        let newest = known().map(|position| position.entry.milliseconds).max()?;
        let mut bytes = SmallVec::<[u8; 256]>::new();
        put_varint(&mut bytes, newest);
        for LogPosition { entry, tag, .. } in known() {
            bytes.extend_from_slice(&tag.0.to_be_bytes());
            put_varint(&mut bytes, newest - entry.milliseconds);
            put_varint(&mut bytes, entry.sequence);
        }
        let mut text = MARK.to_owned();
        BASE64_URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
        Some(text)
    }

    fn tags_differ(&self) -> bool {
        let mut tags: Vec<u32> = self.0.iter().map(|position| position.tag.0).collect();
        tags.sort_unstable();
        tags.windows(2).all(|pair| pair[0] != pair[1])
    }
}

impl LogPosition {
    fn get(&self) -> Option<EntryId> {
        self.is_known.then_some(self.entry)
    }

    fn set(&mut self, entry: EntryId) {
        (self.entry, self.is_known) = (entry, true);
    }
}

/// The entries of a position in several logs; `None` for a text that no gateway writes.
fn decode(text: &[u8]) -> Option<Vec<(LogTag, EntryId)>> {
    let encoded = text.strip_prefix(MARK.as_bytes())?;
    // A gateway never writes a longer one.
    if text.len() > max_position_bytes(MAX_LOGS) {
        return None;
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?;
    let mut rest = &bytes[..];
    let newest = take_varint(&mut rest)?;
    let mut entries = Vec::new();
    while let Some((tag, after)) = rest.split_first_chunk::<TAG_BYTES>() {
        rest = after;
        let milliseconds = newest.checked_sub(take_varint(&mut rest)?)?;
        let entry = EntryId { milliseconds, sequence: take_varint(&mut rest)? };
        entries.push((LogTag(u32::from_be_bytes(*tag)), entry));
    }
    (rest.is_empty() && !entries.is_empty()).then_some(entries)
}

fn put_varint(bytes: &mut SmallVec<[u8; 256]>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(low_bits(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_bits(number));
}

fn low_bits(number: u64) -> u8 {
    u8::try_from(number & 0x7f).expect("seven bits")
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{LogPositions, LogTag, MAX_LOGS, max_position_bytes};
    use crate::EntryId;

    fn id(text: &str) -> EntryId {
        EntryId::parse(text.as_bytes()).expect(text)
    }

    fn positions(logs: &[(&str, Option<&str>)]) -> LogPositions {
        let mut positions = LogPositions::unknown(logs.iter().map(|(name, _)| *name));
        for (log, (_, entry)) in logs.iter().enumerate() {
            if let Some(entry) = entry {
                positions.set(log, id(entry));
            }
        }
        positions
    }

    fn read(names: &[&str], text: &str) -> Option<Vec<Option<EntryId>>> {
        let mut positions = LogPositions::unknown(names.iter().copied());
        positions.read(text.as_bytes()).then(|| positions.iter().collect())
    }

    #[test]
    fn the_position_in_one_log_is_the_id_of_the_entry() {
        assert_eq!(positions(&[("a", Some("1-7"))]).text().as_deref(), Some("1-7"));
        assert_eq!(read(&["a"], "1-7"), Some(vec![Some(id("1-7"))]));
        assert_eq!(positions(&[("a", None)]).text(), None);
        assert_eq!(positions(&[("a", None), ("b", None)]).text(), None);
    }

    #[test]
    fn a_position_written_by_an_earlier_release_is_read() {
        let logs = [("orders:7", Some("1700000000000-7")), ("news", Some("1699999999000-0"))];
        let text = ".gNCV_7wxetLCFgAHUSU4v-gHAA";
        assert_eq!(positions(&logs).text().as_deref(), Some(text));
        let both = [Some(id("1699999999000-0")), Some(id("1700000000000-7"))];
        assert_eq!(read(&["news", "orders:7"], text).as_deref(), Some(&both[..]));
    }

    #[test]
    fn every_other_text_is_unknown() {
        let ours = positions(&[("a", Some("1-0")), ("b", Some("2-5"))]).text().expect("known");
        for text in [
            "",
            ".",
            "~",
            // As older versions wrote it.
            "1-0~2-5",
            "1-0~",
            "~1-0",
            "1-0",
            "abcdef-1",
            &ours[1..],
            &ours[..ours.len() - 1],
            &format!("{ours}A"),
            &format!("{ours}="),
            &ours.replacen('.', "..", 1),
            &format!(".{}", "A".repeat(4096)),
            &format!(".{}", "_".repeat(20_000)),
        ] {
            assert_eq!(read(&["a", "b"], text), None, "{text}");
        }
        assert_eq!(read(&["c", "d"], &ours), None, "it has no position in these");
        let mut positions = LogPositions::unknown(["a"].into_iter());
        assert!(!positions.read(b"\xff\xfe-1") && !positions.read(&[b'1'; 4096]));
    }

    #[test]
    fn a_position_in_which_two_logs_have_one_hash_is_unknown() {
        // Two of 200,000 names have the same hash.
        let mut known = HashMap::new();
        let pair = (0..200_000).find_map(|number| {
            let name = format!("c{number}");
            let other = known.insert(LogTag::of(&name).0, name.clone());
            other.map(|other| (other, name))
        });
        let (one, other) = pair.expect("by the birthday paradox");
        let text = positions(&[(&one, Some("1-0")), (&other, Some("2-0"))]).text();
        assert_eq!(read(&[&one, &other], &text.expect("known")), None);
        let text = positions(&[(&one, Some("1-0")), ("x", Some("2-0"))]).text();
        assert_eq!(read(&[&one, &other], &text.expect("known")), None);
    }

    #[test]
    fn the_longest_position_is_within_its_bound() {
        let names: Vec<String> = (0..MAX_LOGS).map(|number| format!("log{number}")).collect();
        let mut positions = LogPositions::unknown(names.iter().map(String::as_str));
        for log in 0..MAX_LOGS {
            let milliseconds = if log == 0 { u64::MAX } else { 0 };
            positions.set(log, EntryId { milliseconds, sequence: u64::MAX });
        }
        let longest = positions.text().expect("known").len();
        let most = max_position_bytes(MAX_LOGS);
        assert!((most - 30..=most).contains(&longest), "{longest} of {most}");
        // As they are written by Redis: twelve bytes for each.
        for log in 0..MAX_LOGS {
            let milliseconds = 1_700_000_000_000 + 1000 * log as u64;
            positions.set(log, EntryId { milliseconds, sequence: 0 });
        }
        assert!(positions.text().expect("known").len() <= 12 * MAX_LOGS);
    }

    proptest! {
        /// In any order, and whichever logs were added or left out.
        #[test]
        fn a_log_is_found_by_its_name(
            entries in proptest::collection::hash_map(0..40_u8, any::<Option<(u64, u64)>>(), 1..20),
            order in Just((0..40_u8).collect::<Vec<_>>()).prop_shuffle(),
            count in 1..40_usize,
        ) {
            let name = |log: &u8| format!("orders:{log}");
            let names: Vec<String> = entries.keys().map(name).collect();
            let mut written = LogPositions::unknown(names.iter().map(String::as_str));
            let entry = |(milliseconds, sequence)| EntryId { milliseconds, sequence };
            for (log, at) in entries.values().enumerate() {
                if let Some(at) = at {
                    written.set(log, entry(*at));
                }
            }
            let named = &order[..count];
            let names: Vec<String> = named.iter().map(name).collect();
            let mut found = LogPositions::unknown(names.iter().map(String::as_str));
            let expected: Vec<Option<EntryId>> =
                named.iter().map(|log| entries.get(log).copied().flatten().map(entry)).collect();
            let is_any_known = expected.iter().any(Option::is_some);
            let position = written.text();
            let is_read = position.as_ref().is_some_and(|text| found.read(text.as_bytes()));
            // The id of an entry does not name its log: it is read as that of the only log.
            let is_plain = entries.len() == 1;
            if is_plain && position.is_some() {
                prop_assert_eq!(is_read, named.len() == 1);
            } else {
                prop_assert_eq!(is_read, is_any_known);
                if is_read {
                    prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
                }
            }
            if let Some(text) = position {
                prop_assert!(text.len() <= max_position_bytes(entries.len()));
            }
        }

        /// No bytes make it panic.
        #[test]
        fn any_text_is_read_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut positions = LogPositions::unknown(["a", "b"].into_iter());
            positions.read(&text);
            let mut marked = b".".to_vec();
            marked.extend(text.iter().filter(|byte| byte.is_ascii_alphanumeric()));
            positions.read(&marked);
            positions.read_one(0, &marked);
        }
    }
}
