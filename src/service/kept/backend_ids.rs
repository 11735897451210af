//! The ids that a backend gives its events.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

/// About what an id takes, beside its bytes.
const ID_COST: usize = 96;
/// The number of removed ids that are remembered is between this and twice this. If a backend uses an id again after
/// more than that, the id counts as new.
const MAX_GONE: usize = 800;

/// The ids that a backend has set, each with the number of the event behind which its client is.
#[derive(Debug, Default)]
pub(super) struct BackendIds {
    numbers: HashMap<Box<[u8]>, u64>,
    in_order: VecDeque<(u64, Box<[u8]>)>,
    bytes: usize,
    // Hashes of removed ids: an id that comes again does not show where its client is. The newest, and those before
    // them: at least the last `MAX_GONE`.
    gone: [HashSet<u64>; 2],
    // Whether every id that is not in `numbers` may have been removed.
    is_any_gone: bool,
    hasher: RandomState,
}

impl BackendIds {
    /// Adds an id: its client is behind the event with this number. If an id comes again, its client may be behind
    /// the first event with it, and is sent the events after that.
    pub(super) fn insert(&mut self, id: Box<[u8]>, number: u64) {
        if self.numbers.contains_key(&id) || (!self.is_any_gone && self.is_gone(&id)) {
            return;
        }
        self.bytes += 2 * id.len() + ID_COST;
        self.in_order.push_back((number, id.clone()));
        self.numbers.insert(id, number);
    }

    /// The number of the event behind which the client with this id is.
    pub(super) fn number(&self, id: &[u8]) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    /// Removes the ids of events before this one: their log is gone.
    pub(super) fn forget_until(&mut self, before: u64) {
        while let Some((number, _)) = self.in_order.front()
            && *number < before
        {
            let Some((_, id)) = self.in_order.pop_front() else { return };
            self.numbers.remove(&id);
            self.bytes -= 2 * id.len() + ID_COST;
            if self.gone[0].len() >= MAX_GONE {
                self.gone.swap(0, 1);
                self.gone[0].clear();
            }
            self.gone[0].insert(self.hasher.hash_one(&id));
        }
    }

    /// The ids of clients behind these events, in order.
    pub(super) fn between(&self, first: u64, last: u64) -> Vec<(u64, Box<[u8]>)> {
        let from = self.in_order.partition_point(|(number, _)| *number < first);
        let ids = self.in_order.range(from..).take_while(|(number, _)| *number <= last);
        ids.cloned().collect()
    }

    /// Records that every unknown id may have been removed.
    pub(super) fn forget_unknown(&mut self) {
        self.is_any_gone = true;
    }

    /// Whether this id may have been there and was removed.
    pub(super) fn is_gone(&self, id: &[u8]) -> bool {
        if self.is_any_gone {
            return true;
        }
        if self.gone[0].is_empty() {
            return false;
        }
        // As `Box<[u8]>` is hashed.
        let hash = self.hasher.hash_one(id);
        self.gone.iter().any(|gone| gone.contains(&hash))
    }

    /// The memory that they take, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.gone.iter().map(HashSet::capacity).sum::<usize>() * 10
    }
}
