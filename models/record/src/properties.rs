//! What must hold in every state.

use ssegate_record::{LogItem, RecordId};
use stateright::Property;

use crate::world::{Bounds, RecordModel, Sent, World};

pub(crate) fn all(bounds: Bounds) -> Vec<Property<RecordModel>> {
    let mut all = vec![
        Property::always("the log has no message twice, and all in order", |_, world: &World| {
            world.is_in_order()
        }),
        Property::always("nothing is missing in the log without a gap", |_, world: &World| {
            world.has_no_silent_loss()
        }),
        Property::always("what a living gateway has named is not lost", |_, world: &World| {
            world.may_lose_named() || world.slot.moved().is_some() || world.is_complete()
        }),
        // What the old node has sent last may be behind a gap that the first at the new one has appended.
        Property::always("what a living gateway has named at the new node is not lost", |_, world: &World| {
            world.may_lose_named() || world.slot.moved().is_none() || world.is_complete()
        }),
        Property::sometimes("all messages are in the log", |model: &RecordModel, world: &World| {
            world.messages().count() == usize::from(model.bounds.messages)
        }),
    ];
    if bounds.is_moving {
        all.push(Property::sometimes("a message of the new node is in the log", |_, world: &World| {
            let moved = world.slot.moved();
            moved.is_some() && world.messages().any(|message| world.place(message) >= moved)
        }));
    }
    all
}

impl World {
    pub(crate) fn messages(&self) -> impl Iterator<Item = u8> {
        self.log.entries.iter().filter_map(|(_, message)| *message)
    }

    /// Where a message was sent.
    pub(crate) fn place(&self, message: u8) -> Option<usize> {
        self.sent.iter().position(|sent| *sent == Sent::Message(message))
    }

    /// Where the message with this id, or the mark, was sent.
    fn place_of(&self, id: RecordId) -> Option<usize> {
        let is_mark = |sent: &Sent| *sent == Sent::Mark(id.mark);
        let mark = self.sent.iter().position(is_mark)?;
        let Some(k) = usize::try_from(id.k).ok()?.checked_sub(1) else { return Some(mark) };
        let messages = self.sent.iter().enumerate().skip(mark);
        let mut messages = messages.filter(|(_, sent)| matches!(sent, Sent::Message(_)));
        messages.nth(k).map(|(place, _)| place)
    }

    fn is_in_order(&self) -> bool {
        let ids = self.log.entries.iter().map(|(id, _)| *id);
        let places = self.messages().map(|message| self.place(message));
        let is_named = |(id, message): &(RecordId, Option<u8>)| {
            message.is_none_or(|message| self.place(message) == self.place_of(*id))
        };
        ids.is_sorted_by(|one, other| one < other)
            && places.is_sorted_by(|one, other| one < other)
            && self.log.entries.iter().all(is_named)
    }

    /// Between two entries, and behind the newest up to the top of the log, nothing was sent, unless there is a gap.
    fn has_no_silent_loss(&self) -> bool {
        let mut before = None;
        for (id, message) in &self.log.entries {
            let here = self.place_of(*id);
            if message.is_some() && self.is_any_between(before, here) {
                return false;
            }
            before = here;
        }
        before.is_none() || !self.is_any_between(before, self.place_of(self.log.top).max(before))
    }

    fn is_any_between(&self, before: Option<usize>, here: Option<usize>) -> bool {
        let from = before.map_or(0, |before| before + 1);
        let until = here.unwrap_or(from);
        from < until && self.sent[from..until].iter().any(|sent| matches!(sent, Sent::Message(_)))
    }

    /// Whether a message that was named may be missing in the log: behind a gap.
    pub(crate) fn may_lose_named(&self) -> bool {
        self.spent.hurries + self.spent.overflows > 0 || self.spent.has_lost()
    }

    /// What is named is what the log does not have.
    fn is_complete(&self) -> bool {
        self.gateways.iter().filter(|gateway| gateway.is_alive).all(|gateway| {
            let items = gateway.recorder.items().filter_map(|(_, item)| match item {
                LogItem::Message(message) => Some(*message),
                LogItem::Seal => None,
            });
            let waiting: Vec<u8> = items.collect();
            gateway.named.iter().all(|named| waiting.contains(named))
        })
    }
}
