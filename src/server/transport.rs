//! A socket that is watched: whether writing to it makes progress.
//!
//! Below TLS, so that what is watched is the network. Above it nothing notices a reader that
//! stopped: hyper waits for ever.

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

/// Whether writing makes progress, as the socket tells it and the connection reads it; and whether
/// the connection is called. In one place, which each event needs anyway.
// Atomics for the sake of hyper alone: a connection that is upgraded must be `Send`.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    // Milliseconds from `started` to the write that found the socket full; `NEVER`: none did.
    blocked_since: AtomicU64,
    resets_when_closed: AtomicBool,
    // Milliseconds from `started` to the newest write over HTTP/2.
    written: AtomicU64,
    // Whether there is more to see to than what is to be written.
    has_call: AtomicBool,
    // Whether `room` or `unsent` has been set since the last write.
    has_wishes: AtomicBool,
    // What the kernel is to hold from the next write on, in bytes; 0: what it holds now.
    room: AtomicUsize,
    // What of that may wait unsent; 0: what waits now.
    unsent: AtomicU32,
    // Whether something is to be written to a client of which it is not known whether it is there.
    wants_probe: AtomicBool,
}

/// A body of this length or longer is sent through a larger buffer: it is filled and emptied less
/// often.
pub(super) const LARGE_BODY: u64 = 256 << 10;
/// By how much that buffer is larger than `send_buffer`.
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

    /// It is not known whether the client is there: something is to be written to it.
    pub(super) fn ask_for_probe(&self) {
        self.wants_probe.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for since this was asked last.
    pub(super) fn takes_probe(&self) -> bool {
        self.wants_probe.load(Ordering::Relaxed) && self.wants_probe.swap(false, Ordering::Relaxed)
    }

    /// A large body is about to be sent; the kernel holds `send_buffer` bytes as a rule.
    pub(super) fn make_room(&self, send_buffer: usize) {
        self.room.store(send_buffer.saturating_mul(MORE_ROOM), Ordering::Relaxed);
        self.has_wishes.store(true, Ordering::Relaxed);
    }

    /// From the next write on, the socket takes nothing more while so many bytes wait in the kernel that
    /// were not sent even once (`TCP_NOTSENT_LOWAT`); `u32::MAX`: as much as there is room for. What is
    /// on the way to the client does not count.
    pub(super) fn limit_unsent(&self, bytes: u32) {
        self.unsent.store(bytes, Ordering::Relaxed);
        self.has_wishes.store(true, Ordering::Relaxed);
    }

    /// Since when the socket has taken nothing; `None` while it takes what comes.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        let since = self.blocked_since.load(Ordering::Relaxed);
        (since != NEVER).then(|| self.started + Duration::from_millis(since))
    }

    /// Closing in good order would leave what is unsent in the kernel, for a peer that does not
    /// read; a reset frees it at once.
    pub(super) fn reset_when_closed(&self) {
        self.resets_when_closed.store(true, Ordering::Relaxed);
    }

    /// The client has done something, or the connection is told something.
    pub(super) fn call(&self) {
        self.has_call.store(true, Ordering::Release);
    }

    /// Whether there was a call since this was asked last; once, in the beginning.
    pub(super) fn take_call(&self) -> bool {
        self.has_call.load(Ordering::Relaxed) && self.has_call.swap(false, Ordering::Acquire)
    }

    /// Something is written over HTTP/2.
    pub(super) fn wrote(&self, now: Instant) {
        self.written.store(self.since_start(now), Ordering::Relaxed);
    }

    /// When something was written last over HTTP/2.
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

/// A TCP stream whose blocked writes are noted.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    // Bytes that were read to tell the protocol, and belong before all others.
    read_ahead: Bytes,
    progress: Arc<Progress>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, progress: Arc<Progress>) -> Self {
        Self { stream, read_ahead: Bytes::new(), progress }
    }

    /// Takes back what was read last.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        if self.read_ahead.is_empty() {
            self.read_ahead = bytes;
        } else {
            self.read_ahead = [bytes, self.read_ahead.split_off(0)].concat().into();
        }
    }

    /// Tells the kernel what it is to hold, where that is news. Without it, all goes on as well, only
    /// not as fast.
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

/// On other systems all of the send buffer may wait.
#[cfg(not(target_os = "linux"))]
fn set_unsent(_socket: &socket2::SockRef<'_>, _bytes: u32) -> io::Result<()> {
    Ok(())
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.progress.resets_when_closed.load(Ordering::Relaxed) {
            // A socket that is gone already needs no reset.
            drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if unread::give(&mut self.read_ahead, buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
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
            // `send` instead of `writev`: cheaper, and what an event over TLS comes to.
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

/// What HTTP is spoken over.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Watched),
    // Boxed: connections in clear text do not pay for its size.
    Tls(Box<TlsStream<Watched>>),
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
