//! The operator's door: metrics, health, the status page.

use std::net::SocketAddr;

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where.
    pub address: SocketAddr,
    /// Names beside localhost and addresses that a `Host` header may have.
    pub hosts: Vec<String>,
}
