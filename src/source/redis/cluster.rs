//! A Redis Cluster: through which of its nodes the gateway listens.
//!
//! Each node passes on what is published at any other, to all of its own subscribers ("Publish/Subscribe" of
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>). So all channels are heard through one
//! node, once, and another takes its place when that cannot be reached, is cut off from the rest, or hears nothing.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::ConnectionAddr;
use ssegate_resp::Value;

use super::connection::RedisConnection;
use super::error::SourceError;
use super::location::{ClusterAddress, ShownAddress};
use super::sentinel::{at_same_tls, host_and_port};

/// Nodes that are remembered, at most: a Cluster has 1,000.
const MAX_NODES: usize = 1000;

/// The nodes of a Cluster. A cheap handle.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<ClusterShared>);

struct ClusterShared {
    address: ClusterAddress,
    known: Mutex<KnownNodes>,
}

#[derive(Default)]
struct KnownNodes {
    // As a node has named them last.
    nodes: Vec<ConnectionAddr>,
    // The one that the gateway listens through.
    current: Option<ConnectionAddr>,
    // One that was left because it heard nothing: used again if there is no other.
    left: Option<ConnectionAddr>,
    is_refusal_told: bool,
}

/// What one node says of the Cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClusterView {
    /// It takes part in the Cluster, and sees enough of it.
    pub(super) is_ok: bool,
    /// All nodes that it knows; `None`: the gateway may not ask.
    pub(super) nodes: Option<Vec<ConnectionAddr>>,
}

impl Cluster {
    pub(super) fn new(address: ClusterAddress) -> Self {
        Self(Arc::new(ClusterShared { address, known: Mutex::default() }))
    }

    /// The node that the gateway listens through, or did last.
    pub(super) fn current(&self) -> Option<ConnectionAddr> {
        self.lock().current.clone()
    }

    /// The nodes, each once, in the order in which they are to be tried: the one that is listened through, those that
    /// the Cluster has named, those of the configuration, and last the one that was left.
    pub(super) fn candidates(&self) -> Vec<ConnectionAddr> {
        let known = self.lock();
        let left = known.left.as_ref();
        let named = known.current.iter().chain(&known.nodes).chain(self.0.address.nodes());
        let mut candidates: Vec<ConnectionAddr> = Vec::new();
        for node in named.filter(|node| Some(*node) != left).chain(left) {
            if !candidates.contains(node) {
                candidates.push(node.clone());
            }
        }
        candidates
    }

    /// The nodes that the gateway does not listen through.
    pub(super) fn others(&self) -> Vec<ConnectionAddr> {
        let mut candidates = self.candidates();
        let current = self.current();
        candidates.retain(|node| Some(node) != current.as_ref());
        candidates
    }

    /// A node has named all nodes; `None`: it may not be asked, which is said once.
    pub(super) fn learn(&self, nodes: Option<Vec<ConnectionAddr>>) {
        let mut known = self.lock();
        match nodes {
            Some(nodes) if !nodes.is_empty() => known.nodes = nodes,
            Some(_) => {}
            None if std::mem::replace(&mut known.is_refusal_told, true) => {}
            None => tracing::info!(
                "Redis does not let the gateway ask for the nodes of the Cluster (CLUSTER SLOTS); it uses those of \
                 redis.url"
            ),
        }
    }

    /// The gateway listens through this node.
    pub(super) fn listens_through(&self, node: &ConnectionAddr) {
        let mut known = self.lock();
        known.current = Some(node.clone());
        if known.left.as_ref() == Some(node) {
            known.left = None;
        }
    }

    /// The node that the gateway listens through hears nothing: another one comes next.
    pub(super) fn leave(&self) {
        let mut known = self.lock();
        known.left = known.current.take();
    }

    fn lock(&self) -> MutexGuard<'_, KnownNodes> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.0.address)
    }
}

impl RedisConnection {
    /// What the node at the other end, which is at `address`, says of the Cluster
    /// (<https://redis.io/docs/latest/commands/cluster-info/>, <https://redis.io/docs/latest/commands/cluster-slots/>).
    ///
    /// # Errors
    /// It is not a node of one, or the connection is lost.
    pub(super) async fn view_cluster(
        &mut self,
        address: &ConnectionAddr,
    ) -> Result<ClusterView, SourceError> {
        let is_ok = self.sees_cluster().await?;
        let nodes = match self.request("CLUSTER", ["SLOTS"].into_iter()).await {
            Ok(slots) => Some(nodes(&slots, address)),
            Err(error) if error.is_unavailable() => None,
            Err(error) => return Err(error.for_command("CLUSTER SLOTS")),
        };
        Ok(ClusterView { is_ok, nodes })
    }

    /// Whether the node sees enough of its Cluster to serve. One that does not say is taken to.
    ///
    /// # Errors
    /// It is not a node of one, or the connection is lost.
    pub(super) async fn sees_cluster(&mut self) -> Result<bool, SourceError> {
        match self.request("CLUSTER", ["INFO"].into_iter()).await {
            Ok(info) => Ok(!info
                .as_bytes()
                .is_some_and(|info| info.windows(STATE_FAIL.len()).any(|part| part == STATE_FAIL))),
            Err(SourceError::Refused(message)) if message.contains("cluster support disabled") => {
                Err(SourceError::NoCluster)
            }
            Err(error) if error.is_unavailable() => Ok(true),
            Err(error) => Err(error.for_command("CLUSTER INFO")),
        }
    }
}

const STATE_FAIL: &[u8] = b"cluster_state:fail";

/// The nodes of a reply to `CLUSTER SLOTS`: `[[first, last, [host, port, id, …], …], …]`, masters and replicas. A node that
/// does not know its own host is where it was asked.
fn nodes(slots: &Value, asked: &ConnectionAddr) -> Vec<ConnectionAddr> {
    let mut nodes = Vec::new();
    for range in array(slots) {
        for node in array(range).iter().skip(2) {
            let [host, Value::Integer(port), ..] = array(node) else { continue };
            let host = match host.as_bytes().and_then(|host| str::from_utf8(host).ok()) {
                None | Some("" | "?") => match asked {
                    ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
                    _ => continue,
                },
                Some(host) => host,
            };
            let Some((host, port)) = host_and_port(host, &port.to_string()) else { continue };
            let node = at_same_tls(asked, host, port);
            if nodes.len() < MAX_NODES && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    nodes
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(parts) => parts,
        _ => &[],
    }
}

/// The node that it listens through, for people.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.current() {
            Some(node) => ShownAddress(&node).fmt(f),
            None => f.write_str("no node yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use redis::ConnectionAddr;
    use ssegate_resp::Value;

    use super::{Cluster, ClusterAddress, nodes};

    fn at(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
    }

    fn cluster(seeds: &[u16]) -> Cluster {
        let seeds = seeds.iter().map(|port| at(*port)).collect();
        Cluster::new(ClusterAddress::new(seeds).expect("a node"))
    }

    #[test]
    fn the_node_that_is_used_is_tried_first_and_one_that_hears_nothing_last() {
        let cluster = cluster(&[1, 2]);
        assert_eq!(cluster.candidates(), [at(1), at(2)]);
        cluster.learn(Some(vec![at(2), at(3), at(1)]));
        cluster.listens_through(&at(3));
        assert_eq!(cluster.candidates(), [at(3), at(2), at(1)]);
        assert_eq!(cluster.others(), [at(2), at(1)]);
        cluster.leave();
        assert_eq!(cluster.candidates(), [at(2), at(1), at(3)]);
        // One that says nothing of the others.
        cluster.learn(Some(Vec::new()));
        cluster.learn(None);
        cluster.listens_through(&at(2));
        cluster.leave();
        assert_eq!(cluster.candidates(), [at(3), at(1), at(2)]);
        cluster.listens_through(&at(2));
        assert_eq!(cluster.candidates()[0], at(2), "it is used again");
    }

    #[test]
    fn nodes_are_read_from_what_redis_replies() {
        let text = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
        let node = |host: Value, port| Value::Array(vec![host, Value::Integer(port), text("id")]);
        let range = |nodes: Vec<Value>| {
            let ends = vec![Value::Integer(0), Value::Integer(100)];
            Value::Array(ends.into_iter().chain(nodes).collect())
        };
        let slots = Value::Array(vec![
            range(vec![node(text("10.0.0.1"), 7), node(text("10.0.0.1"), 8)]),
            range(vec![node(text("10.0.0.1"), 7), node(text("a b"), 9), node(text("x"), 0)]),
            range(vec![node(Value::Null, 10), node(text(""), 11), node(text("?"), 12)]),
            Value::Null,
            range(vec![Value::Null]),
        ]);
        assert_eq!(nodes(&slots, &at(7)), [at(7), at(8), at(10), at(11), at(12)]);
        let tls = ConnectionAddr::TcpTls {
            host: "a".to_owned(),
            port: 1,
            insecure: true,
            tls_params: None,
        };
        let found = nodes(&slots, &tls);
        assert!(
            found.iter().all(|node| matches!(node, ConnectionAddr::TcpTls { insecure: true, .. }))
        );
        assert_eq!(nodes(&Value::Null, &at(7)), []);
    }
}
