//! A real Redis Cluster.

use std::time::Duration;

use redis::{FromRedisValue, RedisError};

use super::{Redis, SOON, eventually, free_port, within};

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

    /// The same for the user of deploy/redis-users.acl, whom each node knows then.
    pub(crate) async fn url_with_shipped_rights(&self, nodes: &[usize]) -> String {
        let shipped = include_str!("../../../deploy/redis-users.acl");
        let user = shipped.lines().find(|line| line.starts_with("user ssegate ")).unwrap();
        for node in &self.nodes {
            let words = ["ACL", "SETUSER"].into_iter().chain(user.split(' ').skip(1));
            node.command::<String>(&words.collect::<Vec<_>>()).await;
        }
        self.url(nodes).replace("://", "://ssegate:listens@")
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

    /// Sends a command about a key to the owner of its slot, wherever that is now, until it is executed.
    pub(crate) async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (mut at, mut asking) = (0, false);
        let executed = async {
            loop {
                let error = match self.nodes[at].reply(words, asking).await {
                    Ok(reply) => return redis::from_redis_value(reply).unwrap(),
                    Err(error) => error,
                };
                asking = error.code() == Some("ASK");
                match self.redirected_to(&error) {
                    Some(node) => at = node,
                    // It is not there, or the slot has no owner for now.
                    None => {
                        at = (at + 1) % self.nodes.len();
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
        };
        within(4 * SOON, "a node executes the command", executed).await
    }

    /// The node that an error names, if it is `MOVED` or `ASK`.
    fn redirected_to(&self, error: &RedisError) -> Option<usize> {
        let text = error.to_string();
        let is_redirect = matches!(error.code(), Some("MOVED" | "ASK"));
        let port = text.rsplit(':').next().filter(|_| is_redirect)?;
        let port = port.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u16>().ok()?;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// The slot of a key.
    pub(crate) async fn slot(&self, key: &str) -> u16 {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// Which of `among` owns a slot, as it says itself.
    pub(crate) async fn owner(&self, slot: u16, among: &[usize]) -> usize {
        let mut owner = None;
        eventually(4 * SOON, "the slot has an owner", async || {
            for &at in among {
                let words = ["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()];
                let key = format!("{{{}}}", self.tag(slot));
                let is_here = self.nodes[at].try_command(&words).await
                    && self.nodes[at].try_command(&["EXISTS", &key]).await;
                if is_here {
                    owner = Some(at);
                }
            }
            owner.is_some()
        })
        .await;
        owner.unwrap()
    }

    /// A hash tag of this slot.
    pub(crate) fn tag(&self, slot: u16) -> String {
        let mut tags = (0..1_000_000).map(|number: u32| number.to_string());
        tags.find(|tag| crc16(tag.as_bytes()) % 16_384 == slot).unwrap()
    }

    /// A slot begins to move: new keys are made at the new owner.
    pub(crate) async fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let (old, new) = (self.id(from).await, self.id(to).await);
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old];
        self.nodes[to].command::<()>(&importing).await;
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new];
        self.nodes[from].command::<()>(&migrating).await;
    }

    /// Its keys move.
    pub(crate) async fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let (slot, port) = (slot.to_string(), self.nodes[to].port().to_string());
        loop {
            let words = ["CLUSTER", "GETKEYSINSLOT", &slot, "100"];
            let keys: Vec<String> = self.nodes[from].command(&words).await;
            if keys.is_empty() {
                return;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            self.nodes[from].command::<()>(&words).await;
        }
    }

    /// Its new owner is told, then its old one, and the others learn it.
    pub(crate) async fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, new) = (slot.to_string(), self.id(to).await);
        for at in [to, from] {
            self.nodes[at].command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &new]).await;
        }
    }

    /// All of that.
    pub(crate) async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to).await;
        self.move_keys(slot, from, to).await;
        self.end_move(slot, from, to).await;
    }

    async fn id(&self, at: usize) -> String {
        self.nodes[at].command(&["CLUSTER", "MYID"]).await
    }
}

/// As Redis computes slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}
