//! The limits of every request, and the client that they count against.

use std::net::IpAddr;

use http::Request;
use ipnet::IpNet;

use super::client;
use crate::server::clients::ClientLimits;
use crate::server::connection::ConnectionState;

/// The limits of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSettings {
    /// The maximum length of path and query, in bytes; a longer one gets 414.
    pub max_uri_bytes: usize,
    /// The limits of each client address.
    pub per_client: ClientLimits,
    /// Proxies whose `X-Forwarded-For` and `Forwarded` are trusted.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            max_uri_bytes: 8 << 10,
            per_client: ClientLimits::default(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl RequestSettings {
    /// The address of the client that sent this request, behind trusted proxies.
    pub(super) fn client_of<B>(
        &self,
        request: &Request<B>,
        connection: &ConnectionState,
    ) -> IpAddr {
        if connection.is_trusted_proxy() {
            return client::forwarded_client(
                connection.client(),
                request.headers(),
                &self.trusted_proxies,
            );
        }
        connection.client()
    }
}
