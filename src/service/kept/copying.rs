//! The next step of a copy, from what Redis replies. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::log::StreamEnd;
use crate::source::kept::{KeptAway, StoredRecord};

/// Entries in one read, at most: a reply of a megabyte, if each entry has the maximum size.
pub(super) const PAGE: usize = 16;
/// How long readers wait for a Redis that is away, or has lost the stream.
const MAX_AWAY: Duration = Duration::from_secs(10);

/// The progress of a copy.
#[derive(Debug, Default)]
pub(super) struct CopyRule {
    epoch: String,
    after: u64,
    failing_since: Option<Instant>,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyStep {
    /// Read on at once: there is more.
    More,
    /// Wait: there is nothing more yet.
    Wait,
    /// Try again in a moment: the stream was not found, or Redis is away.
    Retry,
    /// The stream has ended in this way, and all of it was read.
    End(StreamEnd),
    /// The stream cannot be found for too long.
    GiveUp,
}

impl CopyRule {
    /// The epoch and the last entry that were read.
    pub(super) fn known(&self) -> (&str, u64) {
        (&self.epoch, self.after)
    }

    /// Handles the result of a read.
    pub(super) fn take(
        &mut self,
        read: Result<Option<&StoredRecord>, KeptAway>,
        now: Instant,
    ) -> CopyStep {
        let Ok(Some(stored)) = read else {
            // The stream may begin again, after Redis has lost it.
            let since = *self.failing_since.get_or_insert(now);
            return if now >= since + MAX_AWAY { CopyStep::GiveUp } else { CopyStep::Retry };
        };
        self.failing_since = None;
        if self.epoch != stored.epoch {
            (self.epoch, self.after) = (stored.epoch.clone(), 0);
        }
        if let Some(last) = stored.parts.last() {
            self.after = last.seq;
        }
        if stored.parts.len() >= PAGE {
            return CopyStep::More;
        }
        match stored_end(&stored.state) {
            None => CopyStep::Wait,
            Some(end) => CopyStep::End(end),
        }
    }
}

/// How a stream has ended; `None`: it is running.
pub(super) fn stored_end(state: &str) -> Option<StreamEnd> {
    match state {
        "running" => None,
        "ended" => Some(StreamEnd::Complete),
        "cancelled" => Some(StreamEnd::Cancelled),
        // Includes a state of a later version.
        _ => Some(StreamEnd::Lost),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::{CopyRule, CopyStep, MAX_AWAY, PAGE};
    use crate::service::kept::log::StreamEnd;
    use crate::source::kept::{KeptAway, StoredPart, StoredRecord};

    fn stored(state: &str, epoch: &str, seqs: std::ops::RangeInclusive<u64>) -> StoredRecord {
        let part = |seq| StoredPart { seq, at: Bytes::new(), bytes: Bytes::new() };
        StoredRecord {
            state: state.into(),
            epoch: epoch.into(),
            last: 0,
            digest: String::new(),
            is_numbered: None,
            began: 0,
            gateway: String::new(),
            about: Bytes::new(),
            lease: 0,
            parts: seqs.map(part).collect(),
        }
    }

    #[test]
    fn a_copy_reads_on_and_ends_when_all_is_read() {
        let (mut rule, now) = (CopyRule::default(), Instant::now());
        let mut take = |stored: &StoredRecord| {
            let step = rule.take(Ok(Some(stored)), now);
            (step, rule.known().1)
        };
        let page = PAGE as u64;
        assert_eq!(take(&stored("ended", "e", 1..=page)), (CopyStep::More, page));
        assert_eq!(take(&stored("running", "e", page + 1..=page + 6)), (CopyStep::Wait, page + 6));
        let none = std::ops::RangeInclusive::new(1, 0);
        assert_eq!(take(&stored("running", "e", none.clone())), (CopyStep::Wait, page + 6));
        // Begun anew: the entries have other numbers.
        assert_eq!(take(&stored("running", "f", 1..=2)), (CopyStep::Wait, 2));
        for (state, end) in [
            ("ended", StreamEnd::Complete),
            ("cancelled", StreamEnd::Cancelled),
            ("lost", StreamEnd::Lost),
            ("else", StreamEnd::Lost),
        ] {
            assert_eq!(take(&stored(state, "f", none.clone())), (CopyStep::End(end), 2));
        }
    }

    #[test]
    fn readers_do_not_wait_for_ever_for_what_is_away() {
        let (mut rule, now) = (CopyRule::default(), Instant::now());
        let moment = Duration::from_millis(1);
        assert_eq!(rule.take(Err(KeptAway::Away), now), CopyStep::Retry);
        assert_eq!(rule.take(Ok(None), now + MAX_AWAY - moment), CopyStep::Retry);
        let back = stored("running", "e", 1..=1);
        assert_eq!(rule.take(Ok(Some(&back)), now + MAX_AWAY - moment), CopyStep::Wait);
        assert_eq!(rule.take(Ok(None), now + MAX_AWAY), CopyStep::Retry);
        assert_eq!(rule.take(Err(KeptAway::Refused), now + 2 * MAX_AWAY), CopyStep::GiveUp);
    }
}
