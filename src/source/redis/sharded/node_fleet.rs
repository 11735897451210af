//! The fleet at one node of a Cluster, or at the one server, for as long as its connection.

use ssegate_hub::FleetRequest;
use tokio::task::AbortHandle;

use super::super::fleet::FleetMember;

/// The fleet at one node. Its publisher ends with it.
#[derive(Debug)]
pub(super) struct NodeFleet {
    pub(super) member: FleetMember,
    publisher: AbortHandle,
}

impl NodeFleet {
    pub(super) fn new(member: FleetMember, publisher: AbortHandle) -> Self {
        Self { member, publisher }
    }

    /// Does what the hub requests. Returns the ticket of a fence, which the connection itself has to pass.
    pub(super) fn serve(&self, request: FleetRequest) -> Option<u64> {
        self.member.serve(request)
    }
}

impl Drop for NodeFleet {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}
