//! A real `redis-server` of the test's own.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisResult};
use tempfile::TempDir;

use super::{Process, Program, SOON, eventually, free_port, within};

/// The server, its directory, and one connection to it.
pub(crate) struct Redis {
    dir: TempDir,
    host: String,
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// `redis-server`, also as a sentinel.
pub(super) fn redis_server() -> Program {
    let program = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .expect("redis-server is not installed: apt-get install redis-server");
    Program::new(program)
}

impl Redis {
    /// Starts one that knows nothing and keeps nothing.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        let mut redis = Self::stopped(arguments);
        redis.restart().await;
        redis
    }

    /// A node of a cluster. Its bus has a port of its own: the default, 10,000 above, is where connections of
    /// others may end.
    pub(crate) async fn cluster_node() -> Self {
        let bus = free_port().to_string();
        Self::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await
    }

    /// One that is yet to be started: its addresses are known.
    pub(crate) fn stopped(arguments: &[&str]) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            host: "127.0.0.1".to_owned(),
            port: free_port(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            process: None,
            connection: Mutex::default(),
        }
    }

    /// Starts it, or starts it again, on the same port; waits until it answers.
    pub(crate) async fn restart(&mut self) {
        self.begin(&[]);
        eventually(SOON, "redis-server answers", async || self.connect().await.is_some()).await;
    }

    /// The same with further arguments, and without waiting until it has loaded its data.
    pub(crate) async fn restart_with(&mut self, arguments: &[&str]) {
        self.begin(arguments);
        let listens =
            async || tokio::net::TcpStream::connect((self.host.as_str(), self.port)).await.is_ok();
        eventually(SOON, "redis-server listens", listens).await;
    }

    /// Starts it again on another address.
    pub(crate) async fn move_to(&mut self, host: &str) {
        host.clone_into(&mut self.host);
        self.restart().await;
    }

    fn begin(&mut self, more: &[&str]) {
        let process = redis_server()
            .dir(self.dir.path())
            .args(["--port", &self.port.to_string(), "--bind", &self.host])
            .args(["--save", "", "--appendonly", "no", "--unixsocket", "redis.sock"])
            .args(self.arguments.iter().map(String::as_str))
            .args(more.iter().copied())
            .start();
        *self.cached() = None;
        self.process = Some(process);
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// The URL that a gateway is given.
    pub(crate) fn url(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("redis://{host}:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Publishes; answers how many heard it.
    pub(crate) async fn publish(&self, channel: &str, payload: impl AsRef<[u8]>) -> u64 {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(payload.as_ref());
        self.query(&command).await
    }

    /// Publishes all of `payloads` in one go: Redis sees them in one read.
    pub(crate) async fn publish_all(
        &self,
        channel: &str,
        payloads: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) {
        let mut pipeline = redis::pipe();
        for payload in payloads {
            pipeline.cmd("PUBLISH").arg(channel).arg(payload.as_ref()).ignore();
        }
        let mut connection = self.connection().await;
        pipeline.query_async::<()>(&mut connection).await.unwrap();
    }

    /// Adds an entry with one field, `data`; answers its id.
    pub(crate) async fn add(&self, stream: &str, data: &str) -> String {
        self.command(&["XADD", stream, "*", "data", data]).await
    }

    /// Adds many entries in one go.
    pub(crate) async fn add_all(
        &self,
        stream: &str,
        payloads: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) {
        let mut pipeline = redis::pipe();
        for payload in payloads {
            pipeline.cmd("XADD").arg(stream).arg("*").arg("data").arg(payload.as_ref()).ignore();
        }
        let mut connection = self.connection().await;
        pipeline.query_async::<()>(&mut connection).await.unwrap();
    }

    /// Publishes pairs of channel and payload in one go; answers whether Redis took them.
    pub(crate) async fn try_publish(&self, messages: &[(String, String)]) -> bool {
        self.try_publish_by("PUBLISH", messages).await
    }

    /// The same on sharded channels, whose slots this node has to own.
    pub(crate) async fn try_spublish(&self, messages: &[(String, String)]) -> bool {
        self.try_publish_by("SPUBLISH", messages).await
    }

    async fn try_publish_by(&self, command: &str, messages: &[(String, String)]) -> bool {
        let mut pipeline = redis::pipe();
        for (channel, payload) in messages {
            pipeline.cmd(command).arg(channel).arg(payload).ignore();
        }
        let mut connection = self.connection().await;
        pipeline.query_async::<()>(&mut connection).await.is_ok()
    }

    /// Adds pairs of stream and data in one go; answers whether Redis took them.
    pub(crate) async fn try_add(&self, messages: &[(String, String)]) -> bool {
        let mut pipeline = redis::pipe();
        for (stream, data) in messages {
            pipeline.cmd("XADD").arg(stream).arg("*").arg("data").arg(data).ignore();
        }
        let mut connection = self.connection().await;
        pipeline.query_async::<()>(&mut connection).await.is_ok()
    }

    /// Any command.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        self.query(&command).await
    }

    /// Cuts all that listen, and publishes to a sharded channel before one of them can be back.
    pub(crate) async fn kill_listeners_and_spublish(&self, channel: &str, data: &str) {
        let mut both = redis::pipe();
        both.atomic().cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]);
        both.cmd("SPUBLISH").arg(channel).arg(data);
        let replies = both.query_async::<(u64, u64)>(&mut self.connection().await).await;
        assert_eq!(replies.expect("Redis executes both").1, 0, "nobody hears it");
    }

    /// Whether it takes a command.
    pub(crate) async fn try_command(&self, words: &[&str]) -> bool {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async::<redis::Value>(&mut self.connection().await).await.is_ok()
    }

    /// Its reply to a command, if it is there; behind `ASKING`, where a slot moves to it.
    pub(crate) async fn reply(&self, words: &[&str], asking: bool) -> RedisResult<redis::Value> {
        let cached = self.cached().clone();
        let mut connection = match cached {
            Some(connection) => connection,
            None => self.connect().await.ok_or((ErrorKind::Io, "it is not there"))?,
        };
        let mut pipeline = redis::pipe();
        if asking {
            pipeline.cmd("ASKING").ignore();
        }
        pipeline.cmd(words[0]).arg(&words[1..]);
        let reply = pipeline.query_async::<(redis::Value,)>(&mut connection).await;
        if reply.as_ref().is_err_and(|error| error.is_io_error()) {
            *self.cached() = None;
        }
        reply.map(|(reply,)| reply)
    }

    /// What it is: `master` or `slave`. On a connection of its own: Redis ends those that it has when its role
    /// changes.
    pub(crate) async fn role(&self) -> Option<String> {
        let mut connection = self.connect().await?;
        let reply = redis::cmd("ROLE").query_async::<Vec<redis::Value>>(&mut connection).await;
        redis::from_redis_value(reply.ok()?.into_iter().next()?).ok()
    }

    async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.connection().await).await.unwrap()
    }

    /// Waits until somebody listens to a channel: an open stream alone does not say so.
    pub(crate) async fn has_listener(&self, channel: &str) {
        let what = format!("somebody listens to {channel}");
        eventually(SOON, &what, async || self.listeners(channel).await > 0).await;
    }

    /// How many listen to a channel now.
    pub(crate) async fn listeners(&self, channel: &str) -> u64 {
        let (_, count): (String, u64) = self.command(&["PUBSUB", "NUMSUB", channel]).await;
        count
    }

    /// Publishes to a channel until nobody listens to it: Redis cuts off whoever takes nothing, when eight megabytes
    /// wait for it.
    pub(crate) async fn overflow(&self, channel: &str) {
        const LIMIT: &str = "client-output-buffer-limit";
        let (_, before): (String, String) = self.command(&["CONFIG", "GET", LIMIT]).await;
        self.command::<()>(&["CONFIG", "SET", LIMIT, "pubsub 8mb 0 0"]).await;
        let payload = vec![b'x'; 64 << 10];
        let is_alone = async || self.publish(channel, &payload).await == 0;
        within(SOON, "Redis cuts it off", async { while !is_alone().await {} }).await;
        self.command::<()>(&["CONFIG", "SET", LIMIT, &before]).await;
    }

    async fn connection(&self) -> MultiplexedConnection {
        let cached = self.cached().clone();
        match cached {
            Some(connection) => connection,
            None => self.connect().await.expect("redis-server runs"),
        }
    }

    async fn connect(&self) -> Option<MultiplexedConnection> {
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
        let client = Client::open(self.url()).unwrap();
        let connection = client.get_multiplexed_async_connection_with_config(&patient);
        let connection = tokio::time::timeout(SOON, connection).await;
        let mut connection = connection.ok()?.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()?;
        *self.cached() = Some(connection.clone());
        Some(connection)
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
