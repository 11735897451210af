//! When a gateway asks the log of one channel. Pure, but for the clock.

use std::time::Duration;

use ssegate_record::{AppendKind, RecordId};
use tokio::time::Instant;

/// What another gateway writes at once should be there after this.
pub(super) const OTHERS_APPEND: Duration = Duration::from_millis(300);
/// How long others may take to append what is missing, before a gap is appended instead.
pub(super) const OTHERS_HELP: Duration = Duration::from_secs(2);
/// A log that lacks what came before is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// More items than this remain only if the gateway that should append them has stopped.
const BACKLOG: usize = 64;
/// After an error.
const RETRY: Duration = Duration::from_secs(1);

/// When the next request is due.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordPace {
    // Since when the oldest item waits.
    waiting_since: Option<Instant>,
    // Another gateway should have appended it, and has not.
    is_overdue: bool,
    // Since when it is known that the log lacks what came before, and has not grown.
    missing_since: Option<Instant>,
    // How far the log reached when it was asked; zero: there is none.
    top: RecordId,
    not_before: Option<Instant>,
}

/// What is known of the other gateways.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordTurn {
    /// This gateway writes the channel at once.
    pub(super) is_first: bool,
    /// There may be others that can append what this one has not received, or know that there was nothing.
    pub(super) has_others: bool,
    /// One of them may have messages from before the first one that waits here.
    pub(super) may_have_older: bool,
}

impl RecordPace {
    /// There is something to append.
    pub(super) fn begin(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// The request that is due now.
    pub(super) fn due(&self, turn: RecordTurn, now: Instant) -> Option<AppendKind> {
        let waiting_since = self.waiting_since?;
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        if let Some(since) = self.missing_since {
            // Only a gateway that still has older messages can know what a new log lacks.
            let is_first_ever = self.top == RecordId::default() && !turn.may_have_older;
            let is_over = !turn.has_others || is_first_ever || now >= since + OTHERS_HELP;
            return Some(if is_over { AppendKind::ItemsBehindGap } else { AppendKind::Items });
        }
        match turn.is_first || self.is_overdue {
            true => Some(AppendKind::Items),
            false => (now >= waiting_since + OTHERS_APPEND).then_some(AppendKind::Look),
        }
    }

    /// The log was asked, and reaches up to `top`. `taken`: items that it has now; `left`: those that it has not.
    pub(super) fn answered(
        &mut self,
        (is_missing, taken, left): (bool, usize, usize),
        top: RecordId,
        now: Instant,
    ) {
        let has_grown = std::mem::replace(&mut self.top, top) < top;
        self.not_before = is_missing.then_some(now + LOOK_AGAIN);
        if is_missing {
            // Others are appending what is missing.
            if has_grown {
                self.missing_since = None;
            }
            self.missing_since.get_or_insert(now);
            return;
        }
        self.missing_since = None;
        let has_more = left > 0;
        // If much is left, the gateway that should have appended it is gone: this one continues.
        self.is_overdue = has_more && (taken == 0 || (self.is_overdue && left > BACKLOG));
        if taken > 0 || !has_more {
            self.waiting_since = has_more.then_some(now);
        }
    }

    /// Whether the log lacks what came before.
    pub(super) fn is_missing(&self) -> bool {
        self.missing_since.is_some()
    }

    /// The request failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + RETRY);
    }
}

#[cfg(test)]
mod tests {
    use ssegate_record::AppendKind::{Items, ItemsBehindGap, Look};
    use ssegate_record::RecordId;
    use tokio::time::Instant;

    use super::{LOOK_AGAIN, OTHERS_APPEND, OTHERS_HELP, RETRY, RecordPace, RecordTurn};

    const FIRST: RecordTurn = RecordTurn { is_first: true, has_others: true, may_have_older: true };
    const SECOND: RecordTurn = RecordTurn { is_first: false, ..FIRST };
    const ALONE: RecordTurn = RecordTurn { has_others: false, ..FIRST };

    fn top(k: u64) -> RecordId {
        RecordId { mark: 1, k }
    }

    #[test]
    fn one_writes_at_once_and_the_others_look_first() {
        let now = Instant::now();
        let mut pace = RecordPace::default();
        assert_eq!(pace.due(FIRST, now), None);
        pace.begin(now);
        assert_eq!((pace.due(FIRST, now), pace.due(SECOND, now)), (Some(Items), None));
        let later = now + OTHERS_APPEND;
        assert_eq!(pace.due(SECOND, later), Some(Look));
        // The first one has appended a part of it.
        let mut partly = pace.clone();
        partly.answered((false, 2, 1), top(2), later);
        assert_eq!(partly.due(SECOND, later), None);
        partly.answered((false, 1, 0), top(3), later);
        assert_eq!(partly.due(FIRST, later), None, "all is there");
        // It has not.
        pace.answered((false, 0, 1000), top(0), later);
        assert_eq!(pace.due(SECOND, later), Some(Items));
        // The first gateway is gone: this one appends what has come meanwhile, until little is left.
        pace.answered((false, 256, 744), top(256), later);
        assert_eq!(pace.due(SECOND, later), Some(Items));
        pace.answered((false, 700, 44), top(956), later);
        assert_eq!(pace.due(SECOND, later), None);
    }

    #[test]
    fn a_gap_waits_for_others() {
        let now = Instant::now();
        let mut pace = RecordPace::default();
        pace.begin(now);
        pace.answered((true, 0, 1), top(0), now);
        assert_eq!(pace.due(FIRST, now), None);
        assert_eq!(pace.due(FIRST, now + LOOK_AGAIN), Some(Items));
        assert_eq!(pace.due(ALONE, now + LOOK_AGAIN), Some(ItemsBehindGap));
        pace.answered((true, 0, 1), top(0), now + LOOK_AGAIN);
        let mut helped = pace.clone();
        assert_eq!(pace.due(FIRST, now + OTHERS_HELP), Some(ItemsBehindGap));
        // The log grows: they are about to.
        helped.answered((true, 0, 1), top(1), now + OTHERS_HELP - LOOK_AGAIN);
        assert_eq!(helped.due(FIRST, now + OTHERS_HELP), Some(Items));
        pace.failed(now + OTHERS_HELP);
        assert_eq!(pace.due(FIRST, now + OTHERS_HELP), None);
        assert_eq!(pace.due(FIRST, now + OTHERS_HELP + RETRY), Some(ItemsBehindGap));
    }

    #[test]
    fn a_log_that_begins_waits_only_for_older_messages_of_others() {
        let now = Instant::now();
        let mut pace = RecordPace::default();
        pace.begin(now);
        pace.answered((true, 0, 1), RecordId::default(), now);
        let at = now + LOOK_AGAIN;
        let nobody_has_older = RecordTurn { may_have_older: false, ..FIRST };
        assert_eq!(pace.due(FIRST, at), Some(Items));
        assert_eq!(pace.due(nobody_has_older, at), Some(ItemsBehindGap));
        // Of an existing log, another gateway may know that nothing is missing.
        pace.answered((true, 0, 1), top(1), at);
        assert_eq!(pace.due(nobody_has_older, at + LOOK_AGAIN), Some(Items));
    }
}
