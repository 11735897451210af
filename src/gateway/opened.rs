//! Logs the addresses that are open.

use std::net::SocketAddr;

use super::OPENED;
use crate::server::listener::Listener;

/// Logs each address that the gateway listens on, and that it has started.
pub(super) fn log(
    listeners: &[Listener],
    (admin, bus): (Option<SocketAddr>, Option<SocketAddr>),
    shards: usize,
) {
    for listener in listeners {
        let (kind, address) = (listener.scheme(), listener.address);
        tracing::info!(target: OPENED, kind, %address, "listening");
    }
    for (kind, address) in [("admin", admin), ("bus", bus)] {
        if let Some(address) = address {
            tracing::info!(target: OPENED, kind, %address, "listening");
        }
    }
    tracing::info!(target: OPENED, version = env!("SSEGATE_VERSION"), shards, "started");
}
