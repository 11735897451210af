//! The marks that were received, each with the number at which it stood.

use std::collections::{HashMap, VecDeque};

use super::name::MarkId;

/// The marks that are remembered, in less than 3 MB: 18 hours of them where one comes each second, and most of
/// an hour where channels are opened all the time.
pub(crate) const MAX_MARKS: usize = 65_536;

/// The newest marks.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    // The oldest first. Invariant: numbers do not descend.
    order: VecDeque<ReceivedMark>,
    numbers: HashMap<MarkId, u64>,
}

/// A mark that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedMark {
    pub(crate) id: MarkId,
    /// The newest number when it came: a message behind it has a greater one.
    pub(crate) number: u64,
}

impl Marks {
    /// A mark has come. Returns false if it is known: each mark is published once, and a repetition would
    /// move positions.
    pub(crate) fn push(&mut self, id: MarkId, number: u64) -> bool {
        debug_assert!(self.order.back().is_none_or(|newest| newest.number <= number));
        if self.numbers.contains_key(&id) {
            return false;
        }
        self.numbers.insert(id, number);
        self.order.push_back(ReceivedMark { id, number });
        if self.order.len() > MAX_MARKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest.id);
        }
        true
    }

    /// The newest mark.
    pub(crate) fn newest(&self) -> Option<ReceivedMark> {
        self.order.back().copied()
    }

    /// The number at which a mark stood; `None` if it was not received, or too long ago.
    pub(crate) fn number(&self, id: MarkId) -> Option<u64> {
        self.numbers.get(&id).copied()
    }

    /// Replaces all marks before the last one of `earlier` with `earlier`, which has the oldest first. Those
    /// after it stay.
    pub(crate) fn continue_from(&mut self, earlier: &[ReceivedMark]) {
        let later = |seam: &ReceivedMark| {
            let place = self.order.iter().position(|mark| mark.id == seam.id)?;
            Some(self.order.range(place + 1..).copied().collect::<Vec<_>>())
        };
        let later = earlier.last().and_then(later).unwrap_or_default();
        *self = Self::default();
        for mark in earlier.iter().copied().chain(later) {
            self.push(mark.id, mark.number);
        }
    }

    /// The newest marks, at most `count`, the oldest of them first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = ReceivedMark> {
        let start = self.order.len().saturating_sub(count);
        self.order.range(start..).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_MARKS, Marks, ReceivedMark};

    #[test]
    fn the_newest_marks_are_remembered() {
        let mut marks = Marks::default();
        assert_eq!(marks.newest(), None);
        for id in 0..=MAX_MARKS as u64 {
            assert!(marks.push(id, 10 * id));
        }
        assert_eq!(marks.number(0), None, "forgotten");
        assert_eq!(marks.number(1), Some(10));
        assert_eq!(marks.order.len(), marks.numbers.len());
        let last: Vec<_> = marks.last(2).map(|mark| mark.id).collect();
        assert_eq!(last, [MAX_MARKS as u64 - 1, MAX_MARKS as u64]);
    }

    #[test]
    fn a_mark_that_comes_again_stays_where_it_stood() {
        let mut marks = Marks::default();
        assert!(marks.push(7, 1));
        assert!(marks.push(8, 2));
        assert!(!marks.push(7, 3));
        assert_eq!(marks.number(7), Some(1));
        assert_eq!(marks.newest(), Some(ReceivedMark { id: 8, number: 2 }));
    }
}
