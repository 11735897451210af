//! Subscriptions by name. Pure: knows neither what a subscriber is nor what a message is.

use std::collections::HashMap;
use std::rc::Rc;

/// The key of a subscriber in the broker.
pub(super) type SubscriberId = usize;

/// Channels or patterns, and the subscribers of each in the order of subscription.
///
/// Clients choose the names, so the map uses the standard library's seeded hash, which resists hash
/// flooding.
#[derive(Debug, Default)]
pub(super) struct SubscriptionTable {
    names: HashMap<Rc<[u8]>, Vec<SubscriberId>>,
}

impl SubscriptionTable {
    /// Adds `id` to the subscribers of `name`. Returns the stored name, to be shared; `None` if
    /// `id` is subscribed already.
    pub(super) fn add(&mut self, name: &[u8], id: SubscriberId) -> Option<Rc<[u8]>> {
        if let Some((stored, ids)) = self.names.get_key_value(name) {
            if ids.contains(&id) {
                return None;
            }
            let stored = Rc::clone(stored);
            self.names.entry(Rc::clone(&stored)).or_default().push(id);
            return Some(stored);
        }
        let stored: Rc<[u8]> = name.into();
        self.names.insert(Rc::clone(&stored), vec![id]);
        Some(stored)
    }

    /// Removes `id` from the subscribers of `name`, and the name with its last subscriber.
    pub(super) fn remove(&mut self, name: &[u8], id: SubscriberId) {
        let Some(ids) = self.names.get_mut(name) else { return };
        ids.retain(|subscriber| *subscriber != id);
        if ids.is_empty() {
            self.names.remove(name);
            self.shrink();
        }
    }

    /// Frees the memory of many names that were removed.
    fn shrink(&mut self) {
        if self.names.capacity() > 64 && self.names.len() < self.names.capacity() / 8 {
            self.names.shrink_to_fit();
        }
    }

    pub(super) fn subscribers(&self, name: &[u8]) -> &[SubscriberId] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Rc<[u8]>, &[SubscriberId])> {
        self.names.iter().map(|(name, ids)| (name, ids.as_slice()))
    }

    /// Names with at least one subscriber.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::SubscriptionTable;

    #[test]
    fn a_name_exists_as_long_as_it_has_subscribers() {
        let mut table = SubscriptionTable::default();
        assert!(table.add(b"news", 1).is_some());
        assert!(table.add(b"news", 1).is_none());
        assert!(table.add(b"news", 2).is_some());
        assert_eq!(table.subscribers(b"news"), [1, 2]);
        table.remove(b"news", 1);
        table.remove(b"other", 1);
        assert_eq!(table.subscribers(b"news"), [2]);
        table.remove(b"news", 2);
        assert!(table.subscribers(b"news").is_empty());
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn removing_many_names_frees_their_memory() {
        let mut table = SubscriptionTable::default();
        for number in 0..10_000_u32 {
            table.add(&number.to_be_bytes(), 1);
        }
        for number in 0..10_000_u32 {
            table.remove(&number.to_be_bytes(), 1);
        }
        assert!(table.names.capacity() <= 64);
    }
}
