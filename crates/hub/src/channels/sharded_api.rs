//! The calls of a source of sharded channels, each of which can be lost by itself.

use super::Hub;
use crate::ChannelName;
use crate::fleet::order_id::OrderId;
use crate::fleet::requests::FleetRequest;

impl Hub {
    /// A connection to a node is open. What comes from there is in this order, until the connection is lost.
    pub fn begin_order(&self) -> OrderId {
        self.state.borrow_mut().begin_order()
    }

    /// The connection is lost. [`Hub::lose_channels`] was called for its channels before.
    pub fn end_order(&self, order: OrderId) {
        self.state.borrow_mut().end_order(order);
        self.flush();
    }

    /// The source is subscribed to a sharded channel, at the node of this order.
    pub fn confirm_at(&self, order: OrderId, name: &ChannelName) {
        self.state.borrow_mut().confirm_at(order, name.as_str());
    }

    /// As [`Hub::begin_message`], for a message in this order. It is dropped if its channel was confirmed in
    /// another order: the gap before that confirmation covers it.
    pub fn begin_message_at(&self, order: OrderId, channel: &[u8], payload: Option<&[u8]>) {
        self.state.borrow_mut().begin_message(order, channel, payload);
    }

    /// Takes what the source is to do for the fleet at nodes; waits until there is something. Cancel safe.
    pub async fn node_requests(&self) -> Vec<(OrderId, FleetRequest)> {
        let changed = self.state.borrow().nodes.changed();
        loop {
            let requests = self.state.borrow().nodes.take_requests();
            if !requests.is_empty() {
                return requests;
            }
            changed.notified().await;
        }
    }

    /// Every sharded channel that is followed.
    pub fn followed_sharded(&self) -> Vec<ChannelName> {
        let state = self.state.borrow();
        let names = state.names.plain.keys().filter(|name| name.as_sharded().is_some());
        names.cloned().collect()
    }

    /// The source is not subscribed to these channels any more; others stay.
    pub fn lose_channels<'n>(&self, names: impl IntoIterator<Item = &'n ChannelName>) {
        self.state.borrow_mut().lose_channels(names);
        self.flush();
    }

    /// These channels were lost and are confirmed again: sends one gap for all of them.
    pub fn restored_channels<'n>(&self, names: impl IntoIterator<Item = &'n ChannelName>) {
        self.state.borrow_mut().restored_channels(names);
    }
}
