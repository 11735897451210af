//! Asks the nodes of a Cluster again and again which of them owns what.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::cluster::Cluster;
use super::connection::{ConnectionKind, RedisConnection};
use super::retry::RETRY_INTERVAL;
use super::sentinel::MAX_REPLY_BYTES;
use super::server::RedisServer;

/// How often the nodes are asked without a reason: a node tells of a slot only whoever asks for that.
const ASK_INTERVAL: Duration = Duration::from_secs(30);

/// How often they are asked at most, while what they said shows to be wrong.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// Keeps what is known of the slots of a Cluster.
#[derive(Debug)]
pub(crate) struct ClusterWatch {
    server: RedisServer,
    cluster: Cluster,
}

impl ClusterWatch {
    /// That of `server`, if it is a Cluster.
    pub(crate) fn new(server: &RedisServer) -> Option<Self> {
        let cluster = server.cluster()?.clone();
        Some(Self { server: server.clone(), cluster })
    }

    /// Runs for ever: asks every 30 seconds, and when a slot has moved or a node is gone. Owned by the gateway, which
    /// drops it.
    pub(crate) async fn run(self) {
        loop {
            let asked = Instant::now();
            let kind = ConnectionKind::Command;
            // The handshake asks. That none can be reached is reported by those that need one.
            if let Err(error) = RedisConnection::open(&self.server, MAX_REPLY_BYTES, kind).await {
                tracing::debug!(%error, "no node of the Cluster says who owns which slot");
                sleep_until(asked + RETRY_INTERVAL).await;
                continue;
            }
            let outdated = timeout_at(asked + ASK_INTERVAL, self.cluster.outdated());
            // Not outdated within that time is no reason not to ask.
            outdated.await.unwrap_or_default();
            sleep_until(asked + MIN_INTERVAL).await;
        }
    }
}
