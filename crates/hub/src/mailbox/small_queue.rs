//! A first-in-first-out queue that holds its first element in place.
//!
//! As a rule it has one element, or none: that takes no allocation and no indirection.

use std::collections::VecDeque;

/// A queue that allocates from its second element on.
#[derive(Clone, Debug)]
pub(crate) struct SmallQueue<T> {
    first: Option<T>,
    // `None` unless there are more elements.
    #[expect(clippy::box_collection, reason = "a queue of one element is smaller by three words")]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for SmallQueue<T> {
    fn default() -> Self {
        Self { first: None, rest: None }
    }
}

impl<T> SmallQueue<T> {
    pub(crate) fn push(&mut self, last: T) {
        if self.first.is_none() {
            self.first = Some(last);
        } else {
            self.rest.get_or_insert_default().push_back(last);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            // A burst leaves no memory behind.
            self.rest = None;
        }
        std::mem::replace(&mut self.first, next)
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.first.as_ref()
    }

    /// Takes the first element that matches.
    pub(crate) fn take_first(&mut self, matches: impl Fn(&T) -> bool) -> Option<T> {
        if self.first.as_ref().is_some_and(&matches) {
            return self.pop();
        }
        let rest = self.rest.as_mut()?;
        let index = rest.iter().position(matches)?;
        rest.remove(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
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
        let mut queue = Self::default();
        iter.into_iter().for_each(|last| queue.push(last));
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::SmallQueue;

    #[test]
    fn elements_leave_in_order_and_one_takes_no_allocation() {
        let mut queue = SmallQueue::default();
        queue.push(1);
        assert_eq!(queue.rest, None);
        assert_eq!(queue.first(), Some(&1));
        assert_eq!((queue.pop(), queue.pop()), (Some(1), None));

        queue = (1..=4).collect();
        assert_eq!(queue.take_first(|n| n % 2 == 0), Some(2));
        assert_eq!(queue.take_first(|n| n % 2 == 1), Some(1));
        queue.push(5);
        assert_eq!(queue.iter().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(queue.rest, None);
    }
}
