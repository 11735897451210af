//! What all orders of a server hold together of messages, in memory.

use std::cell::Cell;
use std::rc::Rc;

/// How much may be held. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct RecordMemory {
    most: usize,
    held: Rc<Cell<usize>>,
}

impl RecordMemory {
    /// At most so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Rc::default() }
    }
}

/// What one of them holds of it.
#[derive(Debug)]
pub(super) struct MemoryShare {
    all: RecordMemory,
    own: usize,
}

impl MemoryShare {
    pub(super) fn new(all: RecordMemory) -> Self {
        Self { all, own: 0 }
    }

    /// It holds so many bytes now.
    pub(super) fn set(&mut self, bytes: usize) {
        self.all.held.set((self.all.held.get() + bytes).saturating_sub(self.own));
        self.own = bytes;
    }

    /// Whether all hold more than they may.
    pub(super) fn is_over(&self) -> bool {
        self.held_by_all() > self.all.most
    }

    /// What all hold, in bytes.
    pub(super) fn held_by_all(&self) -> usize {
        self.all.held.get()
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{MemoryShare, RecordMemory};

    #[test]
    fn one_bound_holds_for_all_together() {
        let all = RecordMemory::new(100);
        let [mut one, mut two] = [(); 2].map(|()| MemoryShare::new(all.clone()));
        one.set(60);
        two.set(40);
        assert!(!one.is_over() && two.held_by_all() == 100);
        two.set(41);
        assert!(one.is_over() && two.is_over());
        one.set(10);
        assert_eq!((one.held_by_all(), two.is_over()), (51, false));
        drop(two);
        assert_eq!(one.held_by_all(), 10);
    }
}
