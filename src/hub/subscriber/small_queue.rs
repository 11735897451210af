//! Who waits in a line, the first of them in place.
//!
//! As a rule one waits, or nobody: that costs no memory beside the line, and no second look there.

use std::collections::VecDeque;

/// A line, first in, first out.
#[derive(Clone, Debug)]
pub(in crate::hub) struct SmallQueue<T> {
    first: Option<T>,
    // Nobody while there is no first; then it takes no room.
    #[expect(
        clippy::box_collection,
        reason = "a line in which one waits is smaller by three words"
    )]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for SmallQueue<T> {
    fn default() -> Self {
        Self { first: None, rest: None }
    }
}

impl<T> SmallQueue<T> {
    pub(in crate::hub) fn push(&mut self, last: T) {
        if self.first.is_none() {
            self.first = Some(last);
        } else {
            self.rest.get_or_insert_default().push_back(last);
        }
    }

    pub(in crate::hub) fn pop(&mut self) -> Option<T> {
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            // A crowd that has gone leaves no memory behind.
            self.rest = None;
        }
        std::mem::replace(&mut self.first, next)
    }

    pub(in crate::hub) fn first(&self) -> Option<&T> {
        self.first.as_ref()
    }

    /// Takes the first of those that are meant.
    pub(in crate::hub) fn take_first(&mut self, is_meant: impl Fn(&T) -> bool) -> Option<T> {
        if self.first.as_ref().is_some_and(&is_meant) {
            return self.pop();
        }
        let rest = self.rest.as_mut()?;
        let place = rest.iter().position(is_meant)?;
        rest.remove(place)
    }

    pub(in crate::hub) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }
}

impl<T> IntoIterator for SmallQueue<T> {
    type Item = T;
    type IntoIter =
        std::iter::Chain<std::option::IntoIter<T>, std::collections::vec_deque::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest.map(|rest| *rest).unwrap_or_default())
    }
}

impl<T> FromIterator<T> for SmallQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let mut line = Self::default();
        iter.into_iter().for_each(|last| line.push(last));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::SmallQueue;

    #[test]
    fn who_came_first_goes_first_and_a_single_one_takes_no_room() {
        let mut line = SmallQueue::default();
        line.push(1);
        assert_eq!(line.rest, None);
        assert_eq!(line.first(), Some(&1));
        assert_eq!((line.pop(), line.pop()), (Some(1), None));

        line = (1..=4).collect();
        assert_eq!(line.take_first(|n| n % 2 == 0), Some(2));
        assert_eq!(line.take_first(|n| n % 2 == 1), Some(1));
        line.push(5);
        assert_eq!(line.iter().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(std::iter::from_fn(|| line.pop()).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(line.rest, None);
    }
}
