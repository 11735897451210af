//! The connections that are blocked in `XREAD`, and for which streams. Does not know what the streams have.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use bytes::Bytes;

use super::id::StreamId;
use crate::outbox::Outbox;

/// A connection that is blocked in `XREAD`.
#[derive(Debug)]
pub(crate) struct BlockedRead {
    /// The number of the connection.
    pub(crate) client: u64,
    /// The streams, each with the id after which entries are wanted.
    pub(crate) streams: Vec<(Bytes, StreamId)>,
    /// Entries of one stream, at most.
    pub(crate) count: usize,
    /// Where the reply goes.
    pub(crate) outbox: Rc<Outbox>,
    /// It has its reply, or will not get one any more.
    is_over: Cell<bool>,
}

/// All connections that are blocked.
#[derive(Debug, Default)]
pub(crate) struct WaitingReads {
    by_stream: HashMap<Bytes, StreamReaders>,
    by_client: HashMap<u64, (u64, Rc<BlockedRead>)>,
    blocked: u64,
    /// Streams with new entries for which a connection waits, in the order in which they got them.
    ready: Vec<Bytes>,
}

/// The connections that wait for one stream.
#[derive(Debug, Default)]
struct StreamReaders {
    /// In the order in which they were blocked.
    waiting: BTreeMap<u64, WaitingFor>,
    /// The stream is among those that are ready.
    is_ready: bool,
}

type WaitingFor = (Rc<BlockedRead>, StreamId);

impl BlockedRead {
    /// What one name costs beside its bytes.
    const NAME_OVERHEAD: usize = 160;

    pub(crate) fn new(
        client: u64,
        streams: Vec<(Bytes, StreamId)>,
        count: usize,
        outbox: Rc<Outbox>,
    ) -> Self {
        Self { client, streams, count, outbox, is_over: Cell::new(false) }
    }

    /// Whether it has its reply, or will not get one any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    fn held_bytes(&self) -> isize {
        let names = self.streams.iter().map(|(name, _)| name.len() + Self::NAME_OVERHEAD);
        names.sum::<usize>().cast_signed()
    }
}

impl WaitingReads {
    /// The number of connections that are blocked.
    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Adds a connection, which is not blocked. Where it names a stream twice, the first counts, as in Redis.
    pub(crate) fn block(&mut self, read: BlockedRead) -> Rc<BlockedRead> {
        let (read, turn) = (Rc::new(read), self.blocked);
        self.blocked += 1;
        for (name, after) in &read.streams {
            let readers = self.by_stream.entry(name.clone()).or_default();
            readers.waiting.entry(turn).or_insert_with(|| (Rc::clone(&read), *after));
        }
        read.outbox.record_name(read.held_bytes());
        self.by_client.insert(read.client, (turn, Rc::clone(&read)));
        read
    }

    /// Removes a connection. Returns what it waited for; `None` if it was not blocked.
    pub(crate) fn release(&mut self, client: u64) -> Option<Rc<BlockedRead>> {
        let (turn, read) = self.by_client.remove(&client)?;
        for (name, _) in &read.streams {
            if let Some(readers) = self.by_stream.get_mut(name) {
                readers.waiting.remove(&turn);
                if readers.waiting.is_empty() {
                    self.by_stream.remove(name);
                }
            }
        }
        read.outbox.record_name(-read.held_bytes());
        read.is_over.set(true);
        Some(read)
    }

    /// Records that a stream has a new entry.
    pub(crate) fn record_entry(&mut self, name: &[u8]) {
        if let Some(readers) = self.by_stream.get_mut(name)
            && !std::mem::replace(&mut readers.is_ready, true)
        {
            self.ready.push(Bytes::copy_from_slice(name));
        }
    }

    /// The streams with new entries since the last call for which somebody waits.
    pub(crate) fn take_ready(&mut self) -> Vec<Bytes> {
        let ready = std::mem::take(&mut self.ready);
        for name in &ready {
            if let Some(readers) = self.by_stream.get_mut(name) {
                readers.is_ready = false;
            }
        }
        ready
    }

    /// The connections that wait for a stream, in the order in which they were blocked.
    pub(crate) fn waiting_for(&self, name: &[u8]) -> Vec<WaitingFor> {
        let readers = self.by_stream.get(name);
        readers.into_iter().flat_map(|readers| readers.waiting.values()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use bytes::Bytes;

    use super::{BlockedRead, WaitingReads};
    use crate::memory::BusMemory;
    use crate::outbox::Outbox;
    use crate::streams::id::StreamId;

    fn read(client: u64, names: &[&'static str], memory: &BusMemory) -> BlockedRead {
        let name = |name: &&'static str| (Bytes::from_static(name.as_bytes()), StreamId::MIN);
        let outbox = Rc::new(Outbox::new(1000, memory));
        BlockedRead::new(client, names.iter().map(name).collect(), 1, outbox)
    }

    #[test]
    fn readers_wait_in_order_until_they_are_released() {
        let (mut waiting, memory) = (WaitingReads::default(), BusMemory::default());
        let second = waiting.block(read(2, &["a", "b", "a"], &memory));
        waiting.block(read(1, &["a"], &memory));
        assert!(memory.used() > 0, "names are counted");
        let clients = |waiting: &WaitingReads, name: &[u8]| -> Vec<u64> {
            waiting.waiting_for(name).iter().map(|(read, _)| read.client).collect()
        };
        assert_eq!(clients(&waiting, b"a"), [2, 1]);
        assert_eq!(clients(&waiting, b"b"), [2]);
        for name in [&b"b"[..], b"a", b"b", b"c"] {
            waiting.record_entry(name);
        }
        assert_eq!(waiting.take_ready(), ["b", "a"]);
        assert!(waiting.take_ready().is_empty());
        assert!(waiting.release(2).is_some() && second.is_over());
        assert!(waiting.release(2).is_none());
        assert_eq!(clients(&waiting, b"a"), [1]);
        waiting.release(1);
        assert_eq!((waiting.len(), waiting.by_stream.len(), memory.used()), (0, 0, 0));
    }
}
