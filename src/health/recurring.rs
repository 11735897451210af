//! Problems that recur, of tasks on which no stream depends.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::incident::Incident;

/// A problem is dropped if it has not recurred for this long. Perhaps nothing has tried again.
const KEPT: Duration = Duration::from_secs(600);

/// The most problems that are kept. Their keys come from the configuration.
const MAX: usize = 100;

/// Problems, keyed by what has them.
#[derive(Debug, Default)]
pub(super) struct RecurringProblems(BTreeMap<String, Incident>);

impl RecurringProblems {
    /// Records a failure of `about`.
    pub(super) fn failed(&mut self, about: &str, kind: &'static str, error: &str, now: SystemTime) {
        self.0.retain(|_, incident| incident.occurred_within(KEPT, now));
        if let Some(incident) = self.0.get_mut(about) {
            incident.recur(kind, error, now);
        } else if self.0.len() < MAX {
            self.0.insert(about.to_owned(), Incident::new(kind, error, now));
        }
    }

    /// Records that `about` works. Returns whether it had a problem.
    pub(super) fn works(&mut self, about: &str) -> bool {
        self.0.remove(about).is_some()
    }

    /// Each problem, with what has it.
    pub(super) fn list(&self, now: SystemTime) -> impl Iterator<Item = (&str, &Incident)> {
        let current =
            move |(_, incident): &(&String, &Incident)| incident.occurred_within(KEPT, now);
        self.0.iter().filter(current).map(|(about, incident)| (about.as_str(), incident))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{KEPT, MAX, RecurringProblems};

    #[test]
    fn a_problem_lasts_until_it_works_or_was_not_heard_of_for_long() {
        let mut problems = RecurringProblems::default();
        let start = SystemTime::UNIX_EPOCH;
        let at = |seconds| start + Duration::from_secs(seconds);
        let list = |problems: &RecurringProblems, now| {
            let lines = problems.list(now).map(|(about, incident)| format!("{about}: {incident}"));
            lines.collect::<Vec<_>>()
        };
        problems.failed("presence", "permission", "NOPERM", at(0));
        problems.failed("presence", "timeout", "no reply", at(5));
        problems.failed("webhook", "status", "its status is 500", at(5));
        assert_eq!(
            list(&problems, at(6)),
            [
                "presence: timeout: no reply; since 1970-01-01T00:00:00Z, 2 times, last 1970-01-01T00:00:05Z",
                "webhook: its status is 500; since 1970-01-01T00:00:05Z",
            ]
        );
        assert!(problems.works("presence") && !problems.works("presence"));
        assert_eq!(list(&problems, at(6)).len(), 1);
        assert_eq!(list(&problems, at(5) + KEPT).len(), 0);
        (0..=MAX).for_each(|n| problems.failed(&n.to_string(), "x", "y", at(5) + KEPT));
        assert_eq!(list(&problems, at(6) + KEPT).len(), MAX, "what is over makes room");
    }
}
