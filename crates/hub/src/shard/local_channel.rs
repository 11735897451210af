//! The subscribers of one channel on one core, in one piece of memory.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::EntryId;
use crate::Topic;
use crate::fleet::name::{EventName, FleetPosition, SubscriptionTag};
use crate::fleet::order_id::OrderId;
use crate::mailbox::Mailbox;
use crate::position::cursor::LogEntry;
use crate::subject::ChannelIndex;
use crate::timed_streams::StreamKey;

/// A channel that has subscribers on this core.
pub(super) struct LocalChannel {
    pub(super) topic: Topic,
    // The ticket of the request to join the channel.
    pub(super) ticket: u64,
    pub(super) index: Cell<Option<ChannelIndex>>,
    pub(super) is_confirmed: Cell<bool>,
    // Nothing more comes.
    pub(super) is_ended: Cell<bool>,
    // The number of its last confirmation, and its newest message since then.
    pub(super) confirmed: Cell<u64>,
    // The order in which its messages come.
    pub(super) order: Cell<OrderId>,
    pub(super) newest: Cell<(u64, EventName)>,
    pub(super) tag: SubscriptionTag,
    // In a log, the newest entry that was delivered here.
    pub(super) newest_entry: Cell<EntryId>,
    // In place where there is one: many channels have no more.
    pub(super) subscribers: RefCell<SmallVec<[LocalSubscriber; 1]>>,
}

/// A subscriber of a channel.
pub(super) struct LocalSubscriber {
    pub(super) stream: Rc<OpenStream>,
    // Which of the stream's channels this is. Small: there is one of these for every stream.
    pub(super) slot: u32,
    // The channel has not been confirmed since the stream was opened. The mailbox counts such channels. A
    // loss of the source does not set it again.
    pub(super) is_unconfirmed: Cell<bool>,
    // The stream was subscribed when the source was lost. Or it resumes, and its client may have been
    // subscribed then.
    pub(super) was_cut_off: Cell<bool>,
}

impl LocalSubscriber {
    /// Which of the stream's channels this is.
    pub(super) fn slot(&self) -> usize {
        self.slot as usize
    }

    /// An entry of this channel, as the stream numbers its channels.
    pub(super) fn log_entry(&self, entry: Option<EntryId>) -> Option<LogEntry> {
        entry.map(|id| LogEntry { log: self.slot(), id })
    }
}

/// A stream on its shard: what is to be written to it, and its channels.
// The mailbox first: an event needs nothing else.
#[repr(C)]
pub(crate) struct OpenStream {
    pub(crate) mailbox: Mailbox,
    // In place where there is one, as a rule. Filled while the stream is opened.
    pub(super) channels: RefCell<SmallVec<[Rc<LocalChannel>; 1]>>,
    // The tag by which the owner of the shard knows it.
    pub(super) tag: u64,
}

impl LocalChannel {
    pub(super) fn new(topic: Topic, ticket: u64) -> Self {
        Self {
            tag: SubscriptionTag::of(&topic.subscription),
            confirmed: Cell::new(0),
            order: Cell::new(OrderId::NONE),
            newest: Cell::default(),
            topic,
            ticket,
            index: Cell::new(None),
            is_confirmed: Cell::new(false),
            is_ended: Cell::new(false),
            newest_entry: Cell::new(EntryId::ZERO),
            subscribers: RefCell::default(),
        }
    }

    /// Removes the subscriber at `place`, to which the last one moves; returns whether none is left.
    pub(super) fn remove(&self, place: usize) -> bool {
        let mut subscribers = self.subscribers.borrow_mut();
        subscribers.swap_remove(place);
        if let Some(moved) = subscribers.get(place) {
            moved.stream.mailbox.set_place(moved.slot(), place);
        }
        // Frees the memory of many that have left.
        let left = subscribers.len();
        if left < subscribers.capacity() / 4 {
            subscribers.shrink_to_fit();
        }
        left == 0
    }

    pub(super) fn is_log(&self) -> bool {
        self.topic.ids.is_log()
    }

    /// The source has lost the channel: each stream that was subscribed is sent a gap before it goes on.
    pub(super) fn lose(&self) {
        self.is_confirmed.set(false);
        for subscriber in &*self.subscribers.borrow() {
            let was_subscribed = !subscriber.is_unconfirmed.get();
            subscriber.was_cut_off.set(subscriber.was_cut_off.get() || was_subscribed);
        }
    }

    /// Its newest entry; `None` if it is not a log.
    pub(super) fn entry(&self) -> Option<EntryId> {
        self.is_log().then(|| self.newest_entry.get())
    }

    /// The place behind one of its messages; `None` where it has no name.
    pub(super) fn place(&self, name: EventName) -> Option<FleetPosition> {
        name.known().map(|name| FleetPosition { tag: self.tag, name })
    }

    /// Its name at the source.
    pub(super) fn name(&self) -> &str {
        self.topic.subscription.name.as_str()
    }
}

impl OpenStream {
    /// Its name on its shard; `None` before it is open there.
    pub(crate) fn key(&self) -> Option<StreamKey> {
        self.mailbox.key()
    }

    /// The topics of its channels.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        self.channels.borrow().iter().map(|channel| channel.topic.clone()).collect()
    }

    /// The topic of its first channel; `None` once it is closed.
    pub(crate) fn first_topic(&self) -> Option<Topic> {
        self.channels.borrow().first().map(|channel| channel.topic.clone())
    }

    pub(crate) fn channel_count(&self) -> usize {
        self.channels.borrow().len()
    }
}

impl fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channels = self.channels.borrow();
        f.debug_list().entries(channels.iter().map(|channel| channel.name())).finish()
    }
}
