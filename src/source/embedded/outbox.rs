//! What waits to be written to one connection: replies and messages, in their order, in bounds.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use crate::source::resp::{self, Protocol, Value};

/// The queue of one connection, filled by its own commands and by everybody's messages, emptied by
/// its session.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: RefCell<Queue>,
    max_bytes: usize,
    protocol: Cell<Protocol>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Long messages, shared with the other subscribers, and what came before each.
    chunks: VecDeque<Bytes>,
    /// What came after the last of them: short pieces, written together.
    tail: BytesMut,
    /// Of both.
    bytes: usize,
    has_overflowed: bool,
}

impl Outbox {
    /// A message up to this is copied behind the others; a longer one is shared. In bytes.
    const COPIED: usize = 4 << 10;

    /// Pieces that one write takes.
    const PIECES: usize = 32;

    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            queue: RefCell::default(),
            max_bytes,
            protocol: Cell::default(),
            changed: Notify::new(),
        }
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
        self.queue.borrow_mut().written(written);
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
            self.chunks.push_back(self.tail.split().freeze());
        }
        self.chunks.push_back(message.clone());
    }

    /// Puts the first pieces into `pieces`; how many those are.
    fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; Outbox::PIECES]) -> usize {
        let waiting = self.chunks.iter().map(|chunk| &chunk[..]);
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
        while let Some(chunk) = self.chunks.front_mut() {
            if written < chunk.len() {
                chunk.advance(written);
                return;
            }
            written -= chunk.len();
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

    use super::Outbox;
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
        let outbox = Outbox::new(1 << 20);
        let mut expected = Vec::new();
        for round in 0..100_usize {
            let message = Bytes::from(vec![b'x'; round * 100]);
            outbox.reply(ok());
            outbox.message(&message);
            expected.extend_from_slice(b"+OK\r\n");
            expected.extend_from_slice(&message);
        }
        assert_eq!(outbox.len(), expected.len());
        assert!(written(&outbox).await == expected);
        assert!(outbox.is_empty());
    }

    #[tokio::test]
    async fn a_queue_over_its_bound_is_given_up_at_once() {
        let outbox = Outbox::new(1000);
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
        let outbox = Outbox::new(10);
        outbox.message(&Bytes::from(vec![7; 100_000]));
        assert_eq!(written(&outbox).await, vec![7; 100_000]);
    }
}
