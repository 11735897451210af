//! The orders of messages that a hub receives, each with a fleet of its own.
//!
//! A server sends everything that is published there in one order. The order of the pub/sub connection is
//! [`OrderId::PLAIN`]. Sharded channels are at several nodes of a Cluster, each with an order: it begins and
//! ends with a connection to the node.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::member::Fleet;
use super::order_id::OrderId;
use super::requests::{FleetRequest, FleetRequests};
use super::warm_up::WarmUp;

/// The orders of nodes.
#[derive(Default)]
pub(crate) struct NodeOrders {
    fleets: BTreeMap<OrderId, Fleet>,
    newest: u32,
    // Notified when any of them has a request for the source.
    changed: Rc<Notify>,
}

impl NodeOrders {
    /// Begins an order. It wakes the hub by the same timer as `plain`.
    pub(crate) fn begin(&mut self, plain: &Fleet) -> OrderId {
        self.newest += 1;
        let id = OrderId::new(self.newest);
        let requests = FleetRequests::waking(Rc::clone(&self.changed));
        let fleet = Fleet {
            requests: Rc::new(requests),
            timers: Rc::clone(&plain.timers),
            // A channel that is lost takes another confirmation, which comes together with its gap.
            named_after: Some(0),
            ..Fleet::default()
        };
        self.fleets.insert(id, fleet);
        id
    }

    /// An order has ended.
    pub(crate) fn end(&mut self, order: OrderId) {
        self.fleets.remove(&order);
    }

    pub(crate) fn get(&self, order: OrderId) -> Option<&Fleet> {
        self.fleets.get(&order)
    }

    pub(crate) fn get_mut(&mut self, order: OrderId) -> Option<&mut Fleet> {
        self.fleets.get_mut(&order)
    }

    pub(crate) fn ids(&self) -> Vec<OrderId> {
        self.fleets.keys().copied().collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Fleet> {
        self.fleets.values()
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Fleet> {
        self.fleets.values_mut()
    }

    /// When the next action is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.all().filter_map(Fleet::next_due).min()
    }

    /// Whether this gateway follows what the others follow, at all nodes.
    pub(crate) fn are_warm(&self) -> bool {
        self.all().map(|fleet| &fleet.warm_up).all(WarmUp::is_over)
    }

    /// What wakes the source.
    pub(crate) fn changed(&self) -> Rc<Notify> {
        Rc::clone(&self.changed)
    }

    /// Takes what the source is to do, with the node at which it is to do it.
    pub(crate) fn take_requests(&self) -> Vec<(OrderId, FleetRequest)> {
        let of = |(order, fleet): (&OrderId, &Fleet)| {
            fleet.requests.take_now().into_iter().map(|request| (*order, request)).collect()
        };
        let requests: Vec<Vec<_>> = self.fleets.iter().map(of).collect();
        requests.into_iter().flatten().collect()
    }
}
