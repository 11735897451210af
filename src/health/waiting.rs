//! The requests that wait for one upstream, and for how long it has sent no response: a backend that hangs is noticed
//! before its requests time out.
//!
//! Costs a request a few atomic operations. Pure: time is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The fewest waiting requests that count as a hang: a few may be long polls.
const MANY: usize = 10;
/// A backend with many waiting requests that has sent no response for this long hangs.
const LONG: Duration = Duration::from_secs(10);

/// The requests that were sent to an upstream, or wait for a connection to it, and have no response yet. Shared by all
/// shards.
#[derive(Debug)]
pub(super) struct BackendQueue {
    requests: AtomicUsize,
    // When it last responded, or when the first of these requests was sent: in milliseconds since `epoch`.
    responded: AtomicU64,
    epoch: Instant,
}

/// A request that waits. Dropping it ends the wait.
#[derive(Debug)]
pub struct RequestWait(Arc<BackendQueue>);

/// How long an upstream has not responded, and how many requests wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendSilence {
    /// How many requests wait.
    pub requests: usize,
    /// How long the upstream has sent no response at all.
    pub lasts: Duration,
}

impl BackendQueue {
    pub(super) fn new(now: Instant) -> Self {
        Self { requests: AtomicUsize::new(0), responded: AtomicU64::new(0), epoch: now }
    }

    fn begin(&self, now: Instant) {
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.note_response(now);
        }
    }

    fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records a response, or the first request.
    fn note_response(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.epoch).as_millis();
        self.responded.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn silence(&self, now: Instant) -> BackendSilence {
        let requests = self.requests.load(Ordering::Relaxed);
        if requests == 0 {
            return BackendSilence::default();
        }
        let responded = self.epoch + Duration::from_millis(self.responded.load(Ordering::Relaxed));
        BackendSilence { requests, lasts: now.saturating_duration_since(responded) }
    }
}

impl BackendSilence {
    /// Whether many requests wait, and the upstream has not responded for long.
    pub(super) fn is_hang(&self) -> bool {
        self.requests >= MANY && self.lasts >= LONG
    }
}

impl RequestWait {
    pub(super) fn new(waiting: Arc<BackendQueue>, now: Instant) -> Self {
        waiting.begin(now);
        Self(waiting)
    }

    /// Records that the upstream has responded to the request.
    pub fn responded(self, now: Instant) {
        self.0.note_response(now);
    }
}

impl Drop for RequestWait {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BackendQueue, BackendSilence, LONG, MANY, RequestWait};

    #[test]
    fn silence_begins_with_the_first_request_and_again_with_each_response() {
        let start = Instant::now();
        let waiting = Arc::new(BackendQueue::new(start));
        let at = |seconds| start + Duration::from_secs(seconds);
        let silence = |now| {
            let BackendSilence { requests, lasts } = waiting.silence(now);
            (requests, lasts.as_secs_f64().round())
        };
        let wait = |now| RequestWait::new(Arc::clone(&waiting), now);
        assert_eq!(silence(at(9)), (0, 0.0));
        let (one, two) = (wait(at(10)), wait(at(12)));
        assert_eq!(silence(at(15)), (2, 5.0));
        one.responded(at(16));
        assert_eq!(silence(at(18)), (1, 2.0));
        // Giving up on a request does not count as a response.
        let three = wait(at(18));
        drop(two);
        assert_eq!(silence(at(20)), (1, 4.0));
        drop(three);
        assert_eq!(silence(at(30)), (0, 0.0));
        let _again = wait(at(40));
        assert_eq!(silence(at(41)), (1, 1.0), "nobody waited in between");
    }

    #[test]
    fn a_few_that_wait_for_long_are_no_hang() {
        let silence = |requests, lasts| BackendSilence { requests, lasts };
        assert!(silence(MANY, LONG).is_hang());
        assert!(!silence(MANY - 1, 9 * LONG).is_hang());
        assert!(!silence(9 * MANY, LONG / 2).is_hang());
    }
}
