//! The calls of a source whose gateway is one of a fleet.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::Hub;
use crate::fleet::order_id::OrderId;
use crate::fleet::requests::FleetRequest;

/// The hub, for the source that receives one order of messages. A cheap handle.
#[derive(Clone)]
pub struct HubOrder {
    hub: Hub,
    order: OrderId,
}

impl HubOrder {
    /// The source is subscribed to what gateways publish for all, before everything else on its
    /// connection. Until the first call there is no fleet, and a client of another gateway is sent a gap.
    /// `asks`: whether the gateway has just started, and asks the others what they follow.
    pub fn begin(&self, asks: bool) {
        self.hub.state.borrow_mut().begin_fleet(self.order, asks, Instant::now());
    }

    /// A message has come that was published for all gateways, perhaps by this one. Returns false if it is
    /// not one that a gateway writes.
    pub fn receive_for_all(&self, body: &[u8]) -> bool {
        self.hub.state.borrow_mut().receive_for_all(self.order, body, Instant::now())
    }

    /// A message has come that was published for this gateway. Returns false if it is not one that a gateway
    /// writes.
    pub fn receive_for_one(&self, body: &[u8]) -> bool {
        self.hub.state.borrow_mut().receive_for_one(self.order, body)
    }

    /// The server has sent a question to this many subscribers (the reply of `PUBLISH`).
    pub fn asked(&self, question: u64, subscribers: usize) {
        self.hub.state.borrow_mut().note_asked(self.order, question, subscribers);
        self.hub.fleet_timers.notify_one();
    }

    /// A question could not be published: no gateway will answer it.
    pub fn not_asked(&self, question: u64) {
        self.hub.state.borrow_mut().note_not_asked(self.order, question);
        self.hub.fleet_timers.notify_one();
    }

    /// The source cannot follow the fleet, or not any more. Until [`HubOrder::begin`] is called again, a
    /// client of another gateway is sent a gap.
    pub fn end(&self) {
        self.hub.state.borrow_mut().end_fleet(self.order);
        self.hub.flush();
    }

    /// Everything that was published before [`FleetRequest::Fence`] was taken has come.
    pub fn pass_fence(&self, ticket: u64) {
        self.hub.state.borrow_mut().pass_fence(self.order, ticket);
    }
}

impl fmt::Debug for HubOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HubOrder").field(&self.order).finish()
    }
}

impl Hub {
    /// The hub, for the source that receives this order.
    #[must_use]
    pub fn in_order(&self, order: OrderId) -> HubOrder {
        HubOrder { hub: self.clone(), order }
    }

    /// Takes what the source of [`OrderId::PLAIN`] is to do for the fleet; waits until there is something.
    /// Cancel safe.
    pub async fn fleet_requests(&self) -> Vec<FleetRequest> {
        self.fleet_requests.take().await
    }

    /// This gateway drains. It follows its channels and answers questions until it exits. It publishes what
    /// it follows, so that the others can ask how far these channels have come before its clients come to
    /// them.
    pub fn leave_fleet(&self) {
        self.state.borrow_mut().leave_fleet();
    }

    /// Waits until the others have had time to ask this gateway, which drains, for what only it knows: less
    /// than a second, and not at all if there are no others.
    pub async fn farewell(&self) {
        const LOOK: Duration = Duration::from_millis(10);
        while self.state.borrow().farewell_ends().is_some_and(|end| Instant::now() < end) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The run of this hub: other gateways publish for it under this name.
    pub fn run_text(&self) -> String {
        self.state.borrow().run.to_string()
    }

    /// Whether it follows what its fleet follows, as far as the others have reported it: clients may come.
    pub fn is_warm(&self) -> bool {
        self.state.borrow().fleet.warm_up.is_over()
    }

    /// The same for the sharded channels, at all nodes to which there is a connection.
    pub fn are_nodes_warm(&self) -> bool {
        self.state.borrow().nodes.are_warm()
    }
}
