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
const CLOSE_INTERVAL: Duration = Duration::from_micros(500);
/// Close reads in a row before the next one is delayed.
const MIN_CLOSE_READS: u32 = 32;
/// How long a read is delayed. The runtime's timer has a resolution of one millisecond, so it may
/// take one and a half.
const READ_DELAY: Duration = Duration::from_micros(500);
/// A read with this many messages needs no delay.
const FULL_READ: usize = 128;
/// A delayed read with fewer messages was not worth its delay.
const SMALL_READ: usize = 4;

/// Decides whether to delay the next read.
#[derive(Debug)]
pub(super) struct ReadCoalescer {
    last_read: Instant,
    close: u32,
    // `None`: the next read is not delayed.
    read_at: Option<Instant>,
}

impl ReadCoalescer {
    /// Starts without a delay.
    pub(super) fn new(now: Instant) -> Self {
        Self { last_read: now, close: 0, read_at: None }
    }

    /// When to read next, if the read is to be delayed.
    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Records a read that returned `messages` messages, after they were delivered.
    pub(super) fn record_read(&mut self, messages: usize, now: Instant) {
        let was_delayed = self.read_at.take().is_some();
        let is_close = now.saturating_duration_since(self.last_read) <= CLOSE_INTERVAL;
        self.last_read = now;
        self.close = match was_delayed {
            true if messages >= SMALL_READ => MIN_CLOSE_READS,
            false if is_close => self.close.saturating_add(1),
            _ => 0,
        };
        if self.close >= MIN_CLOSE_READS && messages < FULL_READ {
            self.read_at = Some(now + READ_DELAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{FULL_READ, MIN_CLOSE_READS, ReadCoalescer, SMALL_READ};

    const STEP: Duration = Duration::from_micros(100);

    /// Many reads of one message each, close together.
    fn busy(start: Instant) -> (ReadCoalescer, Instant) {
        let (mut coalescer, mut now) = (ReadCoalescer::new(start), start);
        for _ in 0..MIN_CLOSE_READS {
            assert_eq!(coalescer.read_at(), None, "too few reads so far");
            now += STEP;
            coalescer.record_read(1, now);
        }
        (coalescer, now)
    }

    #[test]
    fn many_small_reads_are_coalesced() {
        let (mut coalescer, mut now) = busy(Instant::now());
        for _ in 0..3 {
            now = coalescer.read_at().expect("the next read is delayed") + 10 * STEP;
            coalescer.record_read(20, now);
        }
        coalescer.record_read(FULL_READ, now + 10 * STEP);
        assert_eq!(coalescer.read_at(), None, "a full read needs no delay");
        coalescer.record_read(1, now + 11 * STEP);
        assert!(coalescer.read_at().is_some(), "it is as busy as before");
    }

    #[test]
    fn reads_are_not_delayed_once_traffic_is_low() {
        let (mut coalescer, now) = busy(Instant::now());
        coalescer.record_read(SMALL_READ - 1, now + 10 * STEP);
        assert_eq!(coalescer.read_at(), None);
        coalescer.record_read(1, now + 11 * STEP);
        assert_eq!(coalescer.read_at(), None, "it must be busy again first");
    }

    #[test]
    fn a_short_burst_is_not_delayed() {
        let start = Instant::now();
        let mut coalescer = ReadCoalescer::new(start);
        let mut now = start;
        for _ in 0..100 {
            for _ in 1..MIN_CLOSE_READS {
                now += STEP;
                coalescer.record_read(1, now);
                assert_eq!(coalescer.read_at(), None);
            }
            now += 100 * STEP;
            coalescer.record_read(1, now);
        }
    }
}
