//! A real Redis Cluster.

use super::{Redis, SOON, eventually, free_port};

/// Three masters, and a replica of each.
pub(crate) struct ClusterSet {
    /// The masters first.
    pub(crate) nodes: Vec<Redis>,
}

impl ClusterSet {
    /// Starts it, and waits until each node sees all others.
    pub(crate) async fn start() -> Self {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..6 {
            let bus = free_port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
            let options =
                [&options[..], &["--repl-diskless-sync-delay", "0", "--cluster-port", &bus]];
            nodes.push(Redis::with(&options.concat()).await);
            buses.push(bus);
        }
        for (node, bus) in nodes[1..].iter().zip(&buses[1..]) {
            let port = node.port().to_string();
            nodes[0].command::<String>(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
        }
        let set = Self { nodes };
        for (node, [first, last]) in
            set.nodes.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]])
        {
            node.command::<String>(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
        }
        for (master, replica) in [(0, 3), (1, 4), (2, 5)] {
            let id: String = set.nodes[master].command(&["CLUSTER", "MYID"]).await;
            eventually(SOON, "the replica knows its master", async || {
                set.nodes[replica].try_command(&["CLUSTER", "REPLICATE", &id]).await
            })
            .await;
        }
        for at in 0..6 {
            let is_whole = async || {
                let info: String = set.nodes[at].command(&["CLUSTER", "INFO"]).await;
                let slots = set.nodes[at].command::<redis::Value>(&["CLUSTER", "SLOTS"]).await;
                let replicas = match slots {
                    redis::Value::Array(ranges) => ranges
                        .iter()
                        .filter(|range| matches!(range, redis::Value::Array(of) if of.len() == 4))
                        .count(),
                    _ => 0,
                };
                info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:6")
                    && replicas == 3
            };
            eventually(4 * SOON, "each node sees all others", is_whole).await;
        }
        set
    }

    /// What a gateway is given that knows these nodes.
    pub(crate) fn url(&self, nodes: &[usize]) -> String {
        let hosts: Vec<_> =
            nodes.iter().map(|&at| format!("127.0.0.1:{}", self.nodes[at].port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The node that has this many listeners of a channel.
    pub(crate) async fn listening(&self, channel: &str, among: &[usize]) -> Vec<usize> {
        let mut listening = Vec::new();
        for &at in among {
            if self.nodes[at].listeners(channel).await > 0 {
                listening.push(at);
            }
        }
        listening
    }
}
