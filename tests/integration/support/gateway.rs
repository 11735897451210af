//! The gateway: its own process, its own directory, free ports that it tells us of.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    EventStream, Metrics, Process, Program, Redis, Request, Response, SOON, Via, eventually, indent,
};

/// Streams by path and by query, as in the gateway.yaml that is shipped.
const EVENTS: &str = "\
- path: /events
  events: { channels: [\"{query.channel}\"] }
- path: /events/{channel}
  events: { channels: [\"{channel}\"] }
";

/// A gateway to be.
pub(crate) struct GatewayBuilder {
    // What stands under `redis:`.
    redis: String,
    tls: String,
    port: u16,
    listeners: String,
    admin: String,
    settings: String,
    routes: String,
    env: Vec<(String, String)>,
    under: Vec<String>,
}

impl GatewayBuilder {
    /// Further top-level keys of gateway.yaml.
    pub(crate) fn settings(mut self, yaml: &str) -> Self {
        self.settings.push_str(yaml);
        self.settings.push('\n');
        self
    }

    /// Other routes than those by path and by query.
    pub(crate) fn routes(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.routes);
        self
    }

    /// One route, `/events/{channel}`, that says this besides its channels.
    pub(crate) fn events(self, yaml: &str) -> Self {
        let say = indent(yaml, 4);
        self.routes(&format!(
            "- path: /events/{{channel}}\n  events:\n    channels: [\"{{channel}}\"]\n{say}"
        ))
    }

    /// Streams by path and by query, out of Redis Streams.
    pub(crate) fn streams(self) -> Self {
        self.routes(
            "- path: /events\n  events: { channels: [\"{query.channel}\"], source: stream }\n\
             - path: /events/{channel}\n  events: { channels: [\"{channel}\"], source: stream }\n",
        )
    }

    /// One route more, after the others.
    pub(crate) fn route(mut self, yaml: &str) -> Self {
        self.routes.push_str(yaml);
        self
    }

    /// Another way to Redis.
    pub(crate) fn redis_url(mut self, url: &str) -> Self {
        self.redis = format!("url: \"{url}\"");
        self
    }

    /// Further servers, by name.
    pub(crate) fn named(mut self, servers: &[(&str, &Redis)]) -> Self {
        let servers: Vec<_> =
            servers.iter().map(|(name, redis)| format!("{name}: \"{}\"", redis.url())).collect();
        self.redis.push_str(&format!(", named: {{ {} }}", servers.join(", ")));
        self
    }

    /// Several servers instead of one.
    pub(crate) fn shards(mut self, servers: &[&Redis]) -> Self {
        let servers: Vec<_> = servers.iter().map(|redis| format!("\"{}\"", redis.url())).collect();
        self.redis = format!("shards: [{}]", servers.join(", "));
        self
    }

    /// What stands under `tls:` of the listener that has it.
    pub(crate) fn tls(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.tls);
        self
    }

    /// The port of the listener in clear text, where the system shall not choose.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// One listener more.
    pub(crate) fn listener(mut self, yaml: &str) -> Self {
        self.listeners.push_str(&format!("  - {yaml}\n"));
        self
    }

    /// What stands under `admin:`.
    pub(crate) fn admin(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.admin);
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The time is what stands in `clock`, as libfaketime reads it: `+3600s`. Times that only pass are
    /// left alone.
    pub(crate) fn with_clock(self, clock: &Path) -> Self {
        self.with_faketime()
            .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
            .env("FAKETIME_NO_CACHE", "1")
    }

    /// The time is ahead by so many seconds, or behind. Times that only pass are left alone.
    pub(crate) fn with_clock_ahead(self, seconds: i32) -> Self {
        self.with_faketime().env("FAKETIME", &format!("{seconds:+}s"))
    }

    fn with_faketime(self) -> Self {
        const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
        assert!(Path::new(LIBRARY).exists(), "missing: apt-get install faketime");
        self.env("LD_PRELOAD", LIBRARY).env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// The program that runs it, with these words before: `prlimit --nofile=256`.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.under = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts it, and waits until everything is open.
    pub(crate) async fn start(self) -> Gateway {
        let dir = TempDir::new().unwrap();
        let program = self.program(dir.path(), "run");
        Gateway::wait_for(program, dir).await
    }

    /// A command about it, `run` or `check`, with its configuration and its state in `dir`.
    pub(crate) fn program(&self, dir: &Path, command: &str) -> Program {
        std::fs::write(dir.join("gateway.yaml"), self.yaml()).unwrap();
        // Whoever it runs as may read it.
        std::fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        let mut program = ssegate(&self.under, dir, command, &[]);
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        program
    }

    fn yaml(&self) -> String {
        let Self { redis, tls, port, listeners, admin, settings, .. } = self;
        let routes = indent(&self.routes, 2);
        format!(
            "listeners:
  - address: 127.0.0.1:0
    tls: {tls}
  - address: 127.0.0.1:{port}
{listeners}admin: {admin}
redis: {{ {redis} }}
{settings}routes:
{routes}"
        )
    }
}

/// A command of ssegate with the configuration and the state in this directory.
fn ssegate(under: &[String], dir: &Path, command: &str, arguments: &[&str]) -> Program {
    let mut words = under.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_ssegate")]);
    Program::new(words.next().expect("the program"))
        .args(words)
        .args([command, "-c"])
        .arg(dir.join("gateway.yaml"))
        .args(arguments.iter().copied())
        .dir(dir)
        .env("HOME", dir)
        .env("XDG_STATE_HOME", dir.join("state"))
}

/// A gateway that runs.
pub(crate) struct Gateway {
    process: Process,
    // Gone with the last gateway in it.
    dir: Arc<TempDir>,
}

impl Gateway {
    /// One that listens to `redis`, to be described further.
    pub(crate) fn build(redis: &Redis) -> GatewayBuilder {
        GatewayBuilder {
            redis: format!("url: \"{}\"", redis.url()),
            tls: "{ self_signed: true }".to_owned(),
            port: 0,
            listeners: String::new(),
            admin: "{ address: \"127.0.0.1:0\" }".to_owned(),
            settings: String::new(),
            routes: EVENTS.to_owned(),
            env: Vec::new(),
            under: Vec::new(),
        }
    }

    /// One that listens to `redis`, with streams by path and by query.
    pub(crate) async fn start(redis: &Redis) -> Self {
        Self::build(redis).start().await
    }

    /// Any command line of the gateway that ends up serving.
    pub(crate) async fn wait_for(program: Program, dir: TempDir) -> Self {
        Self::wait_in(program, Arc::new(dir)).await
    }

    /// Starts another one that takes over from this one, and waits until everything is open.
    pub(crate) async fn successor(&self) -> Self {
        Self::wait_in(self.takeover(), Arc::clone(&self.dir)).await
    }

    /// The command line that takes over from this one.
    pub(crate) fn takeover(&self) -> Program {
        ssegate(&[], self.dir(), "run", &["--takeover"])
    }

    async fn wait_in(program: Program, dir: Arc<TempDir>) -> Self {
        let mut gateway = Self { process: program.start(), dir };
        let mut ended = None;
        eventually(SOON, "the gateway has started", async || {
            ended = gateway.process.ended();
            ended.is_some() || gateway.said("started").next().is_some()
        })
        .await;
        assert_eq!(ended, None, "the gateway has ended:\n{}", gateway.process.log());
        gateway
    }

    /// The fields of each log line with this message.
    pub(crate) fn said<'a>(&self, message: &'a str) -> impl Iterator<Item = Value> + use<'a> {
        let lines = self.process.stderr().into_iter();
        let lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let fields = lines.map(|mut line| line["fields"].take());
        fields.filter(move |fields| fields["message"] == message)
    }

    /// Where it listens for this kind of connection: `https`, `http`, `admin`, `bus`.
    pub(crate) fn address(&self, kind: &str) -> SocketAddr {
        let mut listening = self.said("listening").filter(|fields| fields["kind"] == kind);
        let fields = listening.next().unwrap_or_else(|| panic!("no listener for {kind}"));
        let address = fields["address"].as_str().expect("an address is text");
        address.parse().unwrap_or_else(|_| panic!("not an address: {address}"))
    }

    /// Where a request of this kind goes.
    pub(crate) fn address_for(&self, via: Via) -> SocketAddr {
        self.address(if via.is_tls() { "https" } else { "http" })
    }

    /// Sends a request over a connection of its own.
    pub(crate) async fn send(&self, via: Via, request: Request) -> Response {
        request.send(via, self.address_for(via)).await
    }

    /// GET over HTTP/1.1 in clear text.
    pub(crate) async fn get(&self, target: &str) -> Response {
        self.send(Via::Http1, Request::get(target)).await
    }

    /// Opens a stream over HTTP/1.1 in clear text; what comes first is still to be read.
    pub(crate) async fn open(&self, target: &str) -> EventStream {
        self.get(target).await.stream()
    }

    /// Comes back to a stream with the id that was seen last.
    pub(crate) async fn resume(&self, via: Via, target: &str, last_id: &str) -> EventStream {
        let request = Request::events(target).header("last-event-id", last_id);
        self.send(via, request).await.stream()
    }

    /// Opens a stream and waits until it is ready.
    pub(crate) async fn subscribe(&self, target: &str) -> EventStream {
        self.subscribe_via(Via::Http1, target).await
    }

    /// The same over any protocol.
    pub(crate) async fn subscribe_via(&self, via: Via, target: &str) -> EventStream {
        let mut stream = self.send(via, Request::events(target)).await.stream();
        stream.ready().await;
        stream
    }

    /// Opens so many streams of `target`, one connection each, and waits until all are ready.
    pub(crate) async fn subscribe_all(&self, target: &str, count: usize) -> Vec<EventStream> {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            streams.push(self.open(target).await);
        }
        for stream in &mut streams {
            stream.ready().await;
        }
        streams
    }

    /// GET at the admin listener.
    pub(crate) async fn admin(&self, target: &str) -> Response {
        Request::get(target).send(Via::Http1, self.address("admin")).await
    }

    /// What `/metrics` says now.
    pub(crate) async fn metrics(&self) -> Metrics {
        let response = self.admin("/metrics").await;
        assert_eq!(response.status, 200);
        Metrics::parse(&response.text().await)
    }

    /// Waits until the samples of `name` with `labels` add up to at least `value`: for longer than
    /// the `write_timeout` after which a reader who does not read is cut off.
    pub(crate) async fn counts(&self, name: &str, labels: &[&str], value: f64) {
        let what = format!("{name} {labels:?} is at least {value}");
        let enough = async || self.metrics().await.sum(name, labels) >= value;
        eventually(3 * SOON, &what, enough).await;
    }

    /// The status of `/readyz`.
    pub(crate) async fn readiness(&self) -> u16 {
        self.admin("/readyz").await.status
    }

    /// Waits until `/readyz` answers so.
    pub(crate) async fn becomes(&self, status: u16, limit: Duration) {
        let what = format!("/readyz answers {status}");
        eventually(limit, &what, async || self.readiness().await == status).await;
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Writes another gateway.yaml: `change` makes it of the one that is there.
    pub(crate) fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let file = self.dir().join("gateway.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, change(text)).unwrap();
    }

    /// SIGHUP; waits until the configuration has been read again and the log has said so, and gives
    /// whether it is used. What was logged before is there, too.
    pub(crate) async fn reload(&self) -> bool {
        const RELOADS: &str = "ssegate_config_reloads_total";
        const SAID: [&str; 2] =
            ["configuration reloaded", "reload failed; the old configuration stays in use"];
        let said = || SAID.map(|message| self.said(message).count()).iter().sum::<usize>();
        let (before, said_before) = (self.metrics().await, said());
        self.signal(Signal::HUP);
        let mut after = before.sum(RELOADS, &[]);
        eventually(SOON, "the configuration is read again", async || {
            let metrics = self.metrics().await;
            after = metrics.sum(RELOADS, &["success"]);
            metrics.sum(RELOADS, &[]) > before.sum(RELOADS, &[]) && said() > said_before
        })
        .await;
        after > before.sum(RELOADS, &["success"])
    }

    /// Waits until the process has ended.
    pub(crate) async fn exit_within(&mut self, limit: Duration) -> ExitStatus {
        self.process.exit_within(limit).await
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The lines of its access log so far.
    pub(crate) fn stdout(&self) -> Vec<String> {
        self.process.stdout()
    }

    /// Everything that it wrote.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has written `text`: its log comes to us by a way of its own, after what it
    /// tells of.
    pub(crate) async fn logs(&self, text: &str) {
        let what = format!("the log has {text:?}");
        eventually(SOON, &what, async || self.log().contains(text)).await;
    }

    /// Its directory: configuration and state.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Memory that is not a file's, in bytes.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Time of the processors that it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap()
    }

    /// Open file descriptors.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }
}
