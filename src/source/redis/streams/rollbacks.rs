//! What a stream has lost: for clients that come back later.

use ssegate_hub::EntryId;
use ssegate_hub::GapReason;

/// Losses of one stream that are remembered, at most.
const MAX_ROLLBACKS: usize = 8;

/// Entries that were read and then lost: those after `kept`, up to `until`.
#[derive(Clone, Copy, Debug)]
struct Rollback {
    kept: EntryId,
    until: EntryId,
    reason: GapReason,
}

/// The losses of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Rollbacks {
    // Invariant: `kept` ascends.
    all: Vec<Rollback>,
}

impl Rollbacks {
    /// Records that the entries after `kept` and up to `until` are lost.
    pub(super) fn push(&mut self, kept: EntryId, mut until: EntryId, reason: GapReason) {
        // The stream is also lost up to where an earlier loss had left it.
        while let Some(earlier) = self.all.pop_if(|earlier| earlier.kept >= kept) {
            until = until.max(earlier.until);
        }
        if self.all.len() == MAX_ROLLBACKS {
            self.all.remove(0);
        }
        self.all.push(Rollback { kept, until, reason });
    }

    /// For a client with an id that does not exist: the entry after which it has to resume, and the
    /// reason, if its entry was lost.
    pub(super) fn lost(&self, id: EntryId) -> Option<(GapReason, EntryId)> {
        let is_in = |loss: &&Rollback| loss.kept < id && id <= loss.until;
        self.all.iter().find(is_in).map(|loss| (loss.reason, loss.kept))
    }

    /// For a client that has everything up to `id`: the reason if the entries after it were lost.
    pub(super) fn at(&self, id: EntryId) -> Option<GapReason> {
        self.all.iter().find(|loss| loss.kept == id).map(|loss| loss.reason)
    }

    /// For a client that has everything up to `after`, and is sent the entries up to `until`: the first
    /// entry in between after which others were lost.
    pub(super) fn first_between(
        &self,
        after: EntryId,
        until: EntryId,
    ) -> Option<(GapReason, EntryId)> {
        let is_between = |loss: &&Rollback| after < loss.kept && loss.kept < until;
        self.all.iter().find(is_between).map(|loss| (loss.reason, loss.kept))
    }
}

#[cfg(test)]
mod tests {
    use ssegate_hub::EntryId;
    use ssegate_hub::GapReason::{Reset, RolledBack};

    use super::{MAX_ROLLBACKS, Rollbacks};

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 0 }
    }

    #[test]
    fn lost_entries_and_where_they_were_are_remembered() {
        let mut rollbacks = Rollbacks::default();
        rollbacks.push(id(12), id(20), RolledBack);
        rollbacks.push(id(30), id(35), RolledBack);
        for (ms, kept) in [(12, None), (13, Some(12)), (20, Some(12)), (21, None), (31, Some(30))] {
            let kept = kept.map(|kept| (RolledBack, id(kept)));
            assert_eq!(rollbacks.lost(id(ms)), kept, "{ms}");
        }
        for (after, until, kept) in [
            (5, 40, Some(12)),
            (12, 40, Some(30)),
            (5, 12, None),
            (29, 31, Some(30)),
            (30, 40, None),
        ] {
            let kept = kept.map(|kept| (RolledBack, id(kept)));
            assert_eq!(rollbacks.first_between(id(after), id(until)), kept, "{after} {until}");
        }
    }

    #[test]
    fn a_loss_that_reaches_further_back_takes_in_those_after_it() {
        let mut rollbacks = Rollbacks::default();
        rollbacks.push(id(12), id(20), RolledBack);
        rollbacks.push(id(30), id(35), RolledBack);
        rollbacks.push(id(9), id(33), RolledBack);
        for ms in [10, 12, 20, 30, 35] {
            assert_eq!(rollbacks.lost(id(ms)), Some((RolledBack, id(9))), "{ms}");
        }
        rollbacks.push(EntryId::ZERO, id(9), Reset);
        assert_eq!(rollbacks.lost(id(35)), Some((Reset, EntryId::ZERO)));
        assert_eq!(rollbacks.first_between(id(1), id(99)), None);
        assert_eq!(rollbacks.at(EntryId::ZERO), Some(Reset));
        assert_eq!(rollbacks.at(id(9)), None);
    }

    #[test]
    fn no_more_than_the_newest_losses_are_remembered() {
        let mut rollbacks = Rollbacks::default();
        for number in 0..100 {
            rollbacks.push(id(10 * number), id(10 * number + 5), RolledBack);
        }
        assert_eq!(rollbacks.all.len(), MAX_ROLLBACKS);
        assert_eq!(rollbacks.lost(id(991)), Some((RolledBack, id(990))));
        assert_eq!(rollbacks.lost(id(1)), None);
    }
}
