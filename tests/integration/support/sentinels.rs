//! Three real sentinels that watch a master and its replicas.

use redis::Client;
use tempfile::TempDir;

use super::redis::redis_server;
use super::{Process, Redis, SOON, eventually, free_port};

/// The name under which the sentinels know the master.
pub(crate) const MASTER: &str = "mymaster";

/// The master and a replica, and the sentinels that watch them.
pub(crate) struct SentinelSet {
    pub(crate) servers: [Redis; 2],
    sentinels: Vec<Sentinel>,
}

/// One sentinel.
pub(crate) struct Sentinel {
    dir: TempDir,
    port: u16,
    process: Option<Process>,
}

impl SentinelSet {
    /// Three sentinels, a master and a replica. `options`: further lines of each sentinel's file.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let master = Redis::with(&quick).await;
        let port = master.port().to_string();
        let replica =
            Redis::with(&[&quick[..], &["--replicaof", "127.0.0.1", &port]].concat()).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(master.port(), options));
        }
        let set = Self { servers: [master, replica], sentinels };
        // A failover needs sentinels that know each other, and a replica that has caught up.
        for sentinel in &set.sentinels {
            let knows_all = async || sentinel.knows().await == Some((2, 1));
            eventually(4 * SOON, "each sentinel knows all others, and the replica", knows_all)
                .await;
        }
        set
    }

    /// What a gateway is given: `login` stands before the hosts, `query` behind the master.
    pub(crate) fn url(&self, login: &str, query: &str) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{login}{}/{MASTER}{query}", hosts.join(","))
    }

    /// Which of the servers the sentinels name.
    pub(crate) async fn master(&self) -> usize {
        let mut named = None;
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.process.is_some()) {
            let (_, port): (String, u16) =
                sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await.unwrap();
            named = Some(port);
        }
        let named = named.expect("a sentinel runs");
        self.servers.iter().position(|server| server.port() == named).expect("one of the two")
    }

    /// Waits until all sentinels name another server than `before`, and that has become a master.
    pub(crate) async fn has_moved_from(&self, before: usize) -> usize {
        let after = 1 - before;
        let is_master = async || {
            self.master().await == after
                && self.servers[after].role().await.as_deref() == Some("master")
        };
        eventually(6 * SOON, "the replica has become the master", is_master).await;
        after
    }

    /// Tells a sentinel to make the replica the master, while the master runs.
    pub(crate) async fn fail_over(&self) {
        let command = ["SENTINEL", "FAILOVER", MASTER];
        let begun = async || self.sentinels[0].command::<String>(&command).await.is_some();
        eventually(4 * SOON, "a sentinel begins a failover", begun).await;
    }

    /// Makes one of the sentinels watch the server at this port as if it were the master.
    pub(crate) async fn misled(&self, at: usize, port: u16) {
        let sentinel = &self.sentinels[at];
        sentinel.command::<String>(&["SENTINEL", "REMOVE", MASTER]).await.unwrap();
        let watch = ["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &port.to_string(), "2"];
        sentinel.command::<String>(&watch).await.unwrap();
    }

    /// `kill -9` of one of the sentinels.
    pub(crate) fn kill_sentinel(&mut self, at: usize) {
        self.sentinels[at].process = None;
    }

    /// Starts a sentinel again, with what it knew.
    pub(crate) fn restart_sentinel(&mut self, at: usize) {
        self.sentinels[at].begin();
    }
}

impl Sentinel {
    /// One that watches the master at this port. `options`: further lines of its file.
    pub(crate) fn start(master: u16, options: &[&str]) -> Self {
        let mut sentinel = Self { dir: TempDir::new().unwrap(), port: free_port(), process: None };
        let mut lines = vec![
            format!("port {}", sentinel.port),
            "bind 127.0.0.1".to_owned(),
            format!("sentinel monitor {MASTER} 127.0.0.1 {master} 2"),
            format!("sentinel down-after-milliseconds {MASTER} 1000"),
            format!("sentinel failover-timeout {MASTER} 3000"),
        ];
        lines.extend(options.iter().map(|&line| line.to_owned()));
        std::fs::write(sentinel.dir.path().join("sentinel.conf"), lines.join("\n")).unwrap();
        sentinel.begin();
        sentinel
    }

    /// Waits until it accepts connections, and returns its address.
    pub(crate) async fn address(&self) -> String {
        let address = format!("127.0.0.1:{}", self.port);
        let accepts = async || tokio::net::TcpStream::connect(&address).await.is_ok();
        eventually(SOON, "the sentinel accepts connections", accepts).await;
        address
    }

    fn begin(&mut self) {
        let program = redis_server().dir(self.dir.path());
        self.process = Some(program.args(["sentinel.conf", "--sentinel"]).start());
    }

    /// How many other sentinels and replicas it knows.
    async fn knows(&self) -> Option<(usize, usize)> {
        let info: redis::Value = self.command(&["SENTINEL", "MASTER", MASTER]).await?;
        let fields: std::collections::HashMap<String, String> =
            redis::from_redis_value(info).ok()?;
        let number = |name: &str| fields.get(name)?.parse().ok();
        Some((number("num-other-sentinels")?, number("num-slaves")?))
    }

    /// `None` while it does not run, or refuses.
    async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        // With the password of the tests, where sentinels have one.
        for url in ["redis://127.0.0.1", "redis://:of-sentinels@127.0.0.1"] {
            let client = Client::open(format!("{url}:{}", self.port)).unwrap();
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                continue;
            };
            let mut command = redis::cmd(words[0]);
            if let Ok(reply) = command.arg(&words[1..]).query_async(&mut connection).await {
                return Some(reply);
            }
        }
        None
    }
}
