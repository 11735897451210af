//! What a client's socket and the task of its connection share.
//!
//! The socket sits below TLS and, over HTTP/1.1, below hyper: the task cannot call it. So the task
//! leaves requests here, and the socket records here whether writes make progress.
// Atomics only for hyper: an upgraded connection must be `Send`. All uses are on one thread.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The shared state. One allocation, because every event reads it.
#[derive(Debug)]
pub(super) struct SocketState {
    pub(super) writes: WriteProgress,
    pub(super) options: SocketOptions,
    /// The task must look at its client and its notice, not only at events. Raised at first.
    pub(super) attention: Flag,
    /// Something must be written, to find out if a half-closed client is still there.
    pub(super) probe: Flag,
}

impl SocketState {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            writes: WriteProgress::new(now),
            options: SocketOptions::default(),
            attention: Flag(AtomicBool::new(true)),
            probe: Flag::default(),
        }
    }
}

/// A flag that is taken once, however often it was raised.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Lowers the flag; returns whether it was raised.
    pub(super) fn take(&self) -> bool {
        // The load is cheaper than the swap, and mostly enough.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Acquire)
    }
}

/// Whether the client's socket accepts what is written to it.
#[derive(Debug)]
pub(super) struct WriteProgress {
    started: Instant,
    // Milliseconds from `started` to the write that found the socket full; `NEVER`: not blocked.
    blocked_since: AtomicU64,
    // Milliseconds from `started` to the last write over HTTP/2.
    last_write: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl WriteProgress {
    fn new(started: Instant) -> Self {
        Self { started, blocked_since: AtomicU64::new(NEVER), last_write: AtomicU64::new(0) }
    }

    /// Since when the socket has been full; `None` while it is writable.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        let since = self.blocked_since.load(Ordering::Relaxed);
        (since != NEVER).then(|| self.started + Duration::from_millis(since))
    }

    /// Records whether the socket accepted a write. Reads the clock only when it has become full.
    pub(super) fn record(&self, was_accepted: bool, now: impl FnOnce() -> Instant) {
        let was_blocked = self.blocked_since.load(Ordering::Relaxed) != NEVER;
        if was_accepted && was_blocked {
            self.blocked_since.store(NEVER, Ordering::Relaxed);
        } else if !was_accepted && !was_blocked {
            self.blocked_since.store(self.since_start(now()), Ordering::Relaxed);
        }
    }

    /// Records a write over HTTP/2.
    pub(super) fn set_last_write(&self, now: Instant) {
        self.last_write.store(self.since_start(now), Ordering::Relaxed);
    }

    /// When the last write over HTTP/2 was.
    pub(super) fn last_write(&self) -> Instant {
        self.started + Duration::from_millis(self.last_write.load(Ordering::Relaxed))
    }

    fn since_start(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started).as_millis();
        u64::try_from(since).unwrap_or(NEVER)
    }
}

/// From this length on, a body is sent through a larger send buffer, which is refilled less often.
const LARGE_BODY: u64 = 256 << 10;
/// How many times `send_buffer` that buffer is.
const LARGE_BUFFER_FACTOR: usize = 4;

/// Options that the socket sets before its next write, or when it is closed.
#[derive(Debug, Default)]
pub(super) struct SocketOptions {
    // Whether one of the next two was set since the last write.
    has_changes: AtomicBool,
    // `SO_SNDBUF` to set, in bytes; 0: unchanged.
    send_buffer: AtomicUsize,
    // `TCP_NOTSENT_LOWAT` to set, in bytes; 0: unchanged.
    unsent: AtomicU32,
    // Whether the send buffer was enlarged already.
    is_enlarged: AtomicBool,
    resets_when_closed: AtomicBool,
}

impl SocketOptions {
    /// A body of at least `least` bytes is about to be sent. If it is large, enlarges the send buffer
    /// of normally `send_buffer` bytes, once.
    pub(super) fn expect_body(&self, least: u64, send_buffer: usize) {
        if least >= LARGE_BODY && !self.is_enlarged.swap(true, Ordering::Relaxed) {
            let enlarged = send_buffer.saturating_mul(LARGE_BUFFER_FACTOR);
            self.send_buffer.store(enlarged, Ordering::Relaxed);
            self.has_changes.store(true, Ordering::Relaxed);
        }
    }

    /// Sets `TCP_NOTSENT_LOWAT`: the socket is not writable while this many bytes in the kernel have
    /// not been sent yet. Bytes in flight do not count. `u32::MAX`: no limit.
    pub(super) fn limit_unsent(&self, bytes: u32) {
        self.unsent.store(bytes, Ordering::Relaxed);
        self.has_changes.store(true, Ordering::Relaxed);
    }

    /// Makes the close of the socket a reset (`SO_LINGER` 0), which frees unsent bytes at once. An
    /// orderly close would keep them in the kernel for a peer that does not read.
    pub(super) fn reset_when_closed(&self) {
        self.resets_when_closed.store(true, Ordering::Relaxed);
    }

    /// Called before a write. Ignores errors: the options affect only speed.
    pub(super) fn apply(&self, socket: &TcpStream) {
        if !self.has_changes.load(Ordering::Relaxed) {
            return;
        }
        self.has_changes.store(false, Ordering::Relaxed);
        let socket = SockRef::from(socket);
        match self.send_buffer.swap(0, Ordering::Relaxed) {
            0 => {}
            bytes => drop(socket.set_send_buffer_size(bytes)),
        }
        match self.unsent.swap(0, Ordering::Relaxed) {
            0 => {}
            bytes => drop(set_unsent(&socket, bytes)),
        }
    }

    /// Called before the socket is closed.
    pub(super) fn apply_at_close(&self, socket: &TcpStream) {
        if self.resets_when_closed.load(Ordering::Relaxed) {
            // Fails only on a socket that is already closed.
            drop(SockRef::from(socket).set_linger(Some(Duration::ZERO)));
        }
    }
}

#[cfg(target_os = "linux")]
fn set_unsent(socket: &SockRef<'_>, bytes: u32) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(bytes)
}

/// Not available on other systems: the whole send buffer may hold unsent bytes.
#[cfg(not(target_os = "linux"))]
fn set_unsent(_socket: &SockRef<'_>, _bytes: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LARGE_BODY, SocketState};

    #[test]
    fn a_socket_is_blocked_from_the_first_write_that_it_does_not_accept() {
        let start = Instant::now();
        let writes = SocketState::new(start).writes;
        let later = |millis| start + Duration::from_millis(millis);
        for (at, was_accepted, blocked_since) in [
            (10, true, None),
            (20, false, Some(20)),
            (30, false, Some(20)),
            (40, true, None),
            (50, false, Some(50)),
        ] {
            writes.record(was_accepted, || later(at));
            assert_eq!(writes.blocked_since(), blocked_since.map(later), "at {at}");
        }
    }

    #[test]
    fn the_clock_is_read_only_when_the_socket_becomes_full() {
        let start = Instant::now();
        let writes = SocketState::new(start).writes;
        writes.record(true, || panic!("writable"));
        writes.record(false, || start);
        writes.record(false, || panic!("blocked already"));
        writes.record(true, || panic!("writable again"));
    }

    #[test]
    fn the_send_buffer_is_enlarged_once_and_for_large_bodies_only() {
        let options = SocketState::new(Instant::now()).options;
        let requested = || options.send_buffer.swap(0, Ordering::Relaxed);
        options.expect_body(LARGE_BODY - 1, 1000);
        assert_eq!(requested(), 0);
        options.expect_body(LARGE_BODY, 1000);
        assert_eq!(requested(), 4000);
        options.expect_body(LARGE_BODY, 1000);
        assert_eq!(requested(), 0);
    }

    #[test]
    fn a_flag_is_taken_once() {
        let state = SocketState::new(Instant::now());
        assert!(state.attention.take(), "raised at first");
        assert!(!state.attention.take() && !state.probe.take());
        state.probe.raise();
        state.probe.raise();
        assert!(state.probe.take());
        assert!(!state.probe.take());
    }
}
