//! Opens connections to Redis: the handshake, and the protocol version that it selects.
//!
//! `HELLO 3` selects RESP3. Where it is not available (Redis before 6, a renamed command, some
//! proxies), the connection uses RESP2, in which push messages and maps are arrays.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::{ConnectionAddr, RedisConnectionInfo};
use ssegate_resp::{RespVersion, Value};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::{SourceError, SourceErrorKind};
use super::location::ShownAddress;
use super::sentinel::{NamedMaster, Sentinels};
use super::server::{FoundServer, RedisServer};
use super::socket::{CONNECT_TIMEOUT, RedisIo, RedisTls};

/// Whether the fallback to RESP2 was logged: once per process, because each connection falls back.
static IS_FALLBACK_LOGGED: AtomicBool = AtomicBool::new(false);

impl RedisConnection {
    /// Finds the server, connects and performs the handshake, within [`CONNECT_TIMEOUT`]. Of servers that sentinels
    /// name, and of the nodes of a Cluster, each has that time.
    pub(super) async fn open(
        server: &RedisServer,
        max_event_bytes: usize,
        kind: ConnectionKind,
    ) -> Result<Self, SourceError> {
        let opening = async {
            match server.find().await? {
                FoundServer::Fixed(address) => {
                    Self::open_server(server, &address, (max_event_bytes, kind), None).await
                }
                FoundServer::Named(sentinels, masters) => {
                    Self::open_master(server, &sentinels, masters, (max_event_bytes, kind)).await
                }
                FoundServer::Nodes(cluster, nodes) => {
                    Self::open_node(server, &cluster, nodes, (max_event_bytes, kind)).await
                }
            }
        };
        // Boxed: the addresses of sentinels, a connection to each, and TLS would take too much of each task's stack.
        Box::pin(opening).await
    }

    /// Opens a connection to the first of these servers that proves to be a master.
    async fn open_master(
        server: &RedisServer,
        sentinels: &Sentinels,
        masters: Vec<NamedMaster>,
        kind: (usize, ConnectionKind),
    ) -> Result<Self, SourceError> {
        let mut failures: Vec<(NamedMaster, SourceError)> = Vec::new();
        let mut opened = None;
        for master in masters {
            let named = Some((sentinels, &master));
            match Self::open_server(server, &master.address, kind, named).await {
                Ok(connection) => {
                    opened = Some(connection);
                    break;
                }
                Err(error) => failures.push((master, error)),
            }
        }
        let unusable = |(master, error): &(NamedMaster, SourceError)| {
            (master.address.clone(), error.to_string())
        };
        sentinels.status().set_unusable(failures.iter().map(unusable).collect());
        if let Some(connection) = opened {
            return Ok(connection);
        }
        // The error of the server that most sentinels name, or that the newest configuration names.
        let (master, error) = failures.swap_remove(0);
        sentinels.cannot_use(&master);
        Err(error.at_server(&master.address))
    }

    /// Opens a connection to the first of these nodes that sees its Cluster. If none does, opens one to the first node
    /// that can be reached: messages are passed on even while the owner of some keys is away.
    async fn open_node(
        server: &RedisServer,
        cluster: &Cluster,
        nodes: Vec<ConnectionAddr>,
        kind: (usize, ConnectionKind),
    ) -> Result<Self, SourceError> {
        let (mut opened, mut failure) = (None, None);
        for node in nodes {
            let deadline = Instant::now() + CONNECT_TIMEOUT;
            let opening = async {
                let mut connection = Self::open_server(server, &node, kind, None).await?;
                let view = connection.view_cluster(&node).await?;
                Ok((connection, view))
            };
            let timed_out = SourceError::Timeout(CONNECT_TIMEOUT.as_secs());
            match tokio::time::timeout_at(deadline, opening).await.unwrap_or(Err(timed_out)) {
                Ok((connection, view)) => {
                    let is_ok = view.is_ok;
                    cluster.learn(view);
                    if is_ok {
                        opened = Some((connection, node));
                        break;
                    }
                    opened = opened.or(Some((connection, node)));
                }
                Err(error) => failure = failure.or_else(|| Some(error.at_server(&node))),
            }
        }
        match (opened, failure) {
            (Some((mut connection, node)), _) => {
                if kind.1 == ConnectionKind::PubSub {
                    cluster.listens_through(&node);
                }
                connection.server = Some(node);
                Ok(connection)
            }
            (None, Some(error)) => Err(error),
            (None, None) => Err(SourceError::NoAddress),
        }
    }

    /// Opens a connection for commands to another node than the one that the gateway listens through. `None`: there is
    /// no other, or none can be reached.
    pub(super) async fn open_elsewhere(
        server: &RedisServer,
        max_event_bytes: usize,
    ) -> Option<Self> {
        for node in server.cluster()?.others() {
            let kind = (max_event_bytes, ConnectionKind::Command);
            if let Ok(connection) = Self::open_at_node(server, node, kind).await {
                return Some(connection);
            }
        }
        None
    }

    /// Opens a connection to this node of a Cluster.
    pub(super) async fn open_at_node(
        server: &RedisServer,
        node: ConnectionAddr,
        kind: (usize, ConnectionKind),
    ) -> Result<Self, SourceError> {
        let opened = Self::open_server(server, &node, kind, None).await;
        let mut connection = opened.map_err(|error| error.at_server(&node))?;
        connection.server = Some(node);
        Ok(connection)
    }

    /// Connects to this server, and performs the handshake. If sentinels name the server, checks that it is a master,
    /// and leaves it when the master has moved.
    async fn open_server(
        server: &RedisServer,
        address: &ConnectionAddr,
        kind: (usize, ConnectionKind),
        named: Option<(&Sentinels, &NamedMaster)>,
    ) -> Result<Self, SourceError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let opening = async {
            let at = (address, server.tls());
            let mut connection = Self::open_at(at, server.login(), kind, deadline).await?;
            if connection.is_sentinel == Some(true) {
                return Err(SourceError::IsSentinel);
            }
            connection.select_database(server.login()).await?;
            if let Some((sentinels, master)) = named {
                connection.check_is_master(address).await?;
                connection.moved = Some(sentinels.found(master.clone())?);
                connection.server = Some(address.clone());
            }
            Ok(connection)
        };
        let timed_out = SourceError::Timeout(CONNECT_TIMEOUT.as_secs());
        tokio::time::timeout_at(deadline, opening).await.unwrap_or(Err(timed_out))
    }

    /// Connects to this address by `deadline`, and performs the handshake. The caller limits the time of the handshake.
    pub(super) async fn open_at(
        at: (&ConnectionAddr, &RedisTls),
        login: &RedisConnectionInfo,
        (max_event_bytes, kind): (usize, ConnectionKind),
        deadline: Instant,
    ) -> Result<Self, SourceError> {
        let mut connection = Self::connect(at, max_event_bytes, kind, deadline).await?;
        match connection.handshake((at.0, login), kind).await {
            Ok(()) => {}
            // Some proxies close the connection on an unknown command.
            Err(why @ (SourceError::Closed | SourceError::ConnectionLost(_))) => {
                connection = Self::connect(at, max_event_bytes, kind, deadline).await?;
                let handshake = connection.handshake_resp2((at.0, login), kind, &why).await;
                handshake.map_err(|error| without_reply(error, at.0))?;
            }
            Err(error) => return Err(error),
        }
        Ok(connection)
    }

    /// Selects the database of the login, on a connection for which that matters.
    async fn select_database(&mut self, login: &RedisConnectionInfo) -> Result<(), SourceError> {
        let database = login.db();
        if self.kind == ConnectionKind::Command && database != 0 {
            self.request("SELECT", [database.to_string().as_str()].into_iter()).await?;
        }
        Ok(())
    }

    /// Makes sure that the server is a master (<https://redis.io/docs/latest/commands/role/>).
    pub(super) async fn check_is_master(
        &mut self,
        address: &ConnectionAddr,
    ) -> Result<(), SourceError> {
        match self.request("ROLE", [].into_iter()).await {
            Ok(Value::Array(parts)) => {
                let role = parts.first().and_then(Value::as_bytes);
                match role.is_some_and(|role| role == "master") {
                    true => Ok(()),
                    false => Err(SourceError::NotMaster(ShownAddress(address).to_string())),
                }
            }
            Ok(other) => Err(SourceError::Unexpected(format!("{other:?}"))),
            // Without permission for `ROLE`, the sentinels are trusted.
            Err(SourceError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Performs the handshake with the embedded bus over `stream`.
    pub(super) async fn open_own(
        stream: Box<dyn RedisIo>,
        max_event_bytes: usize,
        kind: ConnectionKind,
    ) -> Result<Self, SourceError> {
        let mut connection = Self::over(stream, max_event_bytes, kind);
        connection.hello(&["3", "SETNAME", "ssegate"]).await?;
        Ok(connection)
    }

    /// Sends `HELLO 3` with user, password and client name
    /// (<https://redis.io/docs/latest/commands/hello/>). Falls back to RESP2 if Redis does not
    /// support `HELLO`.
    async fn handshake(
        &mut self,
        (address, login): (&ConnectionAddr, &RedisConnectionInfo),
        kind: ConnectionKind,
    ) -> Result<(), SourceError> {
        let mut arguments = vec!["3"];
        if let Some(password) = login.password() {
            arguments.extend(["AUTH", login.username().unwrap_or("default"), password]);
        }
        arguments.extend(["SETNAME", "ssegate"]);
        match self.hello(&arguments).await {
            Err(error) if is_hello_unavailable(&error) => {
                self.handshake_resp2((address, login), kind, &error).await
            }
            result => result,
        }
    }

    async fn hello(&mut self, arguments: &[&str]) -> Result<(), SourceError> {
        let Value::Map(server) = self.request("HELLO", arguments.iter().copied()).await? else {
            return Err(SourceError::Unexpected("HELLO did not return a map".into()));
        };
        for (key, value) in &server {
            match (key.as_bytes().map(|key| &**key), value) {
                (Some(b"id"), Value::Integer(id)) => self.id = *id,
                (Some(b"mode"), mode) => {
                    self.is_sentinel = mode.as_bytes().map(|mode| mode == "sentinel");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Performs the handshake in RESP2: `AUTH`, then commands that may fail. `why` is the error of
    /// `HELLO`.
    async fn handshake_resp2(
        &mut self,
        (address, login): (&ConnectionAddr, &RedisConnectionInfo),
        kind: ConnectionKind,
        why: &SourceError,
    ) -> Result<(), SourceError> {
        self.version = RespVersion::Resp2;
        if let Some(password) = login.password() {
            let arguments: Vec<&str> = login.username().into_iter().chain([password]).collect();
            self.request("AUTH", arguments.into_iter()).await?;
        }
        // Fails if authentication is missing (`NOAUTH`) or the server is not ready.
        self.request("PING", [].into_iter()).await?;
        self.request_optional(["SETNAME", "ssegate"].into_iter()).await?;
        if kind == ConnectionKind::Command
            && let Some(Value::Integer(id)) = self.request_optional(["ID"].into_iter()).await?
        {
            self.id = id;
        }
        if !IS_FALLBACK_LOGGED.swap(true, Ordering::Relaxed) {
            tracing::info!(%address, %why, "Redis does not support HELLO; using RESP2");
        }
        Ok(())
    }

    async fn request_optional(
        &mut self,
        arguments: impl ExactSizeIterator<Item = &'static str>,
    ) -> Result<Option<Value>, SourceError> {
        match self.request("CLIENT", arguments).await {
            Ok(reply) => Ok(Some(reply)),
            Err(SourceError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Adds a hint to the error if Redis may expect TLS: it closes a connection that begins without TLS.
fn without_reply(error: SourceError, address: &ConnectionAddr) -> SourceError {
    match (&error, address) {
        (SourceError::Closed | SourceError::ConnectionLost(_), ConnectionAddr::Tcp(..)) => {
            SourceError::NoReply(Box::new(error))
        }
        _ => error,
    }
}

/// Whether the error means that `HELLO` is not available, and nothing else.
fn is_hello_unavailable(error: &SourceError) -> bool {
    match error.kind() {
        SourceErrorKind::Refused | SourceErrorKind::Permission | SourceErrorKind::Protocol => {
            matches!(error, SourceError::Refused(_))
        }
        _ => false,
    }
}
