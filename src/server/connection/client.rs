//! What a connection knows of its client: its address, and whether it is a trusted proxy.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use crate::server::clients::{ClientLimits, Clients, ConnectionGuard, ExceededLimit};
use crate::server::settings::ConnectionSettings;

/// The client of one connection.
#[derive(Debug)]
pub(super) struct ConnectionClient {
    /// The other end of the TCP connection.
    pub(super) peer: SocketAddr,
    /// Whether it connected over TLS.
    pub(super) is_tls: bool,
    // The peer's address, or the one that the PROXY header names.
    address: Cell<IpAddr>,
    address_text: OnceCell<Box<str>>,
    is_trusted_proxy: Cell<bool>,
    // Counts the connection against its client's limits, if there are any.
    guard: RefCell<Option<ConnectionGuard>>,
}

impl ConnectionClient {
    pub(super) fn new(peer: SocketAddr, is_tls: bool) -> Self {
        Self {
            peer,
            is_tls,
            address: Cell::new(peer.ip().to_canonical()),
            address_text: OnceCell::new(),
            is_trusted_proxy: Cell::new(false),
            guard: RefCell::default(),
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address.get()
    }

    /// The address as text. Cached, so only for use after [`set_address`](Self::set_address).
    pub(super) fn address_text(&self) -> &str {
        self.address_text.get_or_init(|| self.address().to_string().into())
    }

    /// Sets the address that the PROXY header names.
    pub(super) fn set_address(&self, client: SocketAddr) {
        self.address.set(client.ip().to_canonical());
    }

    pub(super) fn is_trusted_proxy(&self) -> bool {
        self.is_trusted_proxy.get()
    }

    /// Checks whether the address is that of a trusted proxy.
    pub(super) fn update_trust(&self, settings: &ConnectionSettings) {
        self.is_trusted_proxy.set(settings.trusts(self.address()));
    }

    /// Counts the connection against the limits of its client.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub(super) fn admit(
        &self,
        clients: &Clients,
        limits: &ClientLimits,
        now: Instant,
    ) -> Result<(), ExceededLimit> {
        // A proxy's connection carries many clients; only its requests tell which.
        if !self.is_trusted_proxy() {
            *self.guard.borrow_mut() = clients.admit_connection(self.address(), limits, now)?;
        }
        Ok(())
    }
}
