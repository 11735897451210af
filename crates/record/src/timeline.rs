//! The marks that one connection has received.

use crate::RecordRule;

/// The marks of one pub/sub connection, from its beginning to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timeline {
    newest: Option<u64>,
    // A log ends at this mark, which has not arrived here.
    ahead: Option<u64>,
}

/// What a mark means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkReceived {
    /// Messages are named by it from now on.
    Newer,
    /// It is not above the previous mark, because the server has lost that one. It names nothing; a mark above
    /// [`Timeline::floor`] is needed.
    Behind,
    /// It is above a mark at which a log ends and which never came: that log has marks of another order. What was
    /// received so far cannot be appended to it, and counts as missed.
    OtherTimeline,
}

impl Timeline {
    /// The newest mark.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// The next mark has to be above this one.
    pub fn floor(&self) -> u64 {
        self.newest.max(self.ahead).unwrap_or(0)
    }

    /// Takes a mark.
    pub fn receive(&mut self, mark: u64) -> MarkReceived {
        if self.newest.is_some_and(|newest| mark <= newest) {
            return MarkReceived::Behind;
        }
        self.newest = Some(mark);
        match self.ahead {
            Some(ahead) if mark >= ahead => {
                self.ahead = None;
                match mark == ahead || !RecordRule::OtherTimeline.holds() {
                    true => MarkReceived::Newer,
                    false => MarkReceived::OtherTimeline,
                }
            }
            _ => MarkReceived::Newer,
        }
    }

    /// A log ends at this mark. Returns whether a mark above it is needed: this gateway is late, or the log is of
    /// another order of marks, and the next mark shows which.
    pub fn note_top(&mut self, mark: u64) -> bool {
        let is_ahead = self.newest.is_some_and(|newest| mark > newest);
        let is_news = is_ahead && self.ahead.is_none_or(|ahead| mark > ahead);
        if is_news {
            self.ahead = Some(mark);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::{MarkReceived, Timeline};

    #[test]
    fn marks_ascend() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.receive(5), MarkReceived::Newer);
        assert_eq!(timeline.receive(5), MarkReceived::Behind);
        assert_eq!(timeline.receive(3), MarkReceived::Behind);
        assert_eq!((timeline.newest(), timeline.floor()), (Some(5), 5));
    }

    #[test]
    fn a_late_gateway_is_told_from_a_log_of_another_order() {
        let mut timeline = Timeline::default();
        assert!(!timeline.note_top(4), "there is nothing to compare with");
        timeline.receive(5);
        assert!(!timeline.note_top(5));
        assert!(timeline.note_top(8));
        assert!(!timeline.note_top(8), "it is known");
        assert_eq!(timeline.floor(), 8);
        // This gateway was only late.
        let mut late = timeline.clone();
        assert_eq!(late.receive(6), MarkReceived::Newer);
        assert_eq!(late.receive(8), MarkReceived::Newer);
        assert_eq!(late.receive(9), MarkReceived::Newer);
        // The mark 8 was never sent here.
        assert_eq!(timeline.receive(9), MarkReceived::OtherTimeline);
        assert_eq!(timeline.receive(10), MarkReceived::Newer);
    }
}
