//! What the process itself is subscribed to.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::broker::Broker;
use super::outlet::Outlet;
use super::subscriptions::SubscriberId;

/// The subscriptions of an attached [`Outlet`]. Dropping it detaches the outlet.
///
/// Not `Clone`: one owner changes the subscriptions.
pub struct OutletHandle {
    broker: Broker,
    id: SubscriberId,
}

impl Broker {
    /// Attaches `outlet`, without subscriptions.
    pub fn attach(&self, outlet: impl Outlet + 'static) -> OutletHandle {
        let id = self.add_outlet(Rc::new(RefCell::new(outlet)));
        OutletHandle { broker: self.clone(), id }
    }
}

impl OutletHandle {
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
