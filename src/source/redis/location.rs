//! Where Redis is, and the login of the gateway: the content of `redis.url`.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo};

/// One Redis: a server, the master that sentinels name, or a Cluster.
#[derive(Clone)]
pub struct RedisLocation {
    address: RedisAddress,
    login: RedisConnectionInfo,
}

/// How the address of the server is known.
#[derive(Clone, Debug)]
pub enum RedisAddress {
    /// The address is configured.
    Server(ConnectionAddr),
    /// Sentinels name it.
    Sentinels(SentinelAddress),
    /// It is the address of any node of a Cluster.
    Cluster(ClusterAddress),
}

/// Nodes of a Redis Cluster, which know all others
/// (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterAddress {
    nodes: Vec<ConnectionAddr>,
}

/// A set of sentinels, and the master that they watch
/// (<https://redis.io/docs/latest/develop/reference/sentinel-clients/>).
#[derive(Clone)]
pub struct SentinelAddress {
    sentinels: Vec<ConnectionAddr>,
    master: String,
    login: RedisConnectionInfo,
}

impl SentinelAddress {
    /// The sentinels (TCP, or TLS where the master has TLS, too), the name of the master as in `sentinel monitor
    /// NAME …`, and the user and password of the sentinels themselves. `None` without any sentinel.
    pub fn new(
        sentinels: Vec<ConnectionAddr>,
        master: String,
        login: RedisConnectionInfo,
    ) -> Option<Self> {
        (!sentinels.is_empty()).then_some(Self { sentinels, master, login })
    }

    /// All sentinels: one or more.
    pub fn sentinels(&self) -> &[ConnectionAddr] {
        &self.sentinels
    }

    /// The name of the master.
    pub fn master(&self) -> &str {
        &self.master
    }

    /// User and password of the sentinels.
    pub fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }
}

impl ClusterAddress {
    /// Nodes to begin with (TCP, or TLS where all have it). `None` without any.
    pub fn new(nodes: Vec<ConnectionAddr>) -> Option<Self> {
        (!nodes.is_empty()).then_some(Self { nodes })
    }

    /// The nodes to begin with: one or more.
    pub fn nodes(&self) -> &[ConnectionAddr] {
        &self.nodes
    }
}

impl RedisLocation {
    /// A server at an address that does not change.
    pub fn server(info: &ConnectionInfo) -> Self {
        let address = RedisAddress::Server(info.addr().clone());
        Self { address, login: info.redis_settings().clone() }
    }

    /// The master that sentinels name; `login` is for the master.
    pub fn master(address: SentinelAddress, login: RedisConnectionInfo) -> Self {
        Self { address: RedisAddress::Sentinels(address), login }
    }

    /// Any node of a Cluster; `login` is for all of them.
    pub fn cluster(address: ClusterAddress, login: RedisConnectionInfo) -> Self {
        Self { address: RedisAddress::Cluster(address), login }
    }

    /// Whether it is a Cluster, where a key is at one node, and a message reaches all nodes.
    pub fn is_cluster(&self) -> bool {
        matches!(self.address, RedisAddress::Cluster(_))
    }

    /// How the address is known.
    pub fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// User, password and database.
    pub fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    /// Whether a password is needed anywhere.
    pub fn has_password(&self) -> bool {
        let of_sentinels = match &self.address {
            RedisAddress::Server(_) | RedisAddress::Cluster(_) => None,
            RedisAddress::Sentinels(address) => address.login.password(),
        };
        self.login.password().or(of_sentinels).is_some()
    }

    /// Whether `other` is the same, with the same users and passwords.
    pub fn is_same(&self, other: &Self) -> bool {
        is_same_login(&self.login, &other.login)
            && match (&self.address, &other.address) {
                (RedisAddress::Server(own), RedisAddress::Server(other)) => own == other,
                (RedisAddress::Cluster(own), RedisAddress::Cluster(other)) => own == other,
                (RedisAddress::Sentinels(own), RedisAddress::Sentinels(other)) => {
                    own.sentinels == other.sentinels
                        && own.master == other.master
                        && is_same_login(&own.login, &other.login)
                }
                _ => false,
            }
    }
}

fn is_same_login(own: &RedisConnectionInfo, other: &RedisConnectionInfo) -> bool {
    own.db() == other.db()
        && own.username() == other.username()
        && own.password() == other.password()
}

impl fmt::Debug for SentinelAddress {
    /// Omits user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentinelAddress({self})")
    }
}

/// An address for people: an IPv6 one is in brackets.
pub(super) struct ShownAddress<'a>(pub(super) &'a ConnectionAddr);

impl fmt::Display for ShownAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
                if host.contains(':') && !host.starts_with('[') =>
            {
                write!(f, "[{host}]:{port}")
            }
            address => address.fmt(f),
        }
    }
}

/// For people: no user, no password.
impl fmt::Display for SentinelAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (sentinels", self.master)?;
        let mut separator = " ";
        for sentinel in &self.sentinels {
            write!(f, "{separator}{}", ShownAddress(sentinel))?;
            separator = ", ";
        }
        f.write_str(")")
    }
}

/// For people: no user, no password.
impl fmt::Display for RedisLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            RedisAddress::Server(address) => ShownAddress(address).fmt(f),
            RedisAddress::Sentinels(address) => address.fmt(f),
            RedisAddress::Cluster(address) => address.fmt(f),
        }
    }
}

/// For people.
impl fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cluster (nodes")?;
        let mut separator = " ";
        for node in &self.nodes {
            write!(f, "{separator}{}", ShownAddress(node))?;
            separator = ", ";
        }
        f.write_str(")")
    }
}

impl fmt::Debug for RedisLocation {
    /// Omits users and passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisLocation({self})")
    }
}
