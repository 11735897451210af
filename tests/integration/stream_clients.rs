//! Streams as the libraries read them that applications use, unchanged: every event, in order, once,
//! and none that nobody sent, through cuts in the middle of an event and through a restart.
//!
//! Each runs a script of tests/stream_clients that prints a line for every event that it is given.
//! `tests/stream_clients/install` puts the libraries into `target/stream-clients`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{
    Cut, Cutter, Gateway, GatewayBuilder, Process, Program, Redis, SOON, Via, eventually,
    free_port, measured,
};

/// A library, and the script that drives it.
#[derive(Clone, Copy, Debug)]
struct Library {
    name: &'static str,
    language: Language,
    script: &'static str,
    speaks_http2: bool,
    /// What it gets wrong whoever sends the stream.
    faults: &'static [Fault],
}

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Node,
    Php,
    Browser,
}

/// What a library reads otherwise than the standard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The sizes of chunks (RFC 9112, section 7.1) are lines of the stream, and the last chunk ends a
    /// block: at an end in good order there is an event without data and id.
    ReadsChunksAsText,
    /// U+2028 and its kin end a line.
    SplitsAtUnicode,
}

/// The one of each language that is the least forgiving.
const ONE_OF_EACH: [Library; 4] = [
    library("httpx-sse", Language::Python, "client_httpx_sse.py").over_http2(),
    library("fetch-event-source", Language::Node, "fetch_event_source.cjs").over_http2(),
    library("symfony", Language::Php, "symfony.php").over_http2(),
    library("chromium", Language::Browser, "chromium.cjs").over_http2(),
];

/// The others.
const OTHERS: [Library; 7] = [
    library("sseclient-py", Language::Python, "full/client_sseclient_py.py"),
    library("sseclient", Language::Python, "full/client_sseclient.py")
        .with(&[Fault::ReadsChunksAsText, Fault::SplitsAtUnicode]),
    library("launchdarkly-eventsource for Python", Language::Python, "full/client_launchdarkly.py"),
    library("eventsource4", Language::Node, "full/event_source.cjs").over_http2(),
    library("eventsource2", Language::Node, "full/event_source.cjs"),
    library("launchdarkly", Language::Node, "full/event_source.cjs"),
    library("undici", Language::Node, "full/event_source.cjs").over_http2(),
];

const fn library(name: &'static str, language: Language, script: &'static str) -> Library {
    Library { name, language, script, speaks_http2: false, faults: &[] }
}

impl Library {
    const fn over_http2(mut self) -> Self {
        self.speaks_http2 = true;
        self
    }

    const fn with(mut self, faults: &'static [Fault]) -> Self {
        self.faults = faults;
        self
    }

    fn has(self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Follows `url`.
    fn follow(self, url: &str, via: Via) -> Process {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let is_full = self.script.starts_with("full/");
        let install = if is_full { "install --full" } else { "install" };
        let libraries = installed(if is_full { "full" } else { "" });
        let (program, needed, needs) = match self.language {
            Language::Python => {
                let python = libraries.join("venv/bin/python");
                (python.clone(), python, "apt-get install python3-venv")
            }
            Language::Node => {
                ("node".into(), libraries.join("node_modules"), "apt-get install nodejs npm")
            }
            Language::Php => (
                "php".into(),
                "/usr/share/php/Symfony/Component/HttpClient/autoload.php".into(),
                "apt-get install php-cli php-curl php-symfony-http-client",
            ),
            Language::Browser => (
                "node".into(),
                root.join("tests/browser/node_modules"),
                "apt-get install nodejs npm chromium; npm ci --prefix tests/browser",
            ),
        };
        assert!(
            needed.exists(),
            "{} needs {}: {needs}; tests/stream_clients/{install}",
            self.name,
            needed.display()
        );
        let modules = match self.language {
            Language::Browser => needed,
            _ => libraries.join("node_modules"),
        };
        let mut program = Program::new(program)
            .arg(root.join("tests/stream_clients").join(self.script))
            .arg(url)
            .env("PACKAGE", self.name)
            .env("NODE_PATH", modules)
            // Where the module of another package has the same name.
            .env("PYTHONPATH", libraries.join(self.name));
        if via == Via::Http2 {
            program = program.env("HTTP2", "yes");
        }
        program.start()
    }

    /// What it gives of an event that the standard reads so.
    fn expects(self, event: &Sent) -> Sent {
        let is_end =
            |c: char| self.has(Fault::SplitsAtUnicode) && "\u{85}\u{2028}\u{2029}".contains(c);
        let data = event.data.split(is_end).next().unwrap_or_default().to_owned();
        Sent { data, ..event.clone() }
    }
}

/// Where tests/stream_clients/install puts the libraries.
fn installed(path: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    target.join("stream-clients").join(path)
}

/// An event.
#[derive(Clone, PartialEq, Eq)]
struct Sent {
    name: String,
    data: String,
    id: String,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begin: String = self.data.chars().take(60).collect();
        write!(f, "{} {:?} {begin:?} of {} bytes", self.id, self.name, self.data.len())
    }
}

/// A library at work, behind a path of its own.
struct Client {
    library: Library,
    process: Process,
    cutter: Cutter,
}

impl Client {
    async fn start(
        library: Library,
        via: Via,
        to: std::net::SocketAddr,
        path: &str,
        cuts: &[Cut],
    ) -> Self {
        let cutter = Cutter::to(to, cuts).await;
        let scheme = if via.is_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{}{path}", cutter.address());
        Self { library, process: library.follow(&url, via), cutter }
    }

    /// Waits until it has been given so many events.
    async fn is_given(&self, count: usize) {
        let what = format!("{} has {count} events", self.library.name);
        let has_all = async || self.process.stdout_lines() >= count && self.given().len() >= count;
        let waiting = eventually(4 * SOON, &what, has_all);
        if tokio::time::timeout(4 * SOON - Duration::from_secs(1), waiting).await.is_err() {
            let given = self.given();
            panic!("{what}, not {}:\n{:?}\n{:?}", given.len(), given.last(), self.process.stderr());
        }
    }

    /// The events that it was given so far.
    fn given(&self) -> Vec<Sent> {
        let lines = self.process.stdout();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let event = |event: Value| Sent {
            name: text(&event["event"]),
            data: text(&event["data"]),
            id: text(&event["id"]),
        };
        let is_framing = |event: &Sent| {
            let is_empty = event.data.is_empty() && event.id.is_empty();
            is_empty && self.library.has(Fault::ReadsChunksAsText)
        };
        let events = events.filter(Value::is_object).map(event);
        events.filter(|event| !is_framing(event)).collect()
    }

    /// It was given these events and no others.
    fn has_seen(&self, sent: &[Sent]) {
        let (name, given) = (self.library.name, self.given());
        for (number, (given, sent)) in given.iter().zip(sent).enumerate() {
            let expected = self.library.expects(sent);
            assert!(*given == expected, "{name}, event {number}: {given:?}, not {expected:?}");
        }
        assert_eq!(given.len(), sent.len(), "{name}: {:?}", &given[sent.len().min(given.len())..]);
    }

    /// Ends it; a browser has processes of its own to end.
    async fn end(mut self) {
        self.process.signal(rustix::process::Signal::TERM);
        self.process.exit_within(SOON).await;
    }
}

const EVENTS: usize = 200;
const LARGE: [usize; 2] = [50, 150];
const MIB: usize = 1 << 20;

/// The payload of an event, and its name if it has one.
fn payload(number: usize) -> (Option<&'static str>, String) {
    let data = match number % 10 {
        _ if LARGE.contains(&number) => format!("{number} {}", "x".repeat(MIB)),
        1 => format!(" {number} with spaces "),
        3 => (0..100).map(|line| format!("{number}, line {line}\n")).collect(),
        5 => String::new(),
        7 => format!("{number} h\u{e9}llo\u{1f600}, \u{2028}, \u{2029}, \u{85}: the end"),
        _ => format!("{{\"number\": {number}}}"),
    };
    ((number.is_multiple_of(10)).then_some("tick"), data)
}

/// Adds an event to the stream `news`.
async fn add(redis: &Redis, name: Option<&str>, data: String) -> Sent {
    let mut words = vec!["XADD", "news", "*", "data", &data];
    words.extend(name.iter().flat_map(|name| ["event", name]));
    let id: String = redis.command(&words).await;
    Sent { name: name.unwrap_or("message").to_owned(), data, id }
}

/// A gateway whose every kind of line stands between the events.
fn gateway(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).settings("drain: 1s").routes(
        "- path: /news\n  events:\n    channels: [news]\n    source: stream\n    replay: all\n    \
         retry: 300ms\n    keep_alive: 1s\n    queue: { bytes: 8MiB }\n",
    )
}

/// Through two cuts in the middle of an event, a silence, and a restart.
async fn every_event_arrives_once(libraries: &[Library], via: Via) {
    let cuts = [Cut::Close(MIB / 2), Cut::Reset(MIB + MIB / 2)];
    let redis = Redis::start().await;
    let mut first = gateway(&redis).start().await;
    let mut sent = Vec::new();
    for number in 1..=EVENTS / 2 {
        let (name, data) = payload(number);
        sent.push(add(&redis, name, data).await);
    }
    let mut clients = Vec::new();
    for &library in libraries {
        let to = first.address_for(via);
        clients.push(Client::start(library, via, to, "/news", &cuts).await);
    }
    for client in &clients {
        client.is_given(EVENTS / 2).await;
    }
    // The stream is quiet for a while, and kept alive.
    let mut clock = first.open("/news").await;
    for _ in 0..EVENTS / 2 {
        clock.next_event().await;
    }
    // `ready`, and two that keep it alive.
    for _ in 0..3 {
        clock.next_comment().await;
    }
    for number in EVENTS / 2 + 1..=EVENTS {
        let (name, data) = payload(number);
        sent.push(add(&redis, name, data).await);
    }
    for client in &clients {
        client.is_given(EVENTS).await;
        assert_eq!(client.cutter.cuts_left(), 0, "{}", client.library.name);
    }
    first.terminate();
    assert!(first.exit_within(SOON).await.success());
    // What they made of the end stands before what follows.
    let second = gateway(&redis).start().await;
    sent.push(add(&redis, None, "after the restart".to_owned()).await);
    for client in &clients {
        client.cutter.turn_to(second.address_for(via));
    }
    for client in &clients {
        client.is_given(EVENTS + 1).await;
        client.has_seen(&sent);
    }
    for client in clients {
        client.end().await;
    }
    measured(&format!("{} libraries via {via:?}", libraries.len()));
}

/// A stream that cannot be had now is an answer that ends at once, again and again, and no event.
async fn a_stream_that_cannot_be_had_yet_is_no_event(libraries: &[Library]) {
    let redis = Redis::start().await;
    let port = free_port();
    let backend = format!("http://127.0.0.1:{port}");
    let route = format!("- path: /later\n  proxy: {{ upstream: \"{backend}\" }}\n");
    let gateway = Gateway::build(&redis).routes(&route).start().await;
    let to = gateway.address("http");
    let mut clients = Vec::new();
    for &library in libraries {
        clients.push(Client::start(library, Via::Http1, to, "/later", &[]).await);
    }
    let streams = ["route=\"/later\"", "status=\"2xx\""];
    let twice = 2.0 * libraries.len() as f64;
    gateway.counts("ssegate_http_requests_total", &streams, twice).await;
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.unwrap() > 0 {}
            let stream =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nid: 7\ndata: here\n\n";
            socket.write_all(stream.as_bytes()).await.unwrap();
            open.push(socket);
        }
    });
    let here = Sent { name: "message".to_owned(), data: "here".to_owned(), id: "7".to_owned() };
    for client in &clients {
        client.is_given(1).await;
        client.has_seen(std::slice::from_ref(&here));
    }
    serving.abort();
    for client in clients {
        client.end().await;
    }
}

#[tokio::test]
#[ignore = "needs client libraries: run by tests/run"]
async fn one_library_of_each_language_gives_every_event_once_over_http1() {
    every_event_arrives_once(&ONE_OF_EACH, Via::Http1).await;
}

#[tokio::test]
#[ignore = "needs client libraries: run by tests/run"]
async fn one_library_of_each_language_gives_every_event_once_over_tls() {
    every_event_arrives_once(&ONE_OF_EACH, Via::Http1Tls).await;
}

#[tokio::test]
#[ignore = "needs client libraries: run by tests/run"]
async fn one_library_of_each_language_gives_every_event_once_over_http2() {
    every_event_arrives_once(&ONE_OF_EACH, Via::Http2).await;
}

#[tokio::test]
#[ignore = "needs client libraries: run by tests/run"]
async fn one_library_of_each_language_makes_no_event_of_a_stream_that_cannot_be_had_yet() {
    a_stream_that_cannot_be_had_yet_is_no_event(&ONE_OF_EACH).await;
}

#[tokio::test]
#[ignore = "needs client libraries: run by tests/run --full"]
async fn long_every_library_gives_every_event_once() {
    let others_over_http2: Vec<_> = OTHERS.into_iter().filter(|other| other.speaks_http2).collect();
    every_event_arrives_once(&OTHERS, Via::Http1).await;
    every_event_arrives_once(&OTHERS, Via::Http1Tls).await;
    every_event_arrives_once(&others_over_http2, Via::Http2).await;
}

#[tokio::test]
#[ignore = "needs client libraries: run by tests/run --full"]
async fn long_no_library_makes_an_event_of_a_stream_that_cannot_be_had_yet() {
    a_stream_that_cannot_be_had_yet_is_no_event(&OTHERS).await;
}
