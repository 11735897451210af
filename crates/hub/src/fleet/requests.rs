//! What the hub requests of its source for the fleet.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Notify;

/// What the source is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetRequest {
    /// Publish this for all gateways.
    PublishForAll {
        /// JSON.
        body: Bytes,
        /// Of a question: names it in [`HubOrder::asked`](crate::HubOrder::asked).
        question: Option<u64>,
    },
    /// Publish this for one gateway.
    PublishForOne {
        /// Its run.
        run: String,
        /// JSON.
        body: Bytes,
    },
    /// Call [`HubOrder::pass_fence`](crate::HubOrder::pass_fence) with this ticket once everything has come that was
    /// published before now.
    Fence(u64),
}

/// Requests that the source has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct FleetRequests {
    waiting: RefCell<Vec<FleetRequest>>,
    changed: Rc<Notify>,
}

impl FleetRequests {
    /// Notifies `changed` of requests.
    pub(crate) fn waking(changed: Rc<Notify>) -> Self {
        Self { waiting: RefCell::default(), changed }
    }

    /// Takes the requests.
    pub(crate) fn take_now(&self) -> Vec<FleetRequest> {
        std::mem::take(&mut *self.waiting.borrow_mut())
    }

    pub(crate) fn put(&self, request: FleetRequest) {
        self.waiting.borrow_mut().push(request);
        self.changed.notify_one();
    }

    /// Waits until there are requests, and takes them. Cancel safe.
    pub(crate) async fn take(&self) -> Vec<FleetRequest> {
        loop {
            let waiting = self.take_now();
            if !waiting.is_empty() {
                return waiting;
            }
            self.changed.notified().await;
        }
    }

    /// The ticket of a fence among those that wait.
    pub(crate) fn waiting_fence(&self) -> Option<u64> {
        self.waiting.borrow().iter().find_map(|request| match request {
            FleetRequest::Fence(ticket) => Some(*ticket),
            _ => None,
        })
    }

    /// Drops all requests: the source is away.
    pub(crate) fn clear(&self) {
        self.waiting.borrow_mut().clear();
    }
}
