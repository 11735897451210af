//! The listeners of one channel on one core, in one piece of memory.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::event::{EntryId, Ids, Topic};
use crate::hub::inbox::ChannelIndex;
use crate::hub::subscriber::Mailbox;
use crate::hub::timers::StreamKey;

/// A channel that somebody on this core listens to.
pub(super) struct LocalChannel {
    pub(super) topic: Topic,
    pub(super) ticket: u64,
    pub(super) index: Cell<Option<ChannelIndex>>,
    pub(super) is_confirmed: Cell<bool>,
    // Of a log: the newest entry that was dealt here.
    pub(super) newest: Cell<EntryId>,
    // One of them has its place here: many channels have no more.
    pub(super) listeners: RefCell<SmallVec<[LocalSubscriber; 1]>>,
}

pub(super) struct LocalSubscriber {
    pub(super) mailbox: Rc<Mailbox>,
    // Which of the mailbox's channels this is. Small, as there is one of these for every stream.
    pub(super) slot: u32,
    // Counted in `Mailbox::unconfirmed`.
    pub(super) is_unconfirmed: Cell<bool>,
    // It was listening, or had listened before it came back, when the source was lost.
    pub(super) was_cut_off: Cell<bool>,
}

impl LocalSubscriber {
    /// Which of the mailbox's channels this is.
    pub(super) fn slot(&self) -> usize {
        self.slot as usize
    }
}

/// The places that a subscriber holds on its shard.
pub(in crate::hub) struct Membership {
    pub(super) key: StreamKey,
    // In place, as a rule there is one.
    pub(super) channels: SmallVec<[Rc<LocalChannel>; 1]>,
}

impl LocalChannel {
    /// Takes a listener from its place, into which the last one moves; answers whether none is left.
    pub(super) fn remove(&self, place: usize) -> bool {
        let mut listeners = self.listeners.borrow_mut();
        listeners.swap_remove(place);
        if let Some(moved) = listeners.get(place) {
            moved.mailbox.places.borrow_mut()[moved.slot()] = place;
        }
        // A crowd that has gone leaves no memory behind.
        let left = listeners.len();
        if left < listeners.capacity() / 4 {
            listeners.shrink_to_fit();
        }
        left == 0
    }

    /// Whether its source keeps its entries.
    pub(super) fn is_log(&self) -> bool {
        self.topic.ids == Ids::Entries
    }

    pub(super) fn name(&self) -> &str {
        self.topic.subscription.name.as_str()
    }
}

impl Membership {
    /// The names of the channels, as the source knows them.
    pub(in crate::hub) fn names(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| channel.name())
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
