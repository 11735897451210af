//! How the gateway itself listens to the bus: without a socket, in the turn of the publisher.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::broker::Broker;
use super::roster::SubscriberId;
use crate::event::Payload;

/// A listener inside this process.
///
/// Its methods run before the publisher gets its reply, so they only hand over. They may change
/// subscriptions, but what they publish themselves is not heard by them.
pub trait Outlet {
    /// A message was published: once for the channel if it is subscribed to, and then once for each
    /// pattern that matches, as in Redis. The slices and the payload are those of a read buffer:
    /// what is kept is copied.
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload);

    /// No more messages are at hand: what was heard since the last call can be passed on.
    fn flush(&mut self) {}
}

/// Outlets are called while others may hold the broker, but never while one of theirs runs.
pub(super) type SharedOutlet = Rc<RefCell<dyn Outlet>>;

/// What an attached [`Outlet`] listens to. When it is dropped, the outlet hears no more.
///
/// Not `Clone`: the one who attached is the one who follows and leaves.
pub struct OutletHandle {
    broker: Broker,
    id: SubscriberId,
}

impl OutletHandle {
    pub(super) fn new(broker: Broker, id: SubscriberId) -> Self {
        Self { broker, id }
    }

    /// Hears what is published to `channel` from now on.
    pub fn subscribe(&self, channel: &[u8]) {
        self.broker.follow(self.id, channel, false);
    }

    /// Hears what is published to any channel that matches `pattern` from now on.
    pub fn psubscribe(&self, pattern: &[u8]) {
        self.broker.follow(self.id, pattern, true);
    }

    /// Leaves `channel`.
    pub fn unsubscribe(&self, channel: &[u8]) {
        self.broker.leave(self.id, channel, false);
    }

    /// Leaves `pattern`.
    pub fn punsubscribe(&self, pattern: &[u8]) {
        self.broker.leave(self.id, pattern, true);
    }
}

impl Drop for OutletHandle {
    fn drop(&mut self) {
        self.broker.detach(self.id);
    }
}

impl fmt::Debug for OutletHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutletHandle").field("id", &self.id).finish_non_exhaustive()
    }
}
