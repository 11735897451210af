//! The streams of the bus: in memory only, within a bound, lost with the process.
//!
//! [`StreamStore`] has them by name, with their expiries and the memory that they take together. [`stream`]
//! is one of them, [`waiting`] has the connections that are blocked in `XREAD`. Pure: time is passed in. Does
//! not know commands.

pub(crate) mod id;
pub(crate) mod reply;
pub(crate) mod stream;
pub(crate) mod trim;
pub(crate) mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use self::id::{StreamId, WantedId};
use self::stream::{BusStream, IdRefused, StreamFields};
use self::trim::StreamTrim;
use crate::settings::BusSettings;

/// All streams. Clients choose the names, so the map uses the standard library's seeded hash.
#[derive(Debug, Default)]
pub(crate) struct StreamStore {
    keys: HashMap<Rc<[u8]>, StoredStream>,
    /// The streams that expire, the next one first; in milliseconds since 1970.
    expiries: BTreeSet<(i64, Rc<[u8]>)>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct StoredStream {
    stream: BusStream,
    expires: Option<i64>,
}

/// An entry to be added.
#[derive(Debug)]
pub(crate) struct NewEntry {
    pub(crate) id: WantedId,
    pub(crate) fields: StreamFields,
    /// How to trim the stream then.
    pub(crate) trim: Option<StreamTrim>,
    /// Whether the stream is created if it does not exist.
    pub(crate) creates: bool,
}

/// Why an entry is not added, in the words of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryRefused {
    /// The id is not above that of the last entry.
    #[error("ERR The ID specified in XADD is equal or smaller than the target stream top item")]
    NotAbove,
    /// The last entry has the highest sequence number of the millisecond that the new one should have. (The
    /// text of Redis says something else.)
    #[error("ERR Elements are too large to be stored")]
    NoneInMillisecond,
    /// The last entry has the highest id that there is.
    #[error("ERR The stream has exhausted the last possible ID, unable to add more items")]
    Exhausted,
    /// All streams together take
    /// [`max_stream_bytes`](BusSettings::max_stream_bytes).
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// The name of the stream is too long.
    #[error("ERR name of {0} bytes is too long; the limit is {max} bytes", max = BusSettings::MAX_NAME_BYTES)]
    NameTooLong(usize),
}

impl StreamStore {
    /// What a stream costs beside its name and its entries, in bytes. So the bound on memory bounds the
    /// number of streams, too.
    pub(crate) const KEY_OVERHEAD: usize = 512;

    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// The memory that all streams take, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// The number of streams.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of streams that expire.
    pub(crate) fn expiring(&self) -> usize {
        self.expiries.len()
    }

    /// Removes what has expired. Called before each access, so that no access sees an expired stream.
    pub(crate) fn sweep(&mut self, now_ms: i64) {
        while self.expiries.first().is_some_and(|(at, _)| *at <= now_ms)
            && let Some((_, name)) = self.expiries.pop_first()
        {
            self.forget(&name);
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&BusStream> {
        self.keys.get(name).map(|stored| &stored.stream)
    }

    /// Adds an entry, and trims its stream. Returns its id; `None` if there is no stream and
    /// [`NewEntry::creates`] is false.
    ///
    /// # Errors
    /// Nothing has changed.
    pub(crate) fn add(
        &mut self,
        name: &[u8],
        entry: NewEntry,
        now_ms: i64,
    ) -> Result<Option<StreamId>, EntryRefused> {
        let NewEntry { id, fields, trim, creates } = entry;
        let existing = self.get(name);
        if existing.is_none() && !creates {
            return Ok(None);
        }
        if name.len() > BusSettings::MAX_NAME_BYTES {
            return Err(EntryRefused::NameTooLong(name.len()));
        }
        let now = u64::try_from(now_ms).unwrap_or_default();
        let empty = BusStream::default();
        let id = existing.unwrap_or(&empty).next_id(id, now)?;
        let name_bytes = if existing.is_none() { Self::key_bytes(name) } else { 0 };
        let needed = fields.held_bytes().saturating_add(name_bytes);
        if needed > self.max_bytes.saturating_sub(self.bytes) {
            // Where the entry replaces older ones, it needs no more memory than they did.
            let freed = trim.zip(existing).map_or(0, |(trim, stream)| stream.freed_by(&trim));
            if needed > self.max_bytes.saturating_sub(self.bytes - freed) {
                return Err(EntryRefused::OutOfMemory);
            }
        }
        let is_new = existing.is_none();
        self.bytes += name_bytes;
        if is_new {
            self.keys.insert(name.into(), StoredStream::default());
        }
        self.change(name, |stream| {
            stream.add(id, fields);
            trim.map(|trim| stream.trim(&trim));
        });
        Ok(Some(id))
    }

    /// Trims a stream. Returns how many entries were removed.
    pub(crate) fn trim(&mut self, name: &[u8], trim: &StreamTrim) -> usize {
        self.change(name, |stream| stream.trim(trim)).unwrap_or_default()
    }

    /// Removes entries. Returns how many there were.
    pub(crate) fn delete_entries(&mut self, name: &[u8], ids: &[StreamId]) -> usize {
        let delete = |stream: &mut BusStream| ids.iter().filter(|id| stream.delete(**id)).count();
        self.change(name, delete).unwrap_or_default()
    }

    /// Removes a stream. Returns whether there was one.
    pub(crate) fn remove(&mut self, name: &[u8]) -> bool {
        self.set_expiry(name, None);
        self.forget(name)
    }

    /// When a stream expires, in milliseconds since 1970: `None` if there is no stream, `Some(None)` if it
    /// does not expire.
    pub(crate) fn expiry(&self, name: &[u8]) -> Option<Option<i64>> {
        self.keys.get(name).map(|stored| stored.expires)
    }

    /// Sets when a stream expires. No effect if there is none.
    pub(crate) fn set_expiry(&mut self, name: &[u8], expires: Option<i64>) {
        let Some((name, _)) = self.keys.get_key_value(name) else { return };
        let name = Rc::clone(name);
        let Some(stored) = self.keys.get_mut(&name) else { return };
        if let Some(before) = std::mem::replace(&mut stored.expires, expires) {
            self.expiries.remove(&(before, Rc::clone(&name)));
        }
        self.expiries.extend(expires.map(|at| (at, name)));
    }

    fn key_bytes(name: &[u8]) -> usize {
        Self::KEY_OVERHEAD + name.len()
    }

    /// Changes a stream, and counts the memory that it takes then.
    fn change<T>(&mut self, name: &[u8], change: impl FnOnce(&mut BusStream) -> T) -> Option<T> {
        let stream = &mut self.keys.get_mut(name)?.stream;
        let before = stream.held_bytes();
        let result = change(stream);
        self.bytes = self.bytes - before + stream.held_bytes();
        Some(result)
    }

    /// Removes a stream that is not among those that expire.
    fn forget(&mut self, name: &[u8]) -> bool {
        let Some(stored) = self.keys.remove(name) else { return false };
        self.bytes -= stored.stream.held_bytes() + Self::key_bytes(name);
        if self.keys.capacity() > 64 && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to_fit();
        }
        true
    }
}

impl From<IdRefused> for EntryRefused {
    fn from(no_id: IdRefused) -> Self {
        match no_id {
            IdRefused::NotAbove => Self::NotAbove,
            IdRefused::NoneInMillisecond => Self::NoneInMillisecond,
            IdRefused::Exhausted => Self::Exhausted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::id::{StreamId, WantedId};
    use super::stream::StreamFields;
    use super::trim::{StreamTrim, TrimStrategy};
    use super::{EntryRefused, NewEntry, StreamStore};

    fn entry(value: &[u8], max_len: Option<usize>) -> NewEntry {
        NewEntry {
            id: WantedId::Auto,
            fields: StreamFields::copy([&b"data"[..], value].into_iter()),
            trim: max_len
                .map(|most| StreamTrim { strategy: TrimStrategy::MaxLen(most), limit: None }),
            creates: true,
        }
    }

    #[test]
    fn a_full_store_refuses_entries_until_something_is_removed() {
        let mut store = StreamStore::new(10_000);
        let kilobyte = [0; 1000];
        let mut added = 0;
        while store.add(b"a", entry(&kilobyte, None), 1).is_ok() {
            added += 1;
        }
        assert!((5..10).contains(&added) && store.held_bytes() <= 10_000, "{added}");
        assert_eq!(store.add(b"b", entry(&kilobyte, None), 1), Err(EntryRefused::OutOfMemory));
        assert!(store.get(b"b").is_none(), "a stream that has no entry is not created");
        // What an entry replaces is free for it.
        assert!(store.add(b"a", entry(&kilobyte, Some(added)), 1).is_ok());
        assert_eq!(store.trim(b"a", &entry(b"", Some(1)).trim.expect("given")), added - 1);
        assert!(store.add(b"b", entry(&kilobyte, None), 1).is_ok());
        assert!(store.remove(b"a") && store.remove(b"b") && !store.remove(b"b"));
        assert_eq!((store.held_bytes(), store.len()), (0, 0));
    }

    #[test]
    fn names_alone_cannot_exceed_the_bound() {
        let mut store = StreamStore::new(100_000);
        for number in 0..10_000_u32 {
            let fields = StreamFields::copy([].into_iter());
            let entry = NewEntry { fields, ..entry(b"", Some(0)) };
            if store.add(&number.to_be_bytes(), entry, 1).is_err() {
                break;
            }
        }
        assert!(store.held_bytes() <= 100_000 && store.len() < 200);
    }

    #[test]
    fn a_stream_ends_in_the_millisecond_in_which_it_expires() {
        let mut store = StreamStore::new(100_000);
        for name in [b"a", b"b", b"c"] {
            store.add(name, entry(b"x", None), 1).expect("added");
        }
        store.set_expiry(b"a", Some(100));
        store.set_expiry(b"b", Some(50));
        store.set_expiry(b"b", Some(200));
        store.set_expiry(b"c", Some(100));
        store.set_expiry(b"c", None);
        store.sweep(99);
        assert_eq!((store.len(), store.expiring()), (3, 2));
        store.sweep(100);
        assert_eq!((store.expiry(b"a"), store.expiry(b"b")), (None, Some(Some(200))));
        store.sweep(200);
        assert_eq!((store.len(), store.expiry(b"c")), (1, Some(None)));
        store.remove(b"c");
        assert_eq!((store.held_bytes(), store.expiring()), (0, 0));
    }

    #[test]
    fn deleted_entries_are_counted_once() {
        let mut store = StreamStore::new(100_000);
        for now in 1..4 {
            store.add(b"a", entry(b"x", None), now).expect("added");
        }
        let ids = [1, 2, 1, 9].map(|ms| StreamId { ms, seq: 0 });
        assert_eq!(store.delete_entries(b"a", &ids), 2);
        assert_eq!(store.delete_entries(b"b", &ids), 0);
        assert!(store.remove(b"a"));
        assert_eq!(store.held_bytes(), 0);
    }
}
