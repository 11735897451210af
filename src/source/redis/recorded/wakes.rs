//! When the writer looks at an order. There may be thousands of orders, and few of them have something to send.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use tokio::sync::Notify;
use tokio::time::Instant;

/// The orders that may have something to send now.
#[derive(Debug, Default)]
pub(in super::super) struct RecordWakes {
    touched: RefCell<BTreeSet<u16>>,
    changed: Notify,
}

/// When each order is looked at again.
#[derive(Debug, Default)]
pub(super) struct RecordDue {
    in_order: BTreeSet<(Instant, u16)>,
    of: HashMap<u16, Instant>,
}

impl RecordWakes {
    /// This order may have something to send.
    pub(super) fn touch(&self, number: u16) {
        self.touched.borrow_mut().insert(number);
        self.changed.notify_one();
    }

    /// Waits until an order is touched. Cancel safe.
    pub(super) async fn touched(&self) {
        self.changed.notified().await;
    }

    /// Takes the orders that were touched.
    pub(super) fn take(&self) -> BTreeSet<u16> {
        self.touched.take()
    }
}

impl RecordDue {
    /// Sets when the order is looked at again; `None`: only after a touch.
    pub(super) fn set(&mut self, number: u16, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.of.insert(number, at),
            None => self.of.remove(&number),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.in_order.remove(&(before, number));
        }
        self.in_order.extend(at.map(|at| (at, number)));
    }

    /// Takes the orders that are due.
    pub(super) fn take(&mut self, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        while let Some((_, number)) = self.in_order.first().copied().filter(|(at, _)| *at <= now) {
            self.set(number, None);
            due.push(number);
        }
        due
    }

    /// When the first of them is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{RecordDue, RecordWakes};

    #[test]
    fn each_order_is_looked_at_once_when_it_is_due() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut due = RecordDue::default();
        due.set(1, Some(at(3)));
        due.set(2, Some(at(2)));
        due.set(1, Some(at(1)));
        due.set(3, Some(at(1)));
        due.set(3, None);
        assert_eq!((due.next(), due.take(now)), (Some(at(1)), vec![]));
        assert_eq!(due.take(at(9)), [1, 2]);
        assert_eq!((due.next(), due.take(at(9))), (None, vec![]));
    }

    #[tokio::test]
    async fn who_is_touched_is_there_once() {
        let wakes = RecordWakes::default();
        [7, 3, 7].into_iter().for_each(|number| wakes.touch(number));
        wakes.touched().await;
        assert_eq!(wakes.take().into_iter().collect::<Vec<_>>(), [3, 7]);
        assert!(wakes.take().is_empty());
    }
}
