//! The ids that a backend gives its events.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

/// About what an id takes, beside its bytes.
const ID_COST: usize = 96;
/// So many ids are known to be gone, and up to twice as many. A backend that gives the same id again after more than
/// these takes back what it said.
const MAX_GONE: usize = 800;

/// The ids that a backend has set, each with the number of the event behind which a client is that has it.
#[derive(Debug, Default)]
pub(super) struct BackendIds {
    numbers: HashMap<Box<[u8]>, u64>,
    in_order: VecDeque<(u64, Box<[u8]>)>,
    bytes: usize,
    // Hashes of those that are not there any more: an id that comes again does not tell where its client is. The
    // newest, and those before them: at least the last `MAX_GONE`.
    gone: [HashSet<u64>; 2],
    // Any that is not there may have been.
    is_any_gone: bool,
    hasher: RandomState,
}

impl BackendIds {
    /// The client that has this id is behind the event with this number. Where an id comes again, its client may
    /// be behind the first: it gets what follows that.
    pub(super) fn insert(&mut self, id: Box<[u8]>, number: u64) {
        if self.numbers.contains_key(&id) || (!self.is_any_gone && self.is_gone(&id)) {
            return;
        }
        self.bytes += 2 * id.len() + ID_COST;
        self.in_order.push_back((number, id.clone()));
        self.numbers.insert(id, number);
    }

    /// The number of the event behind which a client with this id is.
    pub(super) fn number(&self, id: &[u8]) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    /// What follows the events before this one is not there any more.
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

    /// Those that clients behind these events have, in order.
    pub(super) fn between(&self, first: u64, last: u64) -> Vec<(u64, Box<[u8]>)> {
        let from = self.in_order.partition_point(|(number, _)| *number < first);
        let ids = self.in_order.range(from..).take_while(|(number, _)| *number <= last);
        ids.cloned().collect()
    }

    /// Any id that is not there may have been.
    pub(super) fn forget_unknown(&mut self) {
        self.is_any_gone = true;
    }

    /// Whether this id was there once.
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
