//! Up to which time of issue the credentials of one identity are refused, and until when.

use std::time::SystemTime;

/// When a revocation is forgotten, and its number: of two that are forgotten at the same time, the earlier
/// one goes first.
pub(super) type CutoffKey = (SystemTime, u64);

/// The revocations of one identity that have an effect. A revocation is left out if another one is forgotten
/// later and reaches at least as far. So what remains is sorted: the sooner it is forgotten, the farther it
/// reaches. The first that still holds decides, however often the identity was revoked.
#[derive(Clone, Debug, Default)]
pub(super) struct Cutoffs(Vec<(CutoffKey, u64)>);

impl Cutoffs {
    /// Adds that what was issued up to `reach` is refused.
    pub(super) fn add(&mut self, key: CutoffKey, reach: u64) {
        let at = self.0.partition_point(|(other, _)| *other < key);
        if self.0.get(at).is_some_and(|(_, farthest)| *farthest >= reach) {
            return;
        }
        let kept =
            self.0[..at].iter().rposition(|(_, other)| *other > reach).map_or(0, |at| at + 1);
        self.0.splice(kept..at, [(key, reach)]);
    }

    /// Removes a revocation, if it was not left out. Those that were left out because of it were forgotten before.
    pub(super) fn remove(&mut self, key: CutoffKey) {
        if let Ok(at) = self.0.binary_search_by_key(&key, |(key, _)| *key) {
            self.0.remove(at);
        }
    }

    /// How far the revocations reach that hold at `now`; `None`: none does.
    pub(super) fn reach(&self, now: SystemTime) -> Option<u64> {
        let first = self.0.partition_point(|((forgotten, _), _)| *forgotten <= now);
        self.0.get(first).map(|(_, reach)| *reach)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::Cutoffs;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    proptest! {
        /// Against a list of all, of which the one that is forgotten first is removed now and then.
        #[test]
        fn the_farthest_that_still_holds_decides(
            added in prop::collection::vec((0..20_u64, 0..20_u64, any::<bool>()), 1..40),
        ) {
            let (mut cutoffs, mut all) = (Cutoffs::default(), Vec::new());
            for (number, (forgotten, reach, is_first_removed)) in (0..).zip(added) {
                let key = (at(forgotten), number);
                cutoffs.add(key, reach);
                all.push((key, reach));
                if is_first_removed {
                    let first = *all.iter().min().expect("one was added");
                    all.retain(|one| *one != first);
                    cutoffs.remove(first.0);
                }
                for now in 0..=20 {
                    let hold = all.iter().filter(|((forgotten, _), _)| *forgotten > at(now));
                    prop_assert_eq!(cutoffs.reach(at(now)), hold.map(|(_, reach)| *reach).max());
                }
                prop_assert!(all.is_empty() == cutoffs.is_empty());
            }
        }
    }

    #[test]
    fn what_decides_nothing_takes_no_room() {
        let mut cutoffs = Cutoffs::default();
        for number in 0..1000 {
            cutoffs.add((at(1000 + number), number), number);
        }
        assert_eq!(cutoffs.0.len(), 1);
    }
}
