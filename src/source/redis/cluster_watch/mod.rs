//! Asks the nodes of a Cluster again and again which of them owns what, and checks whether each owner can be used
//! ([`looks`]). The two run beside each other: a node that hangs delays neither the next question nor its reply.

mod looks;
#[cfg(test)]
mod tests;

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use self::looks::OwnerLooks;
use super::cluster::Cluster;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::retry::RETRY_INTERVAL;
use super::sentinel::MAX_REPLY_BYTES;
use super::server::RedisServer;
use super::socket::CONNECT_TIMEOUT;
use crate::health::Health;
use crate::metrics::Metrics;

/// How often the nodes are asked without a reason: a node reports a moved slot only in reply to a command for it.
const ASK_INTERVAL: Duration = Duration::from_secs(30);

/// The least time between two questions, while the known owners prove to be wrong.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// How long one node alone is waited for; then the next one is asked, too.
const STAGGER: Duration = Duration::from_millis(250);

/// Keeps what is known of the slots of a Cluster, and of the nodes that own them.
#[derive(Debug)]
pub(crate) struct ClusterWatch {
    server: RedisServer,
    cluster: Cluster,
    looks: OwnerLooks,
}

impl ClusterWatch {
    /// That of `server`, if it is a Cluster.
    pub(crate) fn new(server: &RedisServer, health: &Health, metrics: &Metrics) -> Option<Self> {
        let cluster = server.cluster()?.clone();
        let seen = (health.clone(), metrics.clone());
        let looks = OwnerLooks::new((server.clone(), cluster.clone()), seen);
        Some(Self { server: server.clone(), cluster, looks })
    }

    /// Runs for ever: asks every 30 seconds, and when a slot has moved or a node is gone. Owned by the gateway, which
    /// drops it.
    pub(crate) async fn run(self) {
        let asked = Notify::new();
        let Self { server, cluster, looks } = self;
        tokio::join!(keep_asking(&server, &cluster, &asked), looks.run(&asked));
    }
}

/// Asks for ever. Notifies `asked` after each question, also after one without a reply.
async fn keep_asking(server: &RedisServer, cluster: &Cluster, asked: &Notify) {
    loop {
        let begin = Instant::now();
        let result = ask(server, cluster).await;
        asked.notify_one();
        // That no node can be reached is reported by those that need one.
        if let Err(error) = result {
            tracing::debug!(%error, "no node of the Cluster says who owns which slot");
            sleep_until(begin + RETRY_INTERVAL).await;
            continue;
        }
        let outdated = timeout_at(begin + ASK_INTERVAL, cluster.outdated());
        // Not outdated within that time is no reason not to ask.
        outdated.await.unwrap_or_default();
        sleep_until(begin + MIN_INTERVAL).await;
    }
}

/// Asks one node after the other, without waiting for one that is slow, until one has replied that sees its Cluster.
///
/// # Errors
/// No node has replied.
async fn ask(server: &RedisServer, cluster: &Cluster) -> Result<(), SourceError> {
    let mut nodes = cluster.candidates().into_iter();
    let mut asks = JoinSet::new();
    let (mut has_reply, mut failure) = (false, None);
    loop {
        if let Some(node) = nodes.next() {
            asks.spawn_local(ask_node(server.clone(), cluster.clone(), node));
        }
        tokio::select! {
            Some(asked) = asks.join_next() => match asked {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => has_reply = true,
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(panicked) => failure = Some(SourceError::Unexpected(panicked.to_string())),
            },
            () = sleep(STAGGER), if nodes.len() > 0 => {}
            else => return match failure.filter(|_| !has_reply) {
                Some(error) => Err(error),
                None => Ok(()),
            },
        }
    }
}

/// Asks a node, and records its reply. Returns whether it sees its Cluster.
///
/// # Errors
/// There is no reply.
async fn ask_node(
    server: RedisServer,
    cluster: Cluster,
    node: ConnectionAddr,
) -> Result<bool, SourceError> {
    let asking = async {
        let kind = (MAX_REPLY_BYTES, ConnectionKind::Command);
        let mut connection = RedisConnection::open_at_node(&server, node.clone(), kind).await?;
        connection.view_cluster(&node).await
    };
    let timed_out = SourceError::Timeout(CONNECT_TIMEOUT.as_secs());
    let view = timeout(CONNECT_TIMEOUT, asking).await.unwrap_or(Err(timed_out))?;
    let is_ok = view.is_ok;
    cluster.learn(view);
    Ok(is_ok)
}
