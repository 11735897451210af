//! What resolving one file knows, and what every key needs: noting, requiring, parsing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use ssegate_strict_yaml::{At, Field, KeyLocation, Mistakes};

use super::listen_addresses::ListenAddresses;
use crate::config::purpose::ConfigPurpose;
use crate::route::ServerList;
use crate::source::FurtherServer;
use crate::source::fleet::FleetSettings;
use crate::source::redis::RedisLocation;

/// The state of resolving one file.
pub(super) struct Resolver<'a> {
    pub(super) mistakes: &'a Mistakes,
    pub(super) purpose: ConfigPurpose,
    pub(super) directory: &'a Path,
    /// The addresses to listen on.
    pub(super) addresses: ListenAddresses,
    /// Whether `trusted_proxies` is empty.
    pub(super) trusts_no_proxy: bool,
    /// Whether the messages of `redis.url` have one order.
    pub(super) order: SourceOrder,
    /// The servers beside that.
    pub(super) servers: ResolvedServers,
    /// The value of `limits.body`.
    pub(super) max_body: Option<u64>,
    /// The longest request header that every protocol accepts, in bytes.
    pub(super) max_header_bytes: usize,
    /// Where the file has secrets.
    pub(super) secrets: RefCell<Vec<KeyLocation>>,
}

/// What is known of the servers of a file before its routes are resolved.
#[derive(Debug, Default)]
pub(super) struct ResolvedServers {
    /// The orders of `redis.named`, by name.
    pub(super) named: BTreeMap<String, SourceOrder>,
    /// Whether channels are divided among `redis.shards`.
    pub(super) divides_names: bool,
}

/// Servers beside the first, and what all of them are called.
pub(super) type FurtherServers = (Vec<FurtherServer>, ServerList);

/// Whether all messages of the source have one order, by which gateways of a fleet know each other's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceOrder {
    /// It is one server, and the gateway is one of a fleet.
    Fleet,
    /// It is one server, and the gateway is on its own, or nothing is known of it.
    Unused,
    /// There are several orders: it is a Cluster.
    Cluster,
    /// It is the embedded bus.
    Bus,
}

impl SourceOrder {
    /// What is known of the order of messages at a server.
    pub(super) fn of(server: &RedisLocation, fleet: Option<&FleetSettings>) -> Self {
        match (server.is_cluster(), fleet) {
            (true, _) => Self::Cluster,
            (false, Some(_)) => Self::Fleet,
            (false, None) => Self::Unused,
        }
    }
}

impl Resolver<'_> {
    /// Notes a mistake.
    pub(super) fn note(&self, location: &KeyLocation, message: impl Into<String>) {
        self.mistakes.note(location, message);
    }

    /// Records that there is a secret here.
    pub(super) fn has_secret(&self, location: &KeyLocation) {
        self.secrets.borrow_mut().push(location.clone());
    }

    /// Returns the value of a required key. `what` says what to write where it is missing.
    pub(super) fn required<T>(
        &self,
        field: Field<T>,
        parent: &KeyLocation,
        key: &str,
        what: &str,
    ) -> Option<At<T>> {
        if field.is_absent() {
            self.note(&parent.child(key), format!("missing; {what}"));
        }
        field.written()
    }

    /// Parses a value with `read`, and notes its error.
    pub(super) fn parse<T>(
        &self,
        at: &At<String>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        read(&at.value).map_err(|message| self.note(&at.location, message)).ok()
    }

    /// Registers an address to listen on, and notes a mistake if it is in use already.
    pub(super) fn claim_address(&mut self, address: SocketAddr, location: &KeyLocation) {
        if let Err(message) = self.addresses.claim(address, &location.path) {
            self.note(location, message);
        }
    }
}
