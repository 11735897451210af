//! What waits to be written to one connection: replies and messages, in their order, in bounds.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::memory::{Held, Memory};
use crate::source::resp::{self, Protocol, Value};

/// The queue of one connection, filled by its own commands and by everybody's messages, emptied by
/// its session.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: RefCell<Queue>,
    max_bytes: usize,
    protocol: Cell<Protocol>,
    changed: Notify,
    // What is held: copies that wait here, unfinished commands, names.
    own: Held,
    input: Held,
    names: Held,
    // When something was read or written last.
    moved: Cell<Instant>,
    is_cut: Cell<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Long messages, shared with the other subscribers, and what came before each.
    chunks: VecDeque<Chunk>,
    /// What came after the last of them: short pieces, written together.
    tail: BytesMut,
    /// Of the chunks that nobody else has, in bytes.
    own_chunks: usize,
    /// Of both.
    bytes: usize,
    has_overflowed: bool,
}

/// A piece that is written undivided.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    // Nobody else has it.
    is_own: bool,
}

impl Outbox {
    /// A message up to this is copied behind the others; a longer one is shared. In bytes.
    pub(super) const COPIED: usize = 4 << 10;

    /// Pieces that one write takes.
    const PIECES: usize = 32;

    pub(super) fn new(max_bytes: usize, memory: &Memory) -> Self {
        Self {
            queue: RefCell::default(),
            max_bytes,
            protocol: Cell::default(),
            changed: Notify::new(),
            own: memory.part(),
            input: memory.part(),
            names: memory.part(),
            moved: Cell::new(Instant::now()),
            is_cut: Cell::new(false),
        }
    }

    /// Commands that are not complete hold so many bytes; something has just been read.
    pub(super) fn note_read(&self, held: usize) {
        self.input.set(held);
        self.moved.set(Instant::now());
    }

    /// A name of this length has come, or gone.
    pub(super) fn note_names(&self, length: isize) {
        self.names.set(self.names.bytes().saturating_add_signed(length));
    }

    /// What this connection holds, messages included that others hold too.
    pub(super) fn held(&self) -> usize {
        self.input.bytes() + self.names.bytes() + self.len()
    }

    /// When something was read or written last.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Lets go of everything: the session ends.
    pub(super) fn cut_for_memory(&self) {
        self.is_cut.set(true);
        *self.queue.borrow_mut() = Queue { has_overflowed: true, ..Queue::default() };
        for part in [&self.own, &self.input, &self.names] {
            part.set(0);
        }
        self.changed.notify_one();
    }

    /// Whether all connections together held too much, and this one has to go.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol.get()
    }

    pub(super) fn set_protocol(&self, protocol: Protocol) {
        self.protocol.set(protocol);
    }

    /// Queues the answer to a command.
    ///
    /// Always: the session bounds answers, since it reads no more commands while many wait.
    pub(super) fn reply(&self, value: Value) {
        let queue = &mut *self.queue.borrow_mut();
        if queue.has_overflowed {
            return;
        }
        let before = queue.tail.len();
        resp::encode(&value, self.protocol.get(), &mut queue.tail);
        queue.bytes += queue.tail.len() - before;
        self.own.set(queue.own());
    }

    /// Queues an encoded message. One that does not fit beside what waits closes the connection,
    /// as Redis does: waiting here would let one reader stall all publishers.
    pub(super) fn message(&self, message: &Bytes) {
        let queue = &mut *self.queue.borrow_mut();
        if queue.has_overflowed {
            return;
        }
        if queue.bytes > 0 && queue.bytes + message.len() > self.max_bytes {
            *queue = Queue { has_overflowed: true, ..Queue::default() };
        } else {
            queue.push(message);
        }
        self.own.set(queue.own());
        self.changed.notify_one();
    }

    /// Bytes that wait.
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

    /// Waits for a message. May return without one.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Writes what the socket takes at once. Safe to cancel.
    pub(super) async fn write_to(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let written = poll_fn(|cx| {
            let queue = self.queue.borrow();
            let mut pieces = [IoSlice::new(&[]); Self::PIECES];
            let count = queue.pieces(&mut pieces);
            Pin::new(&mut *writer).poll_write_vectored(cx, &pieces[..count])
        })
        .await?;
        if written == 0 && !self.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let queue = &mut *self.queue.borrow_mut();
        queue.written(written);
        self.own.set(queue.own());
        self.moved.set(Instant::now());
        Ok(())
    }
}

impl Queue {
    fn push(&mut self, message: &Bytes) {
        self.bytes += message.len();
        if message.len() <= Outbox::COPIED {
            self.tail.extend_from_slice(message);
            return;
        }
        if !self.tail.is_empty() {
            let bytes = self.tail.split().freeze();
            self.own_chunks += bytes.len();
            self.chunks.push_back(Chunk { bytes, is_own: true });
        }
        self.chunks.push_back(Chunk { bytes: message.clone(), is_own: false });
    }

    /// What nobody else has.
    fn own(&self) -> usize {
        self.own_chunks + self.tail.len()
    }

    /// Puts the first pieces into `pieces`; how many those are.
    fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; Outbox::PIECES]) -> usize {
        let waiting = self.chunks.iter().map(|chunk| &chunk.bytes[..]);
        let waiting = waiting.chain((!self.tail.is_empty()).then_some(&self.tail[..]));
        let mut count = 0;
        for (piece, bytes) in pieces.iter_mut().zip(waiting) {
            *piece = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    fn written(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(Chunk { bytes, is_own }) = self.chunks.front_mut() {
            let taken = written.min(bytes.len());
            if *is_own {
                self.own_chunks -= taken;
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
            self.give_back_memory();
        }
    }

    /// A burst that has been written leaves no large empty buffer behind.
    fn give_back_memory(&mut self) {
        if self.tail.try_reclaim(16 * Outbox::COPIED) {
            self.tail = BytesMut::new();
        }
        self.chunks.shrink_to(Outbox::PIECES);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Memory, Outbox};
    use crate::source::embedded::reply::ok;

    async fn written(outbox: &Outbox) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            outbox.write_to(&mut out).await.expect("a Vec takes all");
        }
        out
    }

    #[tokio::test]
    async fn replies_and_messages_are_written_in_their_order() {
        let memory = Memory::default();
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
    async fn a_queue_over_its_bound_is_given_up_at_once() {
        let outbox = Outbox::new(1000, &Memory::default());
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
    async fn an_empty_queue_takes_any_message() {
        let outbox = Outbox::new(10, &Memory::default());
        outbox.message(&Bytes::from(vec![7; 100_000]));
        assert_eq!(written(&outbox).await, vec![7; 100_000]);
    }
}
