//! The memory that messages of all orders of a server take together, and what is dropped when it is too much.
//!
//! The largest holding is dropped first, in whichever order: a quiet channel loses nothing because of a busy one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use ssegate_hub::ChannelName;
use tokio::time::Instant;

use crate::log_limit::LogLimit;

/// When memory is full, at least this fraction is freed, so that not every message has to search.
const FREED_PART: usize = 16;

/// How much may be held. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct RecordMemory {
    most: usize,
    shared: Rc<MemoryShared>,
}

#[derive(Debug, Default)]
struct MemoryShared {
    held: Cell<usize>,
    holders: RefCell<BTreeMap<u64, Weak<RefCell<dyn MemoryHolder>>>>,
    next: Cell<u64>,
    log: LogLimit,
}

/// What holds messages.
pub(super) trait MemoryHolder: std::fmt::Debug {
    /// All that it holds.
    fn holdings(&self) -> Vec<RecordHolding>;

    /// Drops a holding. Returns how many messages will not be recorded because of it.
    fn let_go(&mut self, holding: &RecordHolding, now: Instant) -> usize;
}

/// What is held of one channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordHolding {
    /// In bytes.
    pub(super) bytes: usize,
    /// Whether it waits for delivery, and not to be recorded. Dropping it costs less: a gap for clients of this gateway
    /// only.
    pub(super) is_delivery: bool,
    /// Its channel.
    pub(super) channel: ChannelName,
}

/// The part of the memory that one order holds.
#[derive(Debug)]
pub(super) struct MemoryShare {
    all: RecordMemory,
    number: u64,
    own: usize,
}

impl RecordMemory {
    /// At most so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, shared: Rc::default() }
    }

    /// What all hold, in bytes.
    fn held(&self) -> usize {
        self.shared.held.get()
    }

    /// Whether all hold more than they may.
    pub(super) fn is_over(&self) -> bool {
        self.held() > self.most
    }

    /// Drops the largest holdings of `own` and of all others. `own` is passed in because it is already borrowed.
    pub(super) fn relieve(&self, own: &mut dyn MemoryHolder, now: Instant) {
        let others: Vec<_> =
            self.shared.holders.borrow().values().filter_map(Weak::upgrade).collect();
        let mut all: Vec<_> = own.holdings().into_iter().map(|holding| (holding, None)).collect();
        for other in &others {
            // That is `own`.
            let Ok(holder) = other.try_borrow() else { continue };
            all.extend(holder.holdings().into_iter().map(|holding| (holding, Some(other))));
        }
        all.sort_by(|(one, _), (other, _)| other.cmp(one));
        let enough = self.most - self.most / FREED_PART;
        let (mut dropped, mut channels, mut largest) = (0, 0, None);
        for (holding, of) in all {
            if self.held() <= enough {
                break;
            }
            let lost = match of.map(|other| other.try_borrow_mut()) {
                None => own.let_go(&holding, now),
                Some(Ok(mut other)) => other.let_go(&holding, now),
                Some(Err(_)) => 0,
            };
            if lost > 0 {
                dropped += lost;
                channels += 1;
                largest.get_or_insert(holding);
            }
        }
        if let Some(RecordHolding { channel, bytes, .. }) = largest
            && let Some(similar) = self.shared.log.pass("overflow", now)
        {
            tracing::warn!(
                channel = channel.in_redis(),
                bytes,
                channels,
                dropped,
                similar,
                "Redis records too slowly; what waits of the channels that hold the most will not be recorded"
            );
        }
    }
}

impl MemoryShare {
    pub(super) fn new(all: RecordMemory) -> Self {
        let number = all.shared.next.get();
        all.shared.next.set(number + 1);
        Self { all, number, own: 0 }
    }

    /// Lets `holder`, the owner of this share, be asked to drop something when others need room.
    pub(super) fn held_by(&self, holder: Weak<RefCell<dyn MemoryHolder>>) {
        self.all.shared.holders.borrow_mut().insert(self.number, holder);
    }

    /// Sets how many bytes it holds now.
    pub(super) fn set(&mut self, bytes: usize) {
        let held = &self.all.shared.held;
        held.set((held.get() + bytes).saturating_sub(self.own));
        self.own = bytes;
    }

    /// The memory of all orders.
    pub(super) fn all(&self) -> &RecordMemory {
        &self.all
    }

    /// What all hold, in bytes.
    pub(super) fn held_by_all(&self) -> usize {
        self.all.held()
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.set(0);
        self.all.shared.holders.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::{Rc, Weak};

    use ssegate_hub::ChannelName;
    use tokio::time::Instant;

    use super::{MemoryHolder, MemoryShare, RecordHolding, RecordMemory};

    /// Holds one thing of each channel.
    #[derive(Debug)]
    struct Shelf {
        share: MemoryShare,
        holdings: Vec<RecordHolding>,
    }

    impl Shelf {
        fn new(all: &RecordMemory) -> Rc<RefCell<Self>> {
            let (share, holdings) = (MemoryShare::new(all.clone()), Vec::new());
            let shelf = Rc::new(RefCell::new(Self { share, holdings }));
            let holder: Weak<RefCell<Self>> = Rc::downgrade(&shelf);
            shelf.borrow().share.held_by(holder);
            shelf
        }

        fn hold(&mut self, channel: &str, bytes: usize, is_delivery: bool) {
            let channel = ChannelName::new(channel).expect("a name");
            self.holdings.push(RecordHolding { bytes, is_delivery, channel });
            self.note();
            let all = self.share.all().clone();
            if all.is_over() {
                all.relieve(self, Instant::now());
            }
        }

        fn note(&mut self) {
            self.share.set(self.holdings.iter().map(|holding| holding.bytes).sum());
        }

        fn channels(&self) -> Vec<&str> {
            self.holdings.iter().map(|holding| holding.channel.as_str()).collect()
        }
    }

    impl MemoryHolder for Shelf {
        fn holdings(&self) -> Vec<RecordHolding> {
            self.holdings.clone()
        }

        fn let_go(&mut self, holding: &RecordHolding, _now: Instant) -> usize {
            let before = self.holdings.len();
            self.holdings.retain(|held| held != holding);
            self.note();
            before - self.holdings.len()
        }
    }

    #[test]
    fn one_bound_holds_for_all_together() {
        let all = RecordMemory::new(100);
        let [mut one, mut two] = [(); 2].map(|()| MemoryShare::new(all.clone()));
        one.set(60);
        two.set(40);
        assert!(!all.is_over() && two.held_by_all() == 100);
        two.set(41);
        assert!(all.is_over());
        one.set(10);
        assert_eq!((one.held_by_all(), all.is_over()), (51, false));
        drop(two);
        assert_eq!(one.held_by_all(), 10);
    }

    #[test]
    fn the_largest_goes_first_wherever_it_is() {
        let all = RecordMemory::new(1600);
        let (one, two) = (Shelf::new(&all), Shelf::new(&all));
        one.borrow_mut().hold("busy", 900, false);
        one.borrow_mut().hold("calm", 300, false);
        two.borrow_mut().hold("quiet", 300, false);
        // This was the last to come, and is small.
        two.borrow_mut().hold("late", 101, false);
        assert_eq!(
            (one.borrow().channels(), two.borrow().channels()),
            (vec!["calm"], vec!["quiet", "late"])
        );
        // Of two equal holdings, the cheaper loss comes first.
        one.borrow_mut().hold("delivered", 799, true);
        two.borrow_mut().hold("recorded", 799, false);
        assert_eq!(one.borrow().channels(), ["calm"]);
        assert_eq!(two.borrow().channels(), ["quiet", "late", "recorded"]);
        // A dropped holder is not asked any more.
        drop(one);
        assert_eq!((all.held(), all.shared.holders.borrow().len()), (300 + 101 + 799, 1));
    }

    #[test]
    fn where_all_is_small_a_little_more_goes_than_is_needed() {
        let all = RecordMemory::new(1600);
        let shelf = Shelf::new(&all);
        for number in 0..17 {
            shelf.borrow_mut().hold(&number.to_string(), 100, false);
        }
        assert_eq!(shelf.borrow().channels().len(), 15);
    }
}
