//! When a gateway publishes a mark.

use std::time::Duration;

use tokio::time::Instant;

/// Up to this long, so that several gateways do not publish together: the first mark does for all.
const SPREAD: Duration = Duration::from_millis(20);
/// A mark that was needed and did not come is published again after this time: Redis does not send it twice.
const RETRY: Duration = Duration::from_millis(300);
/// While messages come, a mark comes this often.
const PERIOD: Duration = Duration::from_secs(1);

/// Decides when to publish a mark: one for each second in which messages come, and one for each 20 ms in
/// which something was confirmed.
#[derive(Debug, Default)]
pub(crate) struct MarkPacer {
    due: Option<Instant>,
    // A subscription was confirmed, and no mark has come since.
    is_needed: bool,
    heard: Option<Instant>,
    published: Option<Instant>,
}

impl MarkPacer {
    /// A subscription was confirmed: its messages have no names until a mark comes.
    pub(crate) fn confirmed(&mut self, now: Instant) {
        self.is_needed = true;
        self.arm(now);
    }

    /// A message has come. Returns whether a mark is now due at another time.
    #[inline]
    pub(crate) fn message(&mut self, now: Instant) -> bool {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| now < at + PERIOD);
        if self.due.is_some() || is_recent(self.heard) || is_recent(self.published) {
            return false;
        }
        self.arm(now);
        true
    }

    /// A mark has come, from any gateway.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self { heard: Some(now), published: self.published, ..Self::default() };
    }

    /// The source is away: nothing can be published.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// When a mark is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a mark is to be published now.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = self.is_needed.then_some(now + RETRY);
        self.published = Some(now);
        true
    }

    fn arm(&mut self, now: Instant) {
        let at = now + SPREAD.mul_f64(fastrand::f64());
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::{MarkPacer, PERIOD, RETRY, SPREAD};
    use tokio::time::Instant;

    #[test]
    fn a_confirmation_needs_a_mark_until_one_comes() {
        let start = Instant::now();
        let mut pacer = MarkPacer::default();
        assert!(!pacer.take_due(start + PERIOD), "nothing was confirmed");
        pacer.confirmed(start);
        let due = pacer.due().expect("a mark is due");
        assert!(due <= start + SPREAD);
        assert!(pacer.take_due(due));
        assert!(!pacer.take_due(due), "once");
        assert!(pacer.take_due(due + RETRY), "it did not come");
        pacer.heard(due + RETRY);
        assert_eq!(pacer.due(), None);
    }

    #[test]
    fn a_mark_comes_each_second_while_messages_come() {
        let start = Instant::now();
        let mut pacer = MarkPacer::default();
        pacer.heard(start);
        assert!(!pacer.message(start + PERIOD / 2));
        assert!(pacer.message(start + PERIOD));
        assert!(!pacer.message(start + PERIOD), "it is due already");
        let due = pacer.due().expect("due");
        assert!(pacer.take_due(due));
        assert_eq!(pacer.due(), None, "not again, although it may be lost");
        assert!(!pacer.message(due + PERIOD / 2));
        assert!(pacer.message(due + PERIOD), "it was lost");
    }
}
