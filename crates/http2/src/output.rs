//! Octets that wait for the socket.
//!
//! During a poll a connection writes into a buffer that all connections of its thread share. It
//! keeps a buffer of its own only for what the socket did not take. That buffer is compacted once
//! more of it is written than unwritten: a socket that is never drained does not cost more memory
//! the longer a response lasts.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

thread_local! {
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Octets that are written at once: one TLS record.
pub(crate) const WRITE_BATCH: usize = 16 << 10;

/// Holds what is written at once and its frame headers. A shared buffer that grew beyond twice this
/// is freed.
const SHARED_CAPACITY: usize = 32 << 10;

/// The output of one connection.
#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    written: usize,
    is_shared: bool,
}

impl Output {
    /// Begins a poll: takes the shared buffer, unless octets wait in the connection's own.
    pub fn begin(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = SHARED.take();
            self.buffer.reserve(SHARED_CAPACITY);
            self.is_shared = true;
        }
    }

    /// Ends a poll: keeps what the socket did not take, and gives the shared buffer back.
    pub fn end(&mut self) {
        if !self.is_shared && !self.is_empty() {
            self.compact();
            return; // the connection has its own buffer already
        }
        let rest = self.buffer[self.written..].to_vec();
        self.written = 0;
        let mut done = std::mem::replace(&mut self.buffer, rest);
        if std::mem::take(&mut self.is_shared) && done.capacity() <= 2 * SHARED_CAPACITY {
            done.clear();
            SHARED.set(done);
        }
    }

    /// Drops the written front, once it is no shorter than the rest that has to be moved.
    fn compact(&mut self) {
        if self.written >= self.len() {
            drop(self.buffer.drain(..self.written));
            self.written = 0;
        }
    }

    /// The buffer to append frames to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether nothing waits for the socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets that wait for the socket.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Writes and flushes until nothing waits, neither here nor in the transport.
    pub fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        transport: &mut T,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let waiting = &self.buffer[self.written..];
            match ready!(Pin::new(&mut *transport).poll_write(context, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.buffer.clear();
        self.written = 0;
        // TLS may have buffered a part of it.
        Pin::new(transport).poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use tokio::io::AsyncReadExt as _;

    use super::Output;

    #[tokio::test]
    async fn only_what_the_socket_did_not_take_is_kept() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let mut context = Context::from_waker(Waker::noop());
        let mut output = Output::default();
        output.begin();
        output.buffer().extend_from_slice(b"abcdef");
        assert!(output.poll_write(&mut near, &mut context).is_pending());
        output.end();
        assert_eq!((output.len(), output.buffer.capacity()), (2, 2));

        let mut read = [0; 4];
        far.read_exact(&mut read).await.expect("four bytes");
        output.begin();
        output.buffer().extend_from_slice(b"gh");
        assert!(output.poll_write(&mut near, &mut context).is_ready());
        output.end();
        assert_eq!((output.len(), output.buffer.capacity()), (0, 0));
        far.read_exact(&mut read).await.expect("four bytes");
        assert_eq!(&read, b"efgh");
    }

    #[tokio::test]
    async fn written_octets_are_dropped_even_if_the_socket_is_never_drained() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let mut context = Context::from_waker(Waker::noop());
        let mut output = Output::default();
        let (mut sent, mut read) = (Vec::new(), Vec::new());
        for turn in 0..10_000_u32 {
            output.begin();
            sent.extend(turn.to_be_bytes());
            output.buffer().extend(turn.to_be_bytes());
            // Never empty, and never longer than 64 octets.
            while output.len() > 60 {
                assert!(output.poll_write(&mut near, &mut context).is_pending());
                let mut some = [0; 7];
                let length = far.read(&mut some).await.expect("some bytes");
                read.extend_from_slice(&some[..length]);
                // Without this, tokio's cooperative budget would make the socket pending.
                tokio::task::yield_now().await;
            }
            output.end();
            assert!(output.buffer.len() <= 2 * 64, "{} after {turn} turns", output.buffer.len());
            assert!(output.buffer.capacity() <= 512, "{}", output.buffer.capacity());
        }
        assert!(sent.starts_with(&read), "octets lost or out of order");
        assert!(read.len() > sent.len() - 100);
    }
}
