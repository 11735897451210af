//! Who is subscribed to what. Pure: knows neither what a subscriber is nor what a message is.

use std::collections::HashMap;
use std::rc::Rc;

/// A subscriber's place in the broker.
pub(super) type SubscriberId = usize;

/// Names, channels or patterns, and the subscribers of each in the order in which they came.
///
/// The names are chosen by clients, so the map's hash is the standard library's: seeded, and not
/// to be steered into collisions.
#[derive(Debug, Default)]
pub(super) struct Roster {
    names: HashMap<Rc<[u8]>, Vec<SubscriberId>>,
}

impl Roster {
    /// Enters `id` under `name`. Gives back the name as it is kept, to be shared; `None` if `id`
    /// was there already.
    pub(super) fn enter(&mut self, name: &[u8], id: SubscriberId) -> Option<Rc<[u8]>> {
        if let Some((kept, ids)) = self.names.get_key_value(name) {
            if ids.contains(&id) {
                return None;
            }
            let kept = Rc::clone(kept);
            self.names.entry(Rc::clone(&kept)).or_default().push(id);
            return Some(kept);
        }
        let kept: Rc<[u8]> = name.into();
        self.names.insert(Rc::clone(&kept), vec![id]);
        Some(kept)
    }

    /// Takes `id` off `name`, and the name with its last subscriber.
    pub(super) fn leave(&mut self, name: &[u8], id: SubscriberId) {
        let Some(ids) = self.names.get_mut(name) else { return };
        ids.retain(|entered| *entered != id);
        if ids.is_empty() {
            self.names.remove(name);
            self.give_back_memory();
        }
    }

    /// A crowd of names that has gone leaves no empty table behind.
    fn give_back_memory(&mut self) {
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
    use super::Roster;

    #[test]
    fn a_name_lives_as_long_as_it_has_subscribers() {
        let mut roster = Roster::default();
        assert!(roster.enter(b"news", 1).is_some());
        assert!(roster.enter(b"news", 1).is_none());
        assert!(roster.enter(b"news", 2).is_some());
        assert_eq!(roster.subscribers(b"news"), [1, 2]);
        roster.leave(b"news", 1);
        roster.leave(b"other", 1);
        assert_eq!(roster.subscribers(b"news"), [2]);
        roster.leave(b"news", 2);
        assert!(roster.subscribers(b"news").is_empty());
        assert_eq!(roster.len(), 0);
    }

    #[test]
    fn a_crowd_that_has_gone_leaves_no_memory_behind() {
        let mut roster = Roster::default();
        for number in 0..10_000_u32 {
            roster.enter(&number.to_be_bytes(), 1);
        }
        for number in 0..10_000_u32 {
            roster.leave(&number.to_be_bytes(), 1);
        }
        assert!(roster.names.capacity() <= 64);
    }
}
