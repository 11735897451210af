//! What becomes of a gateway whose log nobody reads: nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::{
    EventStream, Http2, Metrics, Program, Redis, Request, SOON, Via, eventually, free_port,
};

/// A gateway whose standard error goes where the test wants it to go.
struct Unheard {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    _dir: TempDir,
}

impl Unheard {
    /// Starts it with `stderr`, and waits until it serves.
    async fn start(redis: &Redis, stderr: Stdio, env: &[(&str, &str)]) -> Self {
        Self::start_with(redis, (Stdio::null(), stderr), env, "").await
    }

    /// Starts it with these outputs and with further keys of gateway.yaml, and waits until it serves.
    async fn start_with(
        redis: &Redis,
        (stdout, stderr): (Stdio, Stdio),
        env: &[(&str, &str)],
        settings: &str,
    ) -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (http, admin, dead) = (local(free_port()), local(free_port()), free_port());
        let dir = TempDir::new().unwrap();
        let yaml = format!(
            "listeners: [{{ address: \"{http}\" }}]\nadmin: {{ address: \"{admin}\" }}\n\
             redis: {{ url: \"{}\" }}\ndrain: 1s\n{settings}routes:\n  \
             - path: /events/{{channel}}\n    events: {{ channels: [\"{{channel}}\"] }}\n  \
             - path: /dead\n    proxy: {{ upstream: \"http://127.0.0.1:{dead}\" }}\n",
            redis.url()
        );
        std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_ssegate"), "run"]);
        command.current_dir(dir.path()).env("HOME", dir.path()).envs(env.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut gateway = Self { child: child.spawn().unwrap(), http, admin, _dir: dir };
        eventually(SOON, "the gateway serves", async || {
            assert_eq!(gateway.child.try_wait().unwrap(), None, "it has ended");
            let (http, admin) = tokio::join!(TcpStream::connect(http), TcpStream::connect(admin));
            http.is_ok() && admin.is_ok()
        })
        .await;
        gateway
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn get(&self, to: SocketAddr, target: &str) -> crate::support::Response {
        Request::get(target).send(Via::Http1, to).await
    }

    async fn subscribe(&self) -> EventStream {
        let mut stream = self.get(self.http, "/events/news").await.stream();
        stream.ready().await;
        stream
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = self.get(self.admin, "/metrics").await.text().await;
        Metrics::parse(&text).sum(name, &[])
    }

    /// Reads the configuration again, which is one line of log; waits until that is done.
    async fn reload(&self) {
        let before = self.metric("ssegate_config_reloads_total").await;
        self.signal(Signal::HUP);
        let read = async || self.metric("ssegate_config_reloads_total").await > before;
        eventually(SOON, "the configuration is read again", read).await;
    }

    /// A new stream opens and hears, and an open one does; the process is alive.
    async fn serves(&self, redis: &Redis, open: &mut EventStream) {
        let mut new = self.subscribe().await;
        redis.publish("news", "hello").await;
        assert_eq!(new.next_event().await.data, "hello");
        assert_eq!(open.next_event().await.data, "hello");
        assert_eq!(self.get(self.admin, "/livez").await.status, 200);
    }

    async fn ends(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut status = None;
        eventually(SOON, "SIGTERM ends it", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const DROPPED: &str = "ssegate_log_lines_dropped_total";

/// Reads lines until one of them has `text`.
fn read_until(pipe: &mut BufReader<PipeReader>, text: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(pipe.read_line(&mut line).unwrap() > 0, "the log ends before {text:?}");
        if line.contains(text) {
            return line;
        }
    }
}

#[tokio::test]
async fn a_reader_of_the_log_that_goes_away_takes_nothing_with_it() {
    let redis = Redis::start().await;
    let (reader, writer) = std::io::pipe().unwrap();
    let mut reader = BufReader::new(reader);
    let gateway = Unheard::start(&redis, writer.into(), &[]).await;
    let mut stream = gateway.subscribe().await;
    read_until(&mut reader, "\"started\"");
    drop(reader);
    for _ in 0..3 {
        gateway.reload().await;
    }
    gateway.serves(&redis, &mut stream).await;
    let counted = async || gateway.metric(DROPPED).await >= 3.0;
    eventually(SOON, "the lost lines are counted", counted).await;
    assert_eq!(gateway.ends().await.code(), Some(0));
}

#[tokio::test]
async fn a_log_without_a_reader_from_the_start_is_no_reason_not_to_start() {
    let redis = Redis::start().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // A directive that cannot be read is told too.
    let env = [("SSEGATE_LOG", "ssegate=nonsense")];
    let gateway = Unheard::start(&redis, writer.into(), &env).await;
    let mut stream = gateway.subscribe().await;
    gateway.serves(&redis, &mut stream).await;
    assert!(gateway.metric(DROPPED).await >= 1.0);
    assert_eq!(gateway.ends().await.code(), Some(0));
}

#[tokio::test]
async fn a_full_disk_below_the_log_is_no_end() {
    let redis = Redis::start().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let gateway = Unheard::start(&redis, full.into(), &[("SSEGATE_LOG", "debug")]).await;
    let mut stream = gateway.subscribe().await;
    gateway.reload().await;
    assert_eq!(gateway.get(gateway.http, "/dead").await.status, 502);
    gateway.serves(&redis, &mut stream).await;
    assert!(gateway.metric(DROPPED).await >= 1.0);
    assert_eq!(gateway.ends().await.code(), Some(0));
}

#[tokio::test]
async fn a_full_pipe_below_the_log_stops_nobody_and_tells_what_is_missing_when_it_is_read() {
    let redis = Redis::start().await;
    let (reader, writer) = std::io::pipe().unwrap();
    let gateway = Unheard::start(&redis, writer.into(), &[("SSEGATE_LOG", "trace")]).await;
    let mut stream = gateway.subscribe().await;
    let full = async || {
        for _ in 0..50 {
            assert_eq!(gateway.get(gateway.http, "/dead").await.status, 502);
        }
        gateway.metric(DROPPED).await >= 1.0
    };
    eventually(4 * SOON, "the pipe and the buffer are full", full).await;
    gateway.serves(&redis, &mut stream).await;
    gateway.reload().await;

    let mut reader = BufReader::new(reader);
    let told = std::thread::spawn(move || {
        let told = read_until(&mut reader, "log lines were dropped");
        (told, reader)
    });
    eventually(4 * SOON, "it is told how many are missing", async || {
        gateway.get(gateway.http, "/dead").await;
        told.is_finished()
    })
    .await;
    let (told, reader) = told.join().unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told["fields"]["lines"].as_u64().is_some_and(|lines| lines > 0), "{told}");
    assert_eq!(told["level"], "WARN");

    // Full again, and it ends all the same.
    let dropped = gateway.metric(DROPPED).await;
    let full = async || {
        for _ in 0..50 {
            gateway.get(gateway.http, "/dead").await;
        }
        gateway.metric(DROPPED).await > dropped
    };
    eventually(4 * SOON, "it is full again", full).await;
    assert_eq!(gateway.ends().await.code(), Some(0));
    drop(reader);
}

#[tokio::test]
async fn an_access_log_that_nobody_reads_stops_nobody_and_is_whole_when_it_is_read() {
    let redis = Redis::start().await;
    let ((reader, writer), (log_reader, log_writer)) =
        (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let outputs = (writer.into(), log_writer.into());
    let settings = "log: { access: all, access_rate: 1000000 }\n";
    let gateway = Unheard::start_with(&redis, outputs, &[], settings).await;
    let mut stream = gateway.subscribe().await;
    let connection = Http2::connect(Via::H2c, gateway.http).await;
    let full = async || {
        for _ in 0..500 {
            let request = Request::get("/nowhere").header("user-agent", &"x".repeat(250));
            assert_eq!(connection.send(request).await.status, 404);
        }
        gateway.metric(DROPPED).await >= 100.0
    };
    eventually(4 * SOON, "the pipe and the buffer are full", full).await;
    gateway.serves(&redis, &mut stream).await;

    // Once it is read, each line is whole, and the log says how many are missing.
    let lines = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        let is_line = |line: &String| {
            serde_json::from_str::<serde_json::Value>(line).expect(line).is_object()
        };
        lines.filter(is_line).count()
    });
    let mut log = BufReader::new(log_reader);
    let told =
        std::thread::spawn(move || read_until(&mut log, "lines of the access log were dropped"));
    let is_told = async || {
        assert_eq!(connection.send(Request::get("/nowhere")).await.status, 404);
        told.is_finished()
    };
    eventually(SOON, "it is told how many are missing", is_told).await;
    let dropped = gateway.metric(DROPPED).await;
    let written = gateway.metric("ssegate_access_log_lines_total").await;
    let told: serde_json::Value = serde_json::from_str(&told.join().unwrap()).unwrap();
    assert!(
        (1.0..=dropped).contains(&told["fields"]["lines"].as_f64().unwrap()),
        "{told} of {dropped}"
    );
    drop((stream, connection));
    assert_eq!(gateway.ends().await.code(), Some(0));
    let lines = lines.join().unwrap() as f64;
    assert!(
        lines >= written - dropped && lines <= written - dropped + 10.0,
        "{lines} of {written} - {dropped}"
    );
}

#[tokio::test]
async fn a_panic_that_nobody_is_told_of_costs_its_own_request() {
    let redis = Redis::start().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for stderr in [Stdio::from(full), Stdio::from(closed)] {
        let gateway = Unheard::start(&redis, stderr, &[("SSEGATE_PANIC_AT", "/bug")]).await;
        let mut stream = gateway.subscribe().await;
        for _ in 0..3 {
            assert_eq!(gateway.get(gateway.http, "/bug").await.status, 500);
        }
        gateway.serves(&redis, &mut stream).await;
        assert_eq!(gateway.ends().await.code(), Some(0));
    }
}

#[tokio::test]
async fn everything_is_there_after_an_orderly_stop_that_somebody_reads() {
    let redis = Redis::start().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let gateway = Unheard::start(&redis, writer.into(), &[("SSEGATE_LOG", "trace")]).await;
    let read = std::thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        log
    });
    for _ in 0..20 {
        drop(gateway.subscribe().await);
    }
    assert_eq!(gateway.metric(DROPPED).await, 0.0);
    assert_eq!(gateway.ends().await.code(), Some(0));
    let log = read.join().unwrap();
    assert!(log.ends_with('\n'));
    let message = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        line["fields"]["message"].as_str().map(str::to_owned)
    };
    let messages: Vec<_> = log.lines().filter_map(message).collect();
    assert!(messages.iter().any(|message| message == "started"), "{messages:?}");
    assert!(messages.iter().any(|message| message == "stopped"), "{messages:?}");
}

#[tokio::test]
async fn a_start_that_fails_ends_where_nobody_reads_why() {
    let dir = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = format!(
        "listeners: [{{ address: \"{}\" }}]\nadmin: off\nredis: {{ url: \"redis://127.0.0.1:1\" }}\n\
         routes: [{{ path: /, events: {{ channels: [a] }} }}]\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    for redirection in ["2>/dev/full", "2>&-", "2>&1 | true"] {
        let shell = format!("{} run {redirection}", env!("CARGO_BIN_EXE_ssegate"));
        let shell = Program::new("/bin/sh").args(["-c", &shell]).dir(dir.path());
        let output = shell.output(SOON).await;
        assert!(output.status.code().is_some_and(|code| code < 2), "{redirection}: {output:?}");
    }
}
