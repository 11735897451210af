//! When many small reads follow one another, the next one waits a moment, so that it finds more.
//!
//! Each read wakes a shard, and the shard's writing keeps the next read from finding more than a few
//! messages: with thousands of messages a second for as many channels, most of the time would go
//! into waking and being woken. A network card does the same with its interrupts. Until then, and
//! where a read finds plenty, nothing waits.

use std::time::Duration;

use tokio::time::Instant;

/// Reads that come no later than this after one another follow closely.
const CLOSELY: Duration = Duration::from_micros(500);
/// So many of them in a row are many.
const MANY: u32 = 32;
/// What is waited before the next read. The runtime's clock ticks in milliseconds: it may take one
/// and a half.
const MOMENT: Duration = Duration::from_micros(500);
/// A read of so many messages needs no waiting.
const PLENTY: usize = 128;
/// A read that was waited for, and finds fewer, was not worth it.
const FEW: usize = 4;

/// Whether to wait before the next read.
#[derive(Debug)]
pub(super) struct Gathering {
    newest: Instant,
    close: u32,
    // `None`: it reads at once.
    until: Option<Instant>,
}

impl Gathering {
    /// Reads at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { newest: now, close: 0, until: None }
    }

    /// The time for the next read, where it is to wait.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// A read found so many messages, and they were handed over.
    pub(super) fn note(&mut self, messages: usize, now: Instant) {
        let was_waited_for = self.until.take().is_some();
        let is_close = now.saturating_duration_since(self.newest) <= CLOSELY;
        self.newest = now;
        self.close = match was_waited_for {
            true if messages >= FEW => MANY,
            false if is_close => self.close.saturating_add(1),
            _ => 0,
        };
        if self.close >= MANY && messages < PLENTY {
            self.until = Some(now + MOMENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{FEW, Gathering, MANY, PLENTY};

    const STEP: Duration = Duration::from_micros(100);

    /// Many reads of one message each, close together.
    fn busy(start: Instant) -> (Gathering, Instant) {
        let (mut gathering, mut now) = (Gathering::new(start), start);
        for _ in 0..MANY {
            assert_eq!(gathering.until(), None, "so far they are not many");
            now += STEP;
            gathering.note(1, now);
        }
        (gathering, now)
    }

    #[test]
    fn many_small_reads_are_put_together() {
        let (mut gathering, mut now) = busy(Instant::now());
        for _ in 0..3 {
            now = gathering.until().expect("the next one waits") + 10 * STEP;
            gathering.note(20, now);
        }
        gathering.note(PLENTY, now + 10 * STEP);
        assert_eq!(gathering.until(), None, "there is plenty without waiting");
        gathering.note(1, now + 11 * STEP);
        assert!(gathering.until().is_some(), "and it is as busy as before");
    }

    #[test]
    fn nothing_waits_once_little_comes() {
        let (mut gathering, now) = busy(Instant::now());
        gathering.note(FEW - 1, now + 10 * STEP);
        assert_eq!(gathering.until(), None);
        gathering.note(1, now + 11 * STEP);
        assert_eq!(gathering.until(), None, "it must be busy again first");
    }

    #[test]
    fn a_burst_does_not_wait() {
        let start = Instant::now();
        let mut gathering = Gathering::new(start);
        let mut now = start;
        for _ in 0..100 {
            for _ in 1..MANY {
                now += STEP;
                gathering.note(1, now);
                assert_eq!(gathering.until(), None);
            }
            now += 100 * STEP;
            gathering.note(1, now);
        }
    }
}
