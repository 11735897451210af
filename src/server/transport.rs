//! The client's socket, and a record of whether writes to it make progress.
//!
//! Sits below TLS, so that it sees the network. Needed because hyper has no write timeout: it would
//! wait forever for a client that stopped reading.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::unread;

/// What a connection's socket and its task share: whether writes make progress, which socket
/// options to set, and whether the task has more to do than to write events. In one allocation,
/// because every event reads it.
// Atomics only for hyper: an upgraded connection must be `Send`. All uses are on one thread.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    // Milliseconds from `started` to the write that found the socket full; `NEVER`: not blocked.
    blocked_since: AtomicU64,
    resets_when_closed: AtomicBool,
    // Milliseconds from `started` to the last write over HTTP/2.
    written: AtomicU64,
    // Whether the task must look at its client and its notice, not only at events.
    has_call: AtomicBool,
    // Whether `room` or `unsent` was set since the last write.
    has_wishes: AtomicBool,
    // `SO_SNDBUF` to set before the next write, in bytes; 0: unchanged.
    room: AtomicUsize,
    // `TCP_NOTSENT_LOWAT` to set before the next write, in bytes; 0: unchanged.
    unsent: AtomicU32,
    // Whether something must be written to find out if a half-closed client is still there.
    wants_probe: AtomicBool,
}

/// From this length on, a body is sent through a larger send buffer, which is refilled less often.
pub(super) const LARGE_BODY: u64 = 256 << 10;
/// How many times `send_buffer` that buffer is.
const MORE_ROOM: usize = 4;

const NEVER: u64 = u64::MAX;

impl Progress {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            blocked_since: AtomicU64::new(NEVER),
            resets_when_closed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            has_call: AtomicBool::new(true),
            has_wishes: AtomicBool::new(false),
            room: AtomicUsize::new(0),
            unsent: AtomicU32::new(0),
            wants_probe: AtomicBool::new(false),
        }
    }

    /// Requests that something be written, to find out whether the client is still there.
    pub(super) fn ask_for_probe(&self) {
        self.wants_probe.store(true, Ordering::Relaxed);
    }

    /// Takes that request; returns whether there was one.
    pub(super) fn take_probe_request(&self) -> bool {
        self.wants_probe.load(Ordering::Relaxed) && self.wants_probe.swap(false, Ordering::Relaxed)
    }

    /// Enlarges the send buffer, normally `send_buffer` bytes, for a large body.
    pub(super) fn make_room(&self, send_buffer: usize) {
        self.room.store(send_buffer.saturating_mul(MORE_ROOM), Ordering::Relaxed);
        self.has_wishes.store(true, Ordering::Relaxed);
    }

    /// Sets `TCP_NOTSENT_LOWAT` before the next write: the socket is not writable while this many
    /// bytes in the kernel have not been sent yet. Bytes in flight do not count. `u32::MAX`: no
    /// limit.
    pub(super) fn limit_unsent(&self, bytes: u32) {
        self.unsent.store(bytes, Ordering::Relaxed);
        self.has_wishes.store(true, Ordering::Relaxed);
    }

    /// Since when the socket has been full; `None` while it is writable.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        let since = self.blocked_since.load(Ordering::Relaxed);
        (since != NEVER).then(|| self.started + Duration::from_millis(since))
    }

    /// Makes the close of the socket a reset (`SO_LINGER` 0), which frees unsent bytes at once. An
    /// orderly close would keep them in the kernel for a peer that does not read.
    pub(super) fn reset_when_closed(&self) {
        self.resets_when_closed.store(true, Ordering::Relaxed);
    }

    /// The client did something, or there is a notice: the task must look at more than its events.
    pub(super) fn call(&self) {
        self.has_call.store(true, Ordering::Release);
    }

    /// Takes that flag; returns whether it was set. It is set at first.
    pub(super) fn take_call(&self) -> bool {
        self.has_call.load(Ordering::Relaxed) && self.has_call.swap(false, Ordering::Acquire)
    }

    /// Records a write over HTTP/2.
    pub(super) fn wrote(&self, now: Instant) {
        self.written.store(self.since_start(now), Ordering::Relaxed);
    }

    /// When the last write over HTTP/2 was.
    pub(super) fn written(&self) -> Instant {
        self.started + Duration::from_millis(self.written.load(Ordering::Relaxed))
    }

    fn since_start(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started).as_millis();
        u64::try_from(since).unwrap_or(NEVER)
    }

    fn note_write(&self, went_through: bool) {
        let was_blocked = self.blocked_since.load(Ordering::Relaxed) != NEVER;
        if went_through && was_blocked {
            self.blocked_since.store(NEVER, Ordering::Relaxed);
        } else if !went_through && !was_blocked {
            self.blocked_since.store(self.since_start(Instant::now()), Ordering::Relaxed);
        }
    }
}

/// A TCP stream that records blocked writes in [`Progress`].
#[derive(Debug)]
pub(super) struct TrackedSocket {
    stream: TcpStream,
    // Bytes read to detect the protocol; returned before any others.
    read_ahead: Bytes,
    progress: Arc<Progress>,
}

impl TrackedSocket {
    pub(super) fn new(stream: TcpStream, progress: Arc<Progress>) -> Self {
        Self { stream, read_ahead: Bytes::new(), progress }
    }

    /// Puts back bytes that were read, to be read again.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        if self.read_ahead.is_empty() {
            self.read_ahead = bytes;
        } else {
            self.read_ahead = [bytes, self.read_ahead.split_off(0)].concat().into();
        }
    }

    /// Sets the socket options that [`Progress`] asks for. Errors are ignored: the options affect
    /// only speed.
    fn tune(&self) {
        let progress = &*self.progress;
        if !progress.has_wishes.load(Ordering::Relaxed) {
            return;
        }
        progress.has_wishes.store(false, Ordering::Relaxed);
        let socket = socket2::SockRef::from(&self.stream);
        match progress.room.swap(0, Ordering::Relaxed) {
            0 => {}
            room => drop(socket.set_send_buffer_size(room)),
        }
        match progress.unsent.swap(0, Ordering::Relaxed) {
            0 => {}
            unsent => drop(set_unsent(&socket, unsent)),
        }
    }

    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        self.progress.note_write(written.is_ready());
        written
    }
}

#[cfg(target_os = "linux")]
fn set_unsent(socket: &socket2::SockRef<'_>, bytes: u32) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(bytes)
}

/// Not available on other systems: the whole send buffer may hold unsent bytes.
#[cfg(not(target_os = "linux"))]
fn set_unsent(_socket: &socket2::SockRef<'_>, _bytes: u32) -> io::Result<()> {
    Ok(())
}

impl Drop for TrackedSocket {
    fn drop(&mut self) {
        if self.progress.resets_when_closed.load(Ordering::Relaxed) {
            // Fails only on a socket that is already closed.
            drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
        }
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
        self.tune();
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tune();
        let stream = Pin::new(&mut self.stream);
        let written = match bufs {
            // send(2) instead of writev(2): cheaper, and an event over TLS is one buffer.
            [one] => stream.poll_write(cx, one),
            _ => stream.poll_write_vectored(cx, bufs),
        };
        self.noted(written)
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
