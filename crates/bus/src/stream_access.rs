//! The streams of a [`Broker`]: what commands do with them, and which readers are woken.

use std::cell::{Ref, RefMut};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use ssegate_resp::Value;

use super::broker::Broker;
use super::streams::id::{StreamId, WantedId};
use super::streams::reply::{ReplyAllowance, entries_after, read_streams};
use super::streams::stream::StreamFields;
use super::streams::trim::{StreamTrim, TrimStrategy};
use super::streams::waiting::{BlockedRead, WaitingReads};
use super::streams::{EntryRefused, NewEntry, StreamStore};
use super::warning::BusWarning;

impl Broker {
    /// Adds an entry to a stream, as `XADD` with an id of the present time does. About `max_entries` of
    /// the stream are kept, the newest; all of them if it is `None`. Readers have been woken when this
    /// returns the id.
    ///
    /// # Errors
    /// See [`EntryRefused`].
    pub fn add_entry(
        &self,
        stream: &[u8],
        fields: &[(&[u8], &[u8])],
        max_entries: Option<usize>,
    ) -> Result<String, EntryRefused> {
        let words: Vec<_> = fields.iter().flat_map(|(name, value)| [*name, *value]).collect();
        let entry = NewEntry {
            id: WantedId::Auto,
            fields: StreamFields::copy(words.into_iter()),
            trim: max_entries.map(|most| StreamTrim::about(TrimStrategy::MaxLen(most))),
            creates: true,
        };
        let id = self.add(stream, entry)?;
        self.wake_readers();
        Ok(id.map(|id| id.to_string()).unwrap_or_default())
    }

    /// Adds an entry; readers are woken by [`Self::wake_readers`].
    pub(super) fn add(
        &self,
        stream: &[u8],
        entry: NewEntry,
    ) -> Result<Option<StreamId>, EntryRefused> {
        let now = unix_ms();
        let added = self.streams(now).add(stream, entry, now);
        match added {
            Ok(Some(_)) => self.waiting_mut().record_entry(stream),
            Ok(None) => {}
            Err(EntryRefused::OutOfMemory) => {
                self.counters().entry_was_refused();
                self.warn(BusWarning::StreamMemory, |held_back| {
                    const MESSAGE: &str =
                        "embedded bus: limits.bus_streams reached: entry of a stream refused";
                    tracing::warn!(held_back, "{MESSAGE}");
                });
            }
            Err(_) => {}
        }
        self.record_streams();
        added
    }

    /// The streams, without those that have expired.
    pub(super) fn streams(&self, now_ms: i64) -> RefMut<'_, StreamStore> {
        let mut streams = self.stream_store().borrow_mut();
        streams.sweep(now_ms);
        streams
    }

    /// Removes the streams that have expired, and counts what is left.
    pub(super) fn sweep_streams(&self) {
        drop(self.streams(unix_ms()));
        self.record_streams();
    }

    /// Replies to the connections that wait for entries added since the last call. For each stream, replies
    /// in the order in which the connections were blocked. A reply has the entries of one stream, as in
    /// Redis.
    pub(super) fn wake_readers(&self) {
        let ready = self.waiting_mut().take_ready();
        for name in ready {
            let readers = self.waiting().waiting_for(&name);
            for (read, after) in readers {
                if let Some(reply) = self.reply_to(&read, &name, after) {
                    self.waiting_mut().release(read.client);
                    read.outbox.late_reply(reply);
                    self.enforce_memory();
                }
            }
        }
    }

    fn reply_to(&self, read: &BlockedRead, name: &bytes::Bytes, after: StreamId) -> Option<Value> {
        let streams = self.stream_store().borrow();
        let stream = streams.get(name).filter(|stream| stream.last_id() > after)?;
        let mut allowance = self.reply_allowance();
        let entries = entries_after(stream, after, read.count, &mut allowance);
        Some(read_streams(vec![(name.clone(), entries)], read.outbox.protocol()))
    }

    /// The allowance for the entries in the replies to one command.
    pub(super) fn reply_allowance(&self) -> ReplyAllowance {
        ReplyAllowance::new(self.settings().max_stream_bytes)
    }

    /// Blocks a connection until one of the streams has an entry for it.
    pub(super) fn block_reader(&self, read: BlockedRead) -> Rc<BlockedRead> {
        self.waiting_mut().block(read)
    }

    /// Ends the wait of a connection with `reply`, or without one. Returns whether it was blocked.
    pub(super) fn release_reader(&self, client: u64, reply: Option<Value>) -> bool {
        let released = self.waiting_mut().release(client);
        if let (Some(read), Some(reply)) = (&released, reply) {
            read.outbox.late_reply(reply);
        }
        released.is_some()
    }

    /// The number of connections that wait for entries.
    pub(super) fn blocked_readers(&self) -> usize {
        self.waiting().len()
    }

    /// Copies the sizes of the streams to the counters.
    pub(super) fn record_streams(&self) {
        let streams = self.stream_store().borrow();
        self.counters().set_streams(streams.len(), streams.held_bytes());
    }

    fn waiting(&self) -> Ref<'_, WaitingReads> {
        self.waiting_reads().borrow()
    }

    fn waiting_mut(&self) -> RefMut<'_, WaitingReads> {
        self.waiting_reads().borrow_mut()
    }
}

/// The present time in milliseconds since 1970: that of ids and of expiries.
pub(super) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
