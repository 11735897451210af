//! The client's socket, with or without TLS.
//!
//! [`TrackedSocket`] sits below TLS, so that it sees the network: it records in [`SocketState`]
//! whether writes make progress. Needed because hyper has no write timeout: it would wait forever
//! for a client that stopped reading.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::socket_state::SocketState;
use super::unread;

/// A TCP stream that records its blocked writes, and sets the options it is asked for.
#[derive(Debug)]
pub(super) struct TrackedSocket {
    stream: TcpStream,
    // Bytes read to detect the protocol; returned before any others.
    read_ahead: Bytes,
    state: Arc<SocketState>,
}

impl TrackedSocket {
    pub(super) fn new(stream: TcpStream, state: Arc<SocketState>) -> Self {
        Self { stream, read_ahead: Bytes::new(), state }
    }

    /// Puts back bytes that were read, to be read again.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        if self.read_ahead.is_empty() {
            self.read_ahead = bytes;
        } else {
            self.read_ahead = [bytes, self.read_ahead.split_off(0)].concat().into();
        }
    }

    fn record_write<T>(&self, written: Poll<T>) -> Poll<T> {
        self.state.writes.record(written.is_ready(), Instant::now);
        written
    }
}

impl Drop for TrackedSocket {
    fn drop(&mut self) {
        self.state.options.apply_at_close(&self.stream);
    }
}

impl AsyncRead for TrackedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if unread::read_into(&mut self.read_ahead, buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TrackedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.state.options.apply(&self.stream);
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.record_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.state.options.apply(&self.stream);
        let stream = Pin::new(&mut self.stream);
        let written = match bufs {
            // send(2) instead of writev(2): cheaper, and an event over TLS is one buffer.
            [one] => stream.poll_write(cx, one),
            _ => stream.poll_write_vectored(cx, bufs),
        };
        self.record_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The byte stream under HTTP: TCP, or TLS over TCP.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TrackedSocket),
    // Boxed, so that clear-text connections do not pay for its size.
    Tls(Box<TlsStream<TrackedSocket>>),
}

macro_rules! with_transport {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_transport!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_transport!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_transport!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_transport!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_transport!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
