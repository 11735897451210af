//! When a source was away: the last outages, for the status page.

use std::collections::VecDeque;
use std::time::SystemTime;

/// How many outages are remembered; beyond them the oldest is forgotten.
const MAX_OUTAGES: usize = 20;
/// The longest cause that is kept: errors of servers may be long.
const MAX_CAUSE_BYTES: usize = 300;

/// A time in which a source was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it began.
    pub began: SystemTime,
    /// When everything was followed again; `None`: not yet.
    pub ended: Option<SystemTime>,
    /// The first failure.
    pub cause: Option<String>,
    /// How many failures there were: the first, and attempts to connect.
    pub failures: u64,
}

/// The last outages of one source.
#[derive(Debug, Default)]
pub(super) struct Outages(VecDeque<Outage>);

impl Outages {
    /// Records that the source is away. Does nothing if it was already.
    pub(super) fn begin(&mut self, now: SystemTime) {
        if self.current().is_none() {
            if self.0.len() == MAX_OUTAGES {
                self.0.pop_front();
            }
            self.0.push_back(Outage { began: now, ended: None, cause: None, failures: 0 });
        }
    }

    /// Records a failure, which counts only while the source is away.
    pub(super) fn fail(&mut self, kind: &str, error: &str) {
        if let Some(outage) = self.current() {
            outage.failures += 1;
            outage.cause.get_or_insert_with(|| cause(kind, error));
        }
    }

    /// Records that the source is back.
    pub(super) fn end(&mut self, now: SystemTime) {
        if let Some(outage) = self.current() {
            outage.ended = Some(now);
        }
    }

    /// All of them, the newest first.
    pub(super) fn list(&self) -> Vec<Outage> {
        self.0.iter().rev().cloned().collect()
    }

    fn current(&mut self) -> Option<&mut Outage> {
        self.0.back_mut().filter(|outage| outage.ended.is_none())
    }
}

fn cause(kind: &str, error: &str) -> String {
    let mut cause =
        if error.contains(kind) { error.to_owned() } else { format!("{kind}: {error}") };
    let end = (0..=MAX_CAUSE_BYTES).rev().find(|&end| cause.is_char_boundary(end));
    cause.truncate(end.unwrap_or_default());
    cause
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{MAX_CAUSE_BYTES, MAX_OUTAGES, Outage, Outages};

    #[test]
    fn an_outage_has_its_first_cause_and_the_number_of_failures() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut outages = Outages::default();
        outages.fail("connect", "before there was an outage");
        outages.end(at(1));
        assert_eq!(outages.list(), []);
        outages.begin(at(5));
        outages.fail("closed", "the server closed the connection");
        outages.fail("connect", "refused");
        outages.begin(at(6));
        let open = Outage {
            began: at(5),
            ended: None,
            cause: Some("the server closed the connection".into()),
            failures: 2,
        };
        assert_eq!(outages.list(), std::slice::from_ref(&open));
        outages.end(at(9));
        outages.end(at(10));
        outages.fail("name", "denied while all is well");
        assert_eq!(outages.list(), [Outage { ended: Some(at(9)), ..open }]);
    }

    #[test]
    fn the_list_and_its_texts_are_bounded_and_the_newest_comes_first() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut outages = Outages::default();
        for second in 0..100 {
            outages.begin(at(second));
            outages.fail("reply", &"ä".repeat(MAX_CAUSE_BYTES));
            outages.end(at(second));
        }
        let list = outages.list();
        assert_eq!((list.len(), list[0].began), (MAX_OUTAGES, at(99)));
        let cause = list[0].cause.as_deref().expect("a cause");
        assert!(cause.len() <= MAX_CAUSE_BYTES && cause.ends_with('ä'), "{cause}");
    }
}
