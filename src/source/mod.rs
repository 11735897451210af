//! Sources of events: Redis pub/sub and Redis Streams, or the embedded bus.
//!
//! A source is a task that runs as long as the gateway, on the thread of the hub. It does not fail: it
//! reconnects for ever, and reports its state to [`health`](crate::health). It is one of two kinds:
//!
//! - **Messages** (pub/sub), which the server forgets once they are sent. The source takes what to follow from
//!   [`Hub::source_requests`] and calls [`Hub::confirm`] once it is subscribed. It hands each message to the
//!   intake, which numbers it and recognizes its copies, and flushes the intake whenever it has no more
//!   messages ready. When its connection is lost it calls [`Hub::lose`], subscribes again to
//!   [`Hub::followed`], then calls [`Hub::restored`]: streams get a gap, since messages may be missing. It
//!   calls [`Hub::deny`] for a subscription that the server refuses. The smallest such source is the embedded
//!   bus. The source of sharded channels has several connections, and names the channels that are affected
//!   with [`Hub::lose_channels`] and [`Hub::restored_channels`].
//! - **Logs**, which the server keeps, each entry with an id in ascending order. The source takes what to
//!   follow from [`Hub::source_requests`], too. It calls [`Hub::begin_log`] with the id from which it reads,
//!   [`Hub::publish_entry`] for each entry, [`Hub::log_gap`] where entries are gone, and [`Hub::flush`]
//!   whenever it has no more entries ready. [`Hub::log_reads`] are ranges of older entries that streams need;
//!   the source reads them again and returns them with [`Hub::finish_log_read`]. After its connection was lost
//!   it continues behind the last entry, and calls [`Hub::repeat_log_reads`]; nothing is missing. Redis
//!   Streams are such a source, in a Redis or on the embedded bus.
//!
//! Clients can resume at any gateway of a fleet if the source keeps one order of messages over all channels,
//! and publishes into it. Such a source calls [`HubOrder::begin`], carries out [`Hub::fleet_requests`], and
//! hands what gateways publish for each other to [`HubOrder::receive_for_all`] and [`HubOrder::receive_for_one`].
//!
//! Messages can also be **recorded**: gateways append them to a log themselves, besides delivering them.
//! [`recorded`] channels have a connection of their own.
//!
//! Besides the events there are the [control channel](control), on which gateways publish revocations for each
//! other, and [presence].
//!
//! [`Hub::source_requests`]: ssegate_hub::Hub::source_requests
//! [`Hub::confirm`]: ssegate_hub::Hub::confirm
//! [`Hub::lose`]: ssegate_hub::Hub::lose
//! [`Hub::followed`]: ssegate_hub::Hub::followed
//! [`Hub::restored`]: ssegate_hub::Hub::restored
//! [`Hub::begin_log`]: ssegate_hub::Hub::begin_log
//! [`Hub::publish_entry`]: ssegate_hub::Hub::publish_entry
//! [`Hub::log_gap`]: ssegate_hub::Hub::log_gap
//! [`Hub::log_reads`]: ssegate_hub::Hub::log_reads
//! [`Hub::finish_log_read`]: ssegate_hub::Hub::finish_log_read
//! [`HubOrder::begin`]: ssegate_hub::HubOrder::begin
//! [`Hub::fleet_requests`]: ssegate_hub::Hub::fleet_requests
//! [`HubOrder::receive_for_all`]: ssegate_hub::HubOrder::receive_for_all
//! [`HubOrder::receive_for_one`]: ssegate_hub::HubOrder::receive_for_one
//! [`Hub::deny`]: ssegate_hub::Hub::deny
//! [`Hub::lose_channels`]: ssegate_hub::Hub::lose_channels
//! [`Hub::restored_channels`]: ssegate_hub::Hub::restored_channels
//! [`Hub::flush`]: ssegate_hub::Hub::flush
//! [`Hub::repeat_log_reads`]: ssegate_hub::Hub::repeat_log_reads

pub(crate) mod alike;
pub(crate) mod bus_feed;
pub mod control;
pub mod fleet;
pub(crate) mod intake;
pub mod kept;
pub mod presence;
pub mod publishing;
pub mod recorded;
pub mod redis;

use std::net::SocketAddr;
use std::sync::Arc;

use self::fleet::FleetSettings;
use self::recorded::RecordedSettings;
use self::redis::{RedisLocation, RedisServer};
use crate::route::ServerList;

/// The settings of the source.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Where messages come from: the first server, if there are several.
    pub location: SourceLocation,
    /// The other servers.
    pub further: Vec<FurtherServer>,
    /// The names of all servers, and how channels are divided among them.
    pub servers: ServerList,
    /// The longest message, in bytes. A longer one is discarded while it is read, and reported to
    /// its subscribers as a gap.
    pub max_event_bytes: usize,
    /// Bytes that the connections of the embedded bus may hold together.
    pub max_bus_memory: usize,
    /// Bytes that all streams on the embedded bus may hold together.
    pub max_bus_streams: usize,
    /// The settings of the fleet, if several gateways use the same Redis; `None`: this gateway is on its own.
    pub fleet: Option<FleetSettings>,
    /// The same, for sharded channels: each node of a Cluster has an order of its own, and one server has one of them.
    pub node_fleet: Option<FleetSettings>,
    /// The settings of recorded channels.
    pub recorded: RecordedSettings,
}

/// A server beside the first one.
#[derive(Clone, Debug)]
pub struct FurtherServer {
    /// Where it is.
    pub location: RedisLocation,
    /// As [`SourceSettings::fleet`]: each server has an order of its own.
    pub fleet: Option<FleetSettings>,
    /// As [`SourceSettings::node_fleet`].
    pub node_fleet: Option<FleetSettings>,
}

impl SourceSettings {
    /// For each server, whether gateways can resume each other's ids of sharded channels there.
    pub fn has_node_orders(&self) -> Vec<bool> {
        let further = self.further.iter().map(|further| &further.node_fleet);
        [&self.node_fleet].into_iter().chain(further).map(Option::is_some).collect()
    }

    /// The servers that are a Redis, each with its index among all servers. If there are several, each shows
    /// its name.
    pub fn redis_servers(&self) -> Vec<(usize, RedisServer)> {
        let first = match &self.location {
            SourceLocation::Redis(location) => Some((0, location)),
            SourceLocation::Embedded(_) => None,
        };
        let further = self.further.iter().map(|further| &further.location);
        let all = first.into_iter().chain((1..).zip(further));
        let named = |(index, location): (usize, &RedisLocation)| {
            let server = RedisServer::new(location.clone());
            match self.servers.names().get(index).filter(|_| !self.further.is_empty()) {
                Some(name) => (index, server.named(Arc::clone(name), self.servers.key(index))),
                None => (index, server),
            }
        };
        all.map(named).collect()
    }

    /// Whether the other servers are the same, under the same names.
    pub fn has_same_servers(&self, other: &Self) -> bool {
        let pairs = self.further.iter().zip(&other.further);
        self.servers == other.servers && self.further.len() == other.further.len() && { pairs }
            .all(|(own, other)| own.location.is_same(&other.location))
    }
}

/// Where messages come from.
#[derive(Clone)]
pub enum SourceLocation {
    /// `embedded://host:port`: a bus inside this process, which listens on this address.
    Embedded(SocketAddr),
    /// `redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://` or `rediss+sentinel://`.
    Redis(RedisLocation),
}

impl SourceLocation {
    /// Whether `other` is the same server and database, with the same user and password.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Embedded(address), Self::Embedded(other)) => address == other,
            (Self::Redis(location), Self::Redis(other)) => location.is_same(other),
            (Self::Embedded(_), Self::Redis(_)) | (Self::Redis(_), Self::Embedded(_)) => false,
        }
    }
}

impl std::fmt::Debug for SourceLocation {
    /// Omits user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(address) => write!(f, "embedded://{address}"),
            Self::Redis(location) => write!(f, "{location}"),
        }
    }
}
