//! Makes one of worlds that go on alike, so that each is explored once.
//!
//! It makes no difference which gateway is which, in which order requests were sent that are on their way, and what was named
//! that the log has: what is in it stays there, unless Redis loses it, and then it may be missing.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::world::{Travelling, World};

impl World {
    /// Chooses one of all that go on like this one.
    pub(crate) fn unify(&mut self) {
        self.forget_named();
        self.sort_gateways();
        self.travelling.sort_by_cached_key(|travelling| hash(travelling));
    }

    fn forget_named(&mut self) {
        let (may_lose, in_log): (bool, Vec<u8>) = (self.may_lose_named(), self.messages().collect());
        let by_new: Vec<u8> = (1..=self.spent.messages)
            .filter(|message| self.place(*message) >= self.slot.moved())
            .collect();
        for gateway in &mut self.gateways {
            gateway.named.retain(|named| {
                !may_lose && !in_log.contains(named) && by_new.contains(named)
            });
        }
    }

    fn sort_gateways(&mut self) {
        let mut order: Vec<u8> = (0..).take(self.gateways.len()).collect();
        order.sort_by_cached_key(|number| {
            let own = |travelling: &&Travelling| travelling.by == Some(*number);
            let requests: Vec<_> =
                self.travelling.iter().filter(own).map(|travelling| &travelling.request).collect();
            hash(&(&self.gateways[usize::from(*number)], requests))
        });
        self.gateways =
            order.iter().map(|number| self.gateways[usize::from(*number)].clone()).collect();
        for travelling in &mut self.travelling {
            travelling.by = travelling.by.and_then(|by| {
                let place = order.iter().position(|number| *number == by)?;
                u8::try_from(place).ok()
            });
        }
    }
}

/// The same in each run.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
