//! How often `XINFO STREAM` is sent for each stream: less often if there are many, or if their entries
//! are large. Pure: time is passed in.

use std::time::Duration;

use ssegate_resp::Value;
use tokio::time::Instant;

const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const MAX_CHECKS_PER_SECOND: u32 = 2000;
const MAX_CHECKED_BYTES_PER_SECOND: f64 = 4e6;

/// When all streams are checked again.
#[derive(Debug)]
pub(super) struct CheckPace {
    next: Instant,
    /// The size of the replies since the last check.
    bytes: usize,
}

impl CheckPace {
    /// The first check is due now.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, bytes: 0 }
    }

    /// Records a reply to `XINFO STREAM`.
    pub(super) fn record(&mut self, reply: &Value) {
        self.bytes += approximate_size(reply);
    }

    /// Whether a check is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Begins a check of that many streams, and sets when the next one is due.
    pub(super) fn begin(&mut self, streams: usize, now: Instant) {
        let count = u32::try_from(streams).unwrap_or(u32::MAX);
        let bytes = std::mem::take(&mut self.bytes);
        #[expect(clippy::cast_precision_loss, reason = "it need not be exact")]
        let for_bytes = Duration::from_secs_f64(bytes as f64 / MAX_CHECKED_BYTES_PER_SECOND);
        let for_count = Duration::from_secs(1) * count / MAX_CHECKS_PER_SECOND;
        self.next = now + CHECK_INTERVAL.max(for_count).max(for_bytes);
    }
}

/// The approximate size of a reply, in bytes.
fn approximate_size(value: &Value) -> usize {
    match value {
        Value::Bulk(bytes) => bytes.len(),
        Value::TooLarge(bytes) => usize::try_from(*bytes).unwrap_or(usize::MAX),
        Value::Array(values) => values.iter().map(approximate_size).fold(0, usize::saturating_add),
        Value::Map(pairs) => {
            pairs.iter().map(|(_, value)| approximate_size(value)).fold(0, usize::saturating_add)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use ssegate_resp::Value;
    use tokio::time::Instant;

    use super::CheckPace;

    #[test]
    fn many_streams_or_large_entries_are_checked_less_often() {
        let start = Instant::now();
        let entry = |bytes| Value::Array(vec![Value::Bulk(Bytes::from(vec![0; bytes]))]);
        for (streams, bytes, wait) in
            [(1, 100, 500), (1000, 0, 500), (4000, 0, 2000), (1, 8_000_000, 2000)]
        {
            let mut pace = CheckPace::new(start);
            assert!(pace.is_due(start));
            pace.record(&Value::Map(vec![(Value::Null, entry(bytes))]));
            pace.begin(streams, start);
            let due = start + Duration::from_millis(wait);
            assert!(!pace.is_due(due - Duration::from_millis(1)), "{streams} {bytes}");
            assert!(pace.is_due(due), "{streams} {bytes}");
        }
    }
}
