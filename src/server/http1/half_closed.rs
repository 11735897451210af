//! A client that has sent all that it will, and waits for its response.
//!
//! Whether it has closed its sending side alone, or has left, cannot be told: both look the same
//! until something is written to it. A client that has left resets the connection then. So it is
//! written to now and then where that is harmless, which is between the lines of an event stream;
//! and a client to which nothing could be written for a while has left.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// When it is written to, after it has closed its side: once more than a round trip later, since the
/// first write only asks for the reset.
const PROBES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// How long a client has been waiting, since it has closed its sending side.
#[derive(Debug)]
pub(in crate::server) struct HalfClosed {
    at_most: Duration,
    since: Instant,
    last_write: Instant,
    probes: usize,
    timer: Pin<Box<Sleep>>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Due {
    /// Something is to be written, if anything can.
    Probe,
    /// The client has left.
    Left,
}

impl HalfClosed {
    /// The client has closed its sending side; one to which nothing was written for `at_most` has left.
    pub(in crate::server) fn new(at_most: Duration) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { at_most, since: now, last_write: now, probes: 0, timer }
    }

    /// Something was written.
    pub(in crate::server) fn wrote(&mut self) {
        self.last_write = Instant::now();
    }

    /// What is due now, the first time at once.
    pub(in crate::server) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        ready!(self.timer.as_mut().poll(cx));
        let now = Instant::now();
        if now >= self.last_write + self.at_most {
            return Poll::Ready(Due::Left);
        }
        let next = match PROBES.get(self.probes) {
            Some(after) => self.since + *after,
            None => now + self.at_most / 2,
        };
        self.probes += 1;
        self.timer.as_mut().reset(next.min(self.last_write + self.at_most).max(now));
        Poll::Ready(Due::Probe)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Due, HalfClosed};

    #[tokio::test(start_paused = true)]
    async fn a_client_to_which_nothing_is_written_has_left() {
        let begin = Instant::now();
        let mut half_closed = HalfClosed::new(Duration::from_secs(10));
        let mut probes = Vec::new();
        while poll_fn(|cx| half_closed.poll(cx)).await == Due::Probe {
            probes.push(begin.elapsed().as_millis());
        }
        assert_eq!(probes, [0, 250, 1000, 6000]);
        assert_eq!(begin.elapsed().as_millis(), 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_written_to_has_not() {
        let begin = Instant::now();
        let mut half_closed = HalfClosed::new(Duration::from_secs(10));
        while begin.elapsed() < Duration::from_secs(100) {
            assert_eq!(poll_fn(|cx| half_closed.poll(cx)).await, Due::Probe);
            half_closed.wrote();
        }
    }
}
