//! The limits that the connections of all shards share.

use super::clients::Clients;
use super::descriptors::DescriptorShortage;
use super::upload_memory::UploadMemory;
use crate::metrics::Metrics;

/// The limits that the connections of all shards share. A cheap handle.
#[derive(Clone, Debug)]
pub struct GlobalLimits {
    /// Usage per client address.
    pub clients: Clients,
    /// Whether the process is short of file descriptors.
    pub shortage: DescriptorShortage,
    /// The budget for HTTP/2 windows beyond each connection's own.
    pub upload_memory: UploadMemory,
}

impl GlobalLimits {
    /// Returns the limits of a new process, with nothing in use.
    pub fn new(shortage: DescriptorShortage, metrics: Metrics) -> Self {
        Self { clients: Clients::default(), shortage, upload_memory: UploadMemory::new(metrics) }
    }
}
