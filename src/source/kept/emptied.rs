//! Whether Redis has lost its kept streams, as after a `FLUSHALL` or a restart without persistence. A stream that is
//! not found then may come back in a moment, when the gateways that have it write it again. Pure.

use std::time::Duration;

use ssegate_resp::Value;

/// How long gateways may take to write their streams again: longer than a pump may be silent or without a connection.
const REWRITE: Duration = Duration::from_secs(10);

/// A note in Redis that is lost together with everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SinceNote {
    /// Identifies the note.
    made: u64,
    /// How long ago it was made.
    age: Duration,
}

/// What is known of the note.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EmptiedRedis {
    made: Option<u64>,
    losses: u64,
}

impl SinceNote {
    pub(super) fn parse(reply: &Value) -> Option<Self> {
        let Value::Array(parts) = reply else { return None };
        let number = |part: &Value| str::from_utf8(part.as_bytes()?).ok()?.parse().ok();
        let [made, age] = &parts[..] else { return None };
        Some(Self { made: number(made)?, age: Duration::from_millis(number(age)?) })
    }
}

impl EmptiedRedis {
    /// Records that this note was found. Returns whether a stream that is not found may still come back: the note that
    /// this gateway knew was lost a moment ago. The first note that it finds is no loss.
    pub(super) fn found(&mut self, note: SinceNote) -> bool {
        if self.made.replace(note.made).is_some_and(|known| known != note.made) {
            self.losses += 1;
        }
        self.losses > 0 && note.age < REWRITE
    }

    /// How many times Redis has lost everything.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ssegate_resp::Value;

    use super::{EmptiedRedis, REWRITE, SinceNote};

    #[test]
    fn what_is_not_found_may_come_back_for_a_while_after_a_loss() {
        let note = |made, age| SinceNote { made, age };
        let (now, moment) = (Duration::ZERO, Duration::from_millis(1));
        let mut redis = EmptiedRedis::default();
        assert!(!redis.found(note(5, now)), "it is new to this gateway");
        assert!(!redis.found(note(5, REWRITE)));
        assert!(redis.found(note(9, now)) && redis.found(note(9, REWRITE - moment)));
        assert!(!redis.found(note(9, REWRITE)));
        assert_eq!(redis.losses(), 1);
        // It was found by another gateway, long ago.
        assert!(!redis.found(note(11, REWRITE)));
        assert_eq!(redis.losses(), 2);
    }

    #[test]
    fn a_note_is_read() {
        let reply = |parts: &[&'static str]| {
            Value::Array(parts.iter().map(|part| Value::Bulk((*part).into())).collect())
        };
        let note = SinceNote { made: 7, age: Duration::from_millis(20) };
        assert_eq!(SinceNote::parse(&reply(&["7", "20"])), Some(note));
        for wrong in [reply(&["7"]), reply(&["7", "x"]), Value::Null] {
            assert_eq!(SinceNote::parse(&wrong), None);
        }
    }
}
