//! The output queue of one connection: replies and messages in order, within limits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use ssegate_resp::{RespVersion, Value};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::memory::{BusMemory, MemoryPart};

/// The output queue of one connection. Its own commands and all publishers fill it, and its session
/// writes it to the socket.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: RefCell<OutboxQueue>,
    max_bytes: usize,
    protocol: Cell<RespVersion>,
    changed: Notify,
    // Memory held: queued bytes that are not shared, incomplete commands, names.
    unshared: MemoryPart,
    input: MemoryPart,
    names: MemoryPart,
    // When something was last read or written.
    last_activity: Cell<Instant>,
    is_closed_for_memory: Cell<bool>,
    is_own: bool,
}

#[derive(Debug, Default)]
struct OutboxQueue {
    /// Long messages, shared with other connections, and the short pieces before each.
    chunks: VecDeque<Chunk>,
    /// The short pieces after the last long message, written together.
    tail: BytesMut,
    /// Bytes of the chunks that are not shared.
    unshared_chunk_bytes: usize,
    /// Bytes of chunks and tail.
    bytes: usize,
    has_overflowed: bool,
}

/// A piece of output.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    // Not shared with other connections.
    is_unshared: bool,
}

impl Outbox {
    /// A message up to this length is copied into the queue; a longer one is shared. In bytes.
    pub(super) const MAX_COPIED: usize = 4 << 10;

    /// Pieces in one vectored write, at most.
    const MAX_PIECES: usize = 32;

    pub(super) fn new(max_bytes: usize, memory: &BusMemory) -> Self {
        Self {
            queue: RefCell::default(),
            max_bytes,
            protocol: Cell::default(),
            changed: Notify::new(),
            unshared: memory.part(),
            input: memory.part(),
            names: memory.part(),
            last_activity: Cell::new(Instant::now()),
            is_closed_for_memory: Cell::new(false),
            is_own: false,
        }
    }

    /// The queue of a connection from within the process. Others do not make it close: what it holds is not
    /// counted.
    pub(super) fn own() -> Self {
        Self { is_own: true, ..Self::new(usize::MAX, &BusMemory::default()) }
    }

    /// Whether it is that of a connection from within the process.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Records a read, after which incomplete commands hold `held` bytes.
    pub(super) fn record_read(&self, held: usize) {
        self.input.set(held);
        self.last_activity.set(Instant::now());
    }

    /// Records a name that was added, or removed if its length is negative.
    pub(super) fn record_name(&self, length: isize) {
        self.names.set(self.names.bytes().saturating_add_signed(length));
    }

    /// Bytes held by this connection, including messages that are shared with others.
    pub(super) fn held_bytes(&self) -> usize {
        self.input.bytes() + self.names.bytes() + self.len()
    }

    /// When something was last read or written.
    pub(super) fn last_activity(&self) -> Instant {
        self.last_activity.get()
    }

    /// Drops everything that is held, and ends the session.
    pub(super) fn close_for_memory(&self) {
        self.is_closed_for_memory.set(true);
        *self.queue.borrow_mut() = OutboxQueue { has_overflowed: true, ..OutboxQueue::default() };
        for part in [&self.unshared, &self.input, &self.names] {
            part.set(0);
        }
        self.changed.notify_one();
    }

    /// Whether the connection is to be closed because all connections together hold too much.
    pub(super) fn is_closed_for_memory(&self) -> bool {
        self.is_closed_for_memory.get()
    }

    pub(super) fn protocol(&self) -> RespVersion {
        self.protocol.get()
    }

    pub(super) fn set_protocol(&self, protocol: RespVersion) {
        self.protocol.set(protocol);
    }

    /// Queues the reply to a command.
    ///
    /// Without a limit: the session reads no more commands while many bytes are queued.
    pub(super) fn reply(&self, value: Value) {
        let queue = &mut *self.queue.borrow_mut();
        if queue.has_overflowed {
            return;
        }
        let before = queue.tail.len();
        ssegate_resp::encode(&value, self.protocol.get(), &mut queue.tail);
        queue.bytes += queue.tail.len() - before;
        self.unshared.set(queue.unshared_bytes());
    }

    /// Queues the reply to a command that has waited for it, and wakes the session.
    pub(super) fn late_reply(&self, value: Value) {
        self.reply(value);
        self.changed.notify_one();
    }

    /// Queues an encoded message. One that does not fit closes the connection, as in Redis: waiting
    /// here would let one slow reader stall all publishers.
    pub(super) fn message(&self, message: &Bytes) {
        let queue = &mut *self.queue.borrow_mut();
        if queue.has_overflowed {
            return;
        }
        if queue.bytes > 0 && queue.bytes + message.len() > self.max_bytes {
            *queue = OutboxQueue { has_overflowed: true, ..OutboxQueue::default() };
        } else {
            queue.push(message);
        }
        self.unshared.set(queue.unshared_bytes());
        self.changed.notify_one();
    }

    /// Bytes queued.
    pub(super) fn len(&self) -> usize {
        self.queue.borrow().bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a message did not fit; nothing is queued or written any more.
    pub(super) fn has_overflowed(&self) -> bool {
        self.queue.borrow().has_overflowed
    }

    /// Waits until a message is queued. Spurious returns are possible.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Writes what the socket accepts at once. Cancel safe.
    pub(super) async fn write_to(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let written = poll_fn(|cx| {
            let queue = self.queue.borrow();
            let mut pieces = [IoSlice::new(&[]); Self::MAX_PIECES];
            let count = queue.pieces(&mut pieces);
            Pin::new(&mut *writer).poll_write_vectored(cx, &pieces[..count])
        })
        .await?;
        if written == 0 && !self.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let queue = &mut *self.queue.borrow_mut();
        queue.consume(written);
        self.unshared.set(queue.unshared_bytes());
        self.last_activity.set(Instant::now());
        Ok(())
    }
}

impl OutboxQueue {
    fn push(&mut self, message: &Bytes) {
        self.bytes += message.len();
        if message.len() <= Outbox::MAX_COPIED {
            self.tail.extend_from_slice(message);
            return;
        }
        if !self.tail.is_empty() {
            let bytes = self.tail.split().freeze();
            self.unshared_chunk_bytes += bytes.len();
            self.chunks.push_back(Chunk { bytes, is_unshared: true });
        }
        self.chunks.push_back(Chunk { bytes: message.clone(), is_unshared: false });
    }

    /// Bytes that are not shared.
    fn unshared_bytes(&self) -> usize {
        self.unshared_chunk_bytes + self.tail.len()
    }

    /// Fills `pieces` with the first pieces of the queue; returns their number.
    fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; Outbox::MAX_PIECES]) -> usize {
        let waiting = self.chunks.iter().map(|chunk| &chunk.bytes[..]);
        let waiting = waiting.chain((!self.tail.is_empty()).then_some(&self.tail[..]));
        let mut count = 0;
        for (piece, bytes) in pieces.iter_mut().zip(waiting) {
            *piece = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    fn consume(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(Chunk { bytes, is_unshared }) = self.chunks.front_mut() {
            let taken = written.min(bytes.len());
            if *is_unshared {
                self.unshared_chunk_bytes -= taken;
            }
            bytes.advance(taken);
            written -= taken;
            if !bytes.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.tail.advance(written.min(self.tail.len()));
        if self.bytes == 0 {
            self.shrink();
        }
    }

    /// Frees the memory of a burst that has been written.
    fn shrink(&mut self) {
        if self.tail.try_reclaim(16 * Outbox::MAX_COPIED) {
            self.tail = BytesMut::new();
        }
        self.chunks.shrink_to(Outbox::MAX_PIECES);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BusMemory, Outbox};
    use crate::reply::ok;

    async fn written(outbox: &Outbox) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            outbox.write_to(&mut out).await.expect("writing to a Vec cannot fail");
        }
        out
    }

    #[tokio::test]
    async fn replies_and_messages_are_written_in_order() {
        let memory = BusMemory::default();
        let outbox = Outbox::new(1 << 20, &memory);
        let mut expected = Vec::new();
        for round in 0..100_usize {
            let message = Bytes::from(vec![b'x'; round * 100]);
            outbox.reply(ok());
            outbox.message(&message);
            expected.extend_from_slice(b"+OK\r\n");
            expected.extend_from_slice(&message);
        }
        assert_eq!(outbox.len(), expected.len());
        assert!((1..=expected.len()).contains(&memory.used()));
        assert!(written(&outbox).await == expected);
        assert!(outbox.is_empty());
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn a_queue_over_its_limit_is_dropped_at_once() {
        let outbox = Outbox::new(1000, &BusMemory::default());
        outbox.message(&Bytes::from(vec![0; 600]));
        assert!(!outbox.has_overflowed());
        outbox.message(&Bytes::from(vec![0; 600]));
        assert!(outbox.has_overflowed());
        outbox.reply(ok());
        outbox.message(&Bytes::from_static(b"later"));
        assert!(outbox.is_empty());
        outbox.changed().await;
    }

    #[tokio::test]
    async fn an_empty_queue_accepts_any_message() {
        let outbox = Outbox::new(10, &BusMemory::default());
        outbox.message(&Bytes::from(vec![7; 100_000]));
        assert_eq!(written(&outbox).await, vec![7; 100_000]);
    }
}
