//! The Redis that the gateway uses, as its connections share it.

use std::fmt;
use std::sync::Arc;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use super::cluster::{Cluster, Redirect, slot_of};
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::location::{RedisAddress, RedisLocation, ShownAddress};
use super::sentinel::{MAX_REPLY_BYTES, NamedMaster, Sentinels};
use super::socket::RedisTls;

/// A Redis: its address, and the login of the gateway. A cheap handle.
#[derive(Clone)]
pub struct RedisServer {
    location: Arc<RedisLocation>,
    // The name of the server, and the configuration key of its URL, if there are several servers.
    name: Option<(Arc<str>, Arc<str>)>,
    tls: RedisTls,
    way: ServerWay,
}

/// How the address is found.
#[derive(Clone)]
enum ServerWay {
    Fixed(ConnectionAddr),
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// The address that a connection has to lead to.
pub(super) enum FoundServer {
    /// This address.
    Fixed(ConnectionAddr),
    /// The first of these servers that proves to be a master: one or more.
    Named(Sentinels, Vec<NamedMaster>),
    /// The first of these nodes that sees its Cluster: one or more.
    Nodes(Cluster, Vec<ConnectionAddr>),
}

impl RedisServer {
    /// Creates the handle. Does not connect.
    pub fn new(location: RedisLocation) -> Self {
        let (tls, way) = match location.address() {
            RedisAddress::Server(address) => {
                (RedisTls::new(address), ServerWay::Fixed(address.clone()))
            }
            RedisAddress::Sentinels(address) => {
                let tls = RedisTls::new(&address.sentinels()[0]);
                (tls.clone(), ServerWay::Sentinels(Sentinels::new(address.clone(), tls)))
            }
            RedisAddress::Cluster(address) => {
                let tls = RedisTls::new(&address.nodes()[0]);
                (tls, ServerWay::Cluster(Cluster::new(address.clone())))
            }
        };
        Self { location: Arc::new(location), name: None, tls, way }
    }

    /// Sets the name under which it is shown. `key` is the key of its URL in gateway.yaml.
    #[must_use]
    pub fn named(self, name: Arc<str>, key: String) -> Self {
        Self { name: Some((name, key.into())), ..self }
    }

    /// The address of a node of the Cluster for an operator; of the server itself without a node.
    pub(super) fn shown(&self, node: Option<&ConnectionAddr>) -> String {
        node.map_or_else(|| self.to_string(), |node| ShownAddress(node).to_string())
    }

    /// Describes an error to an operator. Error texts say `redis.url`; this puts in the key that has the URL of this
    /// server.
    pub(super) fn explain(&self, error: &SourceError) -> String {
        let text = error.to_string();
        match &self.name {
            Some((_, key)) => text.replace("redis.url", key),
            None => text,
        }
    }

    /// User, password and database.
    pub(super) fn login(&self) -> &RedisConnectionInfo {
        self.location.login()
    }

    /// The TLS configuration for it.
    pub(super) fn tls(&self) -> &RedisTls {
        &self.tls
    }

    /// The sentinels that name its address, if it has any.
    pub(crate) fn sentinels(&self) -> Option<&Sentinels> {
        match &self.way {
            ServerWay::Fixed(_) | ServerWay::Cluster(_) => None,
            ServerWay::Sentinels(sentinels) => Some(sentinels),
        }
    }

    /// Its nodes, if it is a Cluster.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        match &self.way {
            ServerWay::Fixed(_) | ServerWay::Sentinels(_) => None,
            ServerWay::Cluster(cluster) => Some(cluster),
        }
    }

    /// Its current address and the login of the gateway, for a client library. If sentinels name it, it has proved to
    /// be a master. In a Cluster it is the owner of the slot of `sharded`, if that is given.
    ///
    /// # Errors
    /// No sentinel leads to a master, or no node of a Cluster can be reached.
    pub async fn connection_info(&self, sharded: Option<&str>) -> Result<ConnectionInfo, String> {
        let address = match &self.way {
            ServerWay::Fixed(address) => address.clone(),
            ServerWay::Sentinels(sentinels) => {
                let opening = RedisConnection::open(self, MAX_REPLY_BYTES, ConnectionKind::Command);
                drop(opening.await.map_err(|error| error.to_string())?);
                sentinels.master().ok_or("the master was not found")?
            }
            ServerWay::Cluster(cluster) => {
                let opening = RedisConnection::open(self, MAX_REPLY_BYTES, ConnectionKind::Command);
                let connection = opening.await.map_err(|error| error.to_string())?;
                let slot = sharded.map(|channel| slot_of(channel.as_bytes()));
                let owner = slot.and_then(|slot| cluster.owner(slot));
                owner.or(connection.server).ok_or("no node was found")?
            }
        };
        let info = address.into_connection_info().map_err(|error| error.to_string())?;
        Ok(info.set_redis_settings(self.login().clone()))
    }

    /// The node of a Cluster at `asked` has said that a slot is at `address` (`MOVED`). Returns whether a command goes there now:
    /// not where this is known as one server, and not where the node does not know the address.
    pub fn moved(&self, slot: u16, address: &str, asked: &ConnectionAddr) -> bool {
        let message = format!("MOVED {slot} {address}");
        let Some(cluster) = self.cluster() else { return false };
        match Redirect::of(message.as_bytes(), asked) {
            Some(Redirect::Moved(slot, owner)) => {
                cluster.moved(slot, &owner);
                true
            }
            _ => false,
        }
    }

    /// Where it is now.
    ///
    /// # Errors
    /// No sentinel names it.
    pub(super) async fn find(&self) -> Result<FoundServer, SourceError> {
        Ok(match &self.way {
            ServerWay::Fixed(address) => FoundServer::Fixed(address.clone()),
            ServerWay::Sentinels(sentinels) => {
                FoundServer::Named(sentinels.clone(), sentinels.find_masters().await?)
            }
            ServerWay::Cluster(cluster) => {
                FoundServer::Nodes(cluster.clone(), cluster.candidates())
            }
        })
    }
}

/// The name, if it has one, and the address, for people. With sentinels also the current address of the master, and in
/// a Cluster the node that the gateway listens through.
impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = &self.name {
            write!(f, "{name}, ")?;
        }
        if let Some(master) = self.sentinels().and_then(Sentinels::master) {
            write!(f, "{}, ", ShownAddress(&master))?;
        }
        if let Some(node) = self.cluster().and_then(Cluster::current) {
            write!(f, "{}, ", ShownAddress(&node))?;
        }
        self.location.fmt(f)
    }
}

impl fmt::Debug for RedisServer {
    /// Omits users and passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisServer({self})")
    }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo as _;

    use super::{RedisServer, SourceError};
    use crate::source::redis::location::RedisLocation;

    #[test]
    fn an_error_names_the_key_of_the_server_that_has_it() {
        let info = "redis://orders.internal:6379".into_connection_info().expect("a URL");
        let server = RedisServer::new(RedisLocation::server(&info));
        let error = SourceError::Refused("WRONGPASS invalid username-password pair".to_owned());
        assert!(server.explain(&error).ends_with("check the user and the password in redis.url"));
        let named = server.named("orders".into(), "redis.named.orders".to_owned());
        assert!(named.explain(&error).ends_with("the password in redis.named.orders"));
        assert_eq!(named.to_string(), "orders, orders.internal:6379");
    }
}
