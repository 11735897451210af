//! The orders in which messages come: that of the pub/sub connection, and those of nodes that have sharded channels.

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::fleet::member::Fleet;
use crate::fleet::order_id::OrderId;
use crate::inbox::message::Message;
use crate::requests::shard_request::StreamAddress;
use crate::subject::ChannelIndex;

impl HubState {
    /// What is known of an order; `None` once it has ended.
    #[inline]
    pub(super) fn fleet_of(&self, order: OrderId) -> Option<&Fleet> {
        if order == OrderId::PLAIN { Some(&self.fleet) } else { self.nodes.get(order) }
    }

    #[inline]
    pub(super) fn fleet_mut(&mut self, order: OrderId) -> Option<&mut Fleet> {
        if order == OrderId::PLAIN { Some(&mut self.fleet) } else { self.nodes.get_mut(order) }
    }

    /// All orders.
    pub(super) fn orders(&self) -> Vec<OrderId> {
        [OrderId::PLAIN].into_iter().chain(self.nodes.ids()).collect()
    }

    /// Something has come in this order after the newest message: no further copy of that follows. Only the
    /// pub/sub connection has copies.
    pub(super) fn end_message_of(&mut self, order: OrderId) {
        if order == OrderId::PLAIN {
            self.end_message();
        }
    }

    /// When something is to be done next for any of them.
    pub(super) fn next_fleet_due(&self) -> Option<Instant> {
        self.fleet.next_due().into_iter().chain(self.nodes.next_due()).min()
    }

    /// A stream has left; its client's position may still be looked for.
    pub(super) fn cancel_locating(&mut self, stream: StreamAddress) {
        self.fleet.cancel(stream);
        self.nodes.all_mut().for_each(|fleet| fleet.cancel(stream));
    }

    /// The connection to a node is open: its messages are an order of their own.
    pub(super) fn begin_order(&mut self) -> OrderId {
        self.nodes.begin(&self.fleet)
    }

    /// The connection is lost, and its order with it. Its channels were lost before.
    pub(super) fn end_order(&mut self, order: OrderId) {
        self.end_fleet(order);
        self.nodes.end(order);
        self.senders.send_to_all(&Message::OrderEnded(order));
    }

    /// The order in which all of these channels come; `None` if they come in several.
    pub(super) fn order_of(&self, channels: &[ChannelIndex]) -> Option<OrderId> {
        let mut orders = channels.iter().map(|index| self.channels[*index as usize].order);
        let first = orders.next()?;
        orders.all(|order| order == first).then_some(first)
    }
}
