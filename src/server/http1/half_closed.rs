//! A client that has closed its sending side while it still waits for a response.
//!
//! A half-closed client and one that closed the whole connection look the same (both sent a FIN)
//! until something is written: the latter replies with a RST. So an event stream is probed with a
//! comment from time to time, and a client to which nothing could be written for a while counts as
//! gone.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// When to probe after the first probe, counted from the FIN. The first write only provokes the
/// RST; a write fails once the RST has arrived, a round trip later.
const PROBES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// The probe schedule of a half-closed client.
#[derive(Debug)]
pub(in crate::server) struct HalfClosed {
    timeout: Duration,
    since: Instant,
    last_write: Instant,
    probes: usize,
    timer: Pin<Box<Sleep>>,
}

/// What to do about a half-closed client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum HalfCloseAction {
    /// Write something, if possible.
    Probe,
    /// Close the connection: the client counts as gone.
    Close,
}

impl HalfClosed {
    /// The client has just closed its sending side. It counts as gone when nothing was written to
    /// it for `timeout`.
    pub(in crate::server) fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { timeout, since: now, last_write: now, probes: 0, timer }
    }

    /// Records a successful write.
    pub(in crate::server) fn note_write(&mut self) {
        self.last_write = Instant::now();
    }

    /// Waits for the next action. The first probe is due at once.
    pub(in crate::server) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HalfCloseAction> {
        ready!(self.timer.as_mut().poll(cx));
        let now = Instant::now();
        if now >= self.last_write + self.timeout {
            return Poll::Ready(HalfCloseAction::Close);
        }
        let next = match PROBES.get(self.probes) {
            Some(after) => self.since + *after,
            None => now + self.timeout / 2,
        };
        self.probes += 1;
        self.timer.as_mut().reset(next.min(self.last_write + self.timeout).max(now));
        Poll::Ready(HalfCloseAction::Probe)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{HalfCloseAction, HalfClosed};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_cannot_be_written_to_is_given_up() {
        let begin = Instant::now();
        let mut half_closed = HalfClosed::new(Duration::from_secs(10));
        let mut probes = Vec::new();
        while poll_fn(|cx| half_closed.poll(cx)).await == HalfCloseAction::Probe {
            probes.push(begin.elapsed().as_millis());
        }
        assert_eq!(probes, [0, 250, 1000, 6000]);
        assert_eq!(begin.elapsed().as_millis(), 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_can_be_written_to_is_kept() {
        let begin = Instant::now();
        let mut half_closed = HalfClosed::new(Duration::from_secs(10));
        while begin.elapsed() < Duration::from_secs(100) {
            assert_eq!(poll_fn(|cx| half_closed.poll(cx)).await, HalfCloseAction::Probe);
            half_closed.note_write();
        }
    }
}
