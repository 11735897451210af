//! What is written to Redis next for a stream, and what follows from the reply. Pure: time is
//! passed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::log_part::{LogCursor, LogPart};

/// How often the lease of the pump is renewed, at least: three times within a lease.
const RENEWAL: Duration = Duration::from_secs(2);
/// How long nothing is sent after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// How long the end of a stream is retried.
const MAX_END: Duration = Duration::from_secs(60);

/// The state of a stream at Redis.
#[derive(Debug)]
pub(super) struct SendRule {
    // `None`: the stream is to begin, or to begin again.
    epoch: Option<String>,
    seq: u64,
    cursor: LogCursor,
    // The numbers and ends of the entries that Redis has, the oldest first.
    entries: VecDeque<(u64, u64)>,
    // Sent, or not known to have arrived: then it is sent again.
    pending: Option<LogPart>,
    // When Redis last replied to a write of the pump.
    heard: Instant,
    failing_since: Option<Instant>,
    retry_at: Instant,
}

/// The numbers that are sent with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendNumbers {
    /// The number of the entry, or of the last one if there is no entry.
    pub(super) seq: u64,
    /// The oldest entry that is kept.
    pub(super) keep_from: u64,
}

impl SendRule {
    /// Starts with an empty Redis.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: None,
            seq: 0,
            cursor: LogCursor::default(),
            entries: VecDeque::new(),
            pending: None,
            heard: now,
            failing_since: None,
            retry_at: now,
        }
    }

    /// The epoch at Redis; `None`: the stream is to begin.
    pub(super) fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// When the lease of the pump is renewed.
    pub(super) fn renew_at(&self) -> Instant {
        self.heard + RENEWAL
    }

    /// When to retry after a failure.
    pub(super) fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// Whether writes to Redis are failing.
    pub(super) fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Whether to give up on a stream that ended at `ended_at`.
    pub(super) fn gives_up(&self, ended_at: Instant, is_stopping: bool, now: Instant) -> bool {
        // A stream of a process that exits is lost after its lease anyway.
        let most = if is_stopping { RENEWAL } else { MAX_END };
        self.failing_since.is_some() && now >= ended_at + most
    }

    /// The next part to send: the pending one, or the one that `part` returns for the cursor.
    pub(super) fn next_part(&mut self, part: impl FnOnce(LogCursor) -> LogPart) -> &LogPart {
        let cursor = self.cursor;
        self.pending.get_or_insert_with(|| part(cursor))
    }

    /// Whether a part is pending that is not known to have arrived.
    pub(super) fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The numbers of the next entry, for a log that begins at this byte.
    pub(super) fn numbers(&self, log_start: u64) -> SendNumbers {
        let has_entry = self.pending.as_ref().is_some_and(|part| !part.bytes.is_empty());
        let seq = self.seq + u64::from(has_entry);
        let kept = self.entries.iter().find(|(_, end)| *end > log_start);
        SendNumbers { seq, keep_from: kept.map_or(seq, |(seq, _)| *seq) }
    }

    /// Records that the stream has begun.
    pub(super) fn begun(&mut self, epoch: String, now: Instant) {
        *self = Self { epoch: Some(epoch), ..Self::new(now) };
    }

    /// Records that the pending part has arrived. Returns the byte behind it.
    pub(super) fn sent(&mut self, log_start: u64, now: Instant) -> u64 {
        if let Some(part) = self.pending.take() {
            self.cursor = part.after();
            if !part.bytes.is_empty() {
                self.seq += 1;
                self.entries.push_back((self.seq, self.cursor.offset));
            }
        }
        while self.entries.front().is_some_and(|(_, end)| *end <= log_start) {
            self.entries.pop_front();
        }
        (self.heard, self.failing_since) = (now, None);
        self.cursor.offset
    }

    /// Redis has lost the stream: all that is kept is sent again.
    pub(super) fn gone(&mut self, now: Instant) {
        let failing_since = self.failing_since;
        *self = Self { failing_since, ..Self::new(now) };
    }

    /// It is not known whether the pending part has arrived.
    pub(super) fn failed(&mut self, now: Instant) {
        // A part without bytes only renewed the lease: a later one has the current place.
        self.pending.take_if(|part| part.bytes.is_empty());
        self.failing_since.get_or_insert(now);
        self.retry_at = now + RETRY.mul_f64(0.5 + fastrand::f64());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::{LogCursor, LogPart, MAX_END, RENEWAL, SendNumbers, SendRule};

    fn part(cursor: LogCursor, bytes: &'static str) -> LogPart {
        let LogCursor { offset, events } = cursor;
        let bytes = Bytes::from_static(bytes.as_bytes());
        LogPart { offset, before: events, bytes, ..LogPart::default() }
    }

    fn send(rule: &mut SendRule, bytes: &'static str, log_start: u64) -> SendNumbers {
        rule.next_part(|cursor| part(cursor, bytes));
        let numbers = rule.numbers(log_start);
        rule.sent(log_start, Instant::now());
        numbers
    }

    #[test]
    fn entries_have_numbers_and_old_ones_go() {
        let now = Instant::now();
        let mut rule = SendRule::new(now);
        assert_eq!(rule.epoch(), None);
        rule.begun("e".into(), now);
        let numbers = |seq, keep_from| SendNumbers { seq, keep_from };
        assert_eq!(send(&mut rule, "", 0), numbers(0, 0), "only that it is there");
        assert_eq!(send(&mut rule, "abcd", 0), numbers(1, 1));
        assert_eq!(send(&mut rule, "efgh", 0), numbers(2, 1));
        assert_eq!(send(&mut rule, "", 3), numbers(2, 1), "the first is kept in part");
        assert_eq!(send(&mut rule, "ijkl", 4), numbers(3, 2));
        assert_eq!(send(&mut rule, "m", 12), numbers(4, 4));
        assert_eq!(rule.renew_at(), rule.heard + RENEWAL);
    }

    #[test]
    fn what_may_have_come_is_sent_again_unchanged() {
        let now = Instant::now();
        let mut rule = SendRule::new(now);
        rule.begun("e".into(), now);
        rule.next_part(|cursor| part(cursor, "ab"));
        let numbers = rule.numbers(0);
        rule.failed(now);
        assert!(rule.is_failing() && rule.has_pending() && rule.retry_at() > now);
        assert_eq!(rule.next_part(|_| unreachable!("it is pending")).bytes, "ab");
        assert_eq!(rule.numbers(0), numbers);
        assert_eq!(rule.sent(0, now), 2);
        assert!(!rule.is_failing() && !rule.has_pending());
    }

    #[test]
    fn a_pump_that_was_cut_off_says_first_what_came_meanwhile() {
        let now = Instant::now();
        let mut rule = SendRule::new(now);
        rule.begun("e".into(), now);
        rule.next_part(|cursor| part(cursor, ""));
        rule.failed(now);
        assert_eq!(rule.next_part(|cursor| part(cursor, "ab")).bytes, "ab");
    }

    #[test]
    fn what_redis_has_lost_is_sent_from_the_beginning() {
        let now = Instant::now();
        let mut rule = SendRule::new(now);
        rule.begun("e".into(), now);
        send(&mut rule, "abcd", 0);
        rule.next_part(|cursor| part(cursor, "ef"));
        rule.gone(now);
        assert!(rule.epoch().is_none() && !rule.has_pending());
        rule.begun("f".into(), now);
        let mut asked = None;
        rule.next_part(|cursor| {
            asked = Some(cursor);
            part(cursor, "abcdef")
        });
        assert_eq!(asked, Some(LogCursor::default()));
        assert_eq!(rule.numbers(0).seq, 1);
    }

    #[test]
    fn it_is_tried_for_a_while_to_say_how_a_stream_has_ended() {
        let now = Instant::now();
        let mut rule = SendRule::new(now);
        assert!(!rule.gives_up(now, true, now + MAX_END), "nothing has failed");
        rule.failed(now);
        let moment = Duration::from_millis(1);
        assert!(!rule.gives_up(now, false, now + MAX_END - moment));
        assert!(rule.gives_up(now, false, now + MAX_END));
        assert!(rule.gives_up(now, true, now + RENEWAL));
    }
}
