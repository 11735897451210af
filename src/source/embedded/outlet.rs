//! Subscriptions of the process itself: the publisher calls them directly, without a socket.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::broker::Broker;
use super::subscriptions::SubscriberId;
use crate::source::Payload;

/// A subscriber inside this process.
///
/// Its methods run before the publisher gets its reply, so they must return quickly. They may
/// change subscriptions. Messages that they publish are not delivered to the same outlet.
pub trait Outlet {
    /// Receives a message: once for the channel if it is subscribed to, then once for each pattern
    /// that matches, as in Redis. The slices and the payload belong to a read buffer: copy what is
    /// kept.
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload);

    /// Passes on the messages received since the last call: no more are ready.
    fn flush(&mut self) {}
}

/// An outlet, called without a borrow of the broker, and never while it is already running.
pub(super) type SharedOutlet = Rc<RefCell<dyn Outlet>>;

/// The subscriptions of an attached [`Outlet`]. Dropping it detaches the outlet.
///
/// Not `Clone`: one owner changes the subscriptions.
pub struct OutletHandle {
    broker: Broker,
    id: SubscriberId,
}

impl OutletHandle {
    pub(super) fn new(broker: Broker, id: SubscriberId) -> Self {
        Self { broker, id }
    }

    /// Subscribes to `channel`.
    pub fn subscribe(&self, channel: &[u8]) {
        self.broker.subscribe_unlimited(self.id, channel, false);
    }

    /// Subscribes to all channels that match `pattern`.
    pub fn psubscribe(&self, pattern: &[u8]) {
        self.broker.subscribe_unlimited(self.id, pattern, true);
    }

    /// Unsubscribes from `channel`.
    pub fn unsubscribe(&self, channel: &[u8]) {
        self.broker.unsubscribe(self.id, channel, false);
    }

    /// Unsubscribes from `pattern`.
    pub fn punsubscribe(&self, pattern: &[u8]) {
        self.broker.unsubscribe(self.id, pattern, true);
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
