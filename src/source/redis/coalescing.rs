//! Coalesces small reads: when many follow each other, the next one is delayed, so that it returns
//! more.
//!
//! Each read wakes a shard, and the shard's writes keep the next read from finding more than a few
//! messages: with thousands of messages per second on as many channels, most of the time would go
//! into wake-ups. Network cards do the same with interrupt coalescing. At lower rates, and where
//! reads return many messages anyway, nothing is delayed.

use std::time::Duration;

use tokio::time::Instant;

/// Reads within this interval of each other are close.
const CLOSELY: Duration = Duration::from_micros(500);
/// Close reads in a row before the next one is delayed.
const MANY: u32 = 32;
/// How long a read is delayed. The runtime's timer has a resolution of one millisecond, so it may
/// take one and a half.
const MOMENT: Duration = Duration::from_micros(500);
/// A read with this many messages needs no delay.
const PLENTY: usize = 128;
/// A delayed read with fewer messages was not worth its delay.
const FEW: usize = 4;

/// Decides whether to delay the next read.
#[derive(Debug)]
pub(super) struct Gathering {
    newest: Instant,
    close: u32,
    // `None`: the next read is not delayed.
    until: Option<Instant>,
}

impl Gathering {
    /// Starts without a delay.
    pub(super) fn new(now: Instant) -> Self {
        Self { newest: now, close: 0, until: None }
    }

    /// When to read next, if the read is to be delayed.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Records a read that returned `messages` messages, after they were delivered.
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
            assert_eq!(gathering.until(), None, "too few reads so far");
            now += STEP;
            gathering.note(1, now);
        }
        (gathering, now)
    }

    #[test]
    fn many_small_reads_are_coalesced() {
        let (mut gathering, mut now) = busy(Instant::now());
        for _ in 0..3 {
            now = gathering.until().expect("the next read is delayed") + 10 * STEP;
            gathering.note(20, now);
        }
        gathering.note(PLENTY, now + 10 * STEP);
        assert_eq!(gathering.until(), None, "a full read needs no delay");
        gathering.note(1, now + 11 * STEP);
        assert!(gathering.until().is_some(), "it is as busy as before");
    }

    #[test]
    fn reads_are_not_delayed_once_traffic_is_low() {
        let (mut gathering, now) = busy(Instant::now());
        gathering.note(FEW - 1, now + 10 * STEP);
        assert_eq!(gathering.until(), None);
        gathering.note(1, now + 11 * STEP);
        assert_eq!(gathering.until(), None, "it must be busy again first");
    }

    #[test]
    fn a_short_burst_is_not_delayed() {
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
