//! nginx and Node as backends over HTTP/2, and when they close a connection as a request is sent.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::nginx::Nginx;
use crate::support::{
    Gateway, Process, Program, Redis, Request, SOON, Via, eventually, measured, within,
};

const NODE: &str = "/usr/bin/node";
const H2LOAD: &str = "/usr/bin/h2load";

async fn in_front_of(redis: &Redis, routes: &str) -> Gateway {
    Gateway::build(redis).routes(routes).start().await
}

/// nginx over HTTP/2 or HTTP/1.1, and a route for everything that leads there.
async fn nginx(is_http2: bool, server: &str, files: &[(&str, usize)]) -> (Nginx, String) {
    let nginx = Nginx::with_files(if is_http2 { "http2" } else { "" }, server, files).await;
    let route = nginx.route_with("/{*rest}", &format!("http2: {is_http2}"));
    (nginx, route)
}

/// Node with `backend_servers.cjs`.
struct Node {
    process: Process,
    is_http2: bool,
}

impl Node {
    async fn start(kind: &str, streams: &str) -> Self {
        assert!(std::path::Path::new(NODE).exists(), "missing: apt-get install nodejs");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/backend_servers.cjs");
        let process = Program::new(NODE).args([script, kind, streams]).start();
        let listens = async || !process.stdout().is_empty();
        eventually(SOON, "Node listens", listens).await;
        Self { process, is_http2: kind == "http2" }
    }

    fn route(&self, more: &str) -> String {
        let port = &self.process.stdout()[0];
        let is_http2 = self.is_http2;
        format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://127.0.0.1:{port}\", \
             http2: {is_http2}{more} }}\n"
        )
    }
}

/// Sends `count` requests over HTTP/2, 200 at a time, and gives how many were answered with 200.
async fn h2load(gateway: &Gateway, count: usize, path: &str, more: &[&str]) -> usize {
    assert!(std::path::Path::new(H2LOAD).exists(), "missing: apt-get install nghttp2-client");
    let count_text = count.to_string();
    let url = format!("http://{}{path}", gateway.address("http"));
    let run = Program::new(H2LOAD)
        .args(["-n", &count_text, "-c", "10", "-m", "20"])
        .args(more.iter().copied())
        .arg(url);
    let text = run.output(4 * SOON).await.success();
    let line = text.lines().find(|line| line.starts_with("status codes:"));
    let line = line.unwrap_or_else(|| panic!("no status codes: {text}"));
    let answered = line.split([' ', ',']).find_map(|word| word.parse().ok());
    answered.unwrap_or_else(|| panic!("no number: {line}"))
}

#[tokio::test]
#[ignore = "needs nginx and nghttp2-client: run by tests/run"]
async fn nginx_ends_its_connections_after_some_requests_and_each_is_answered() {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    std::fs::write(&body, [b'x'; 1000]).unwrap();
    for requests in [1, 7, 100, 1000] {
        let server = format!("keepalive_requests {requests}; location / {{ return 200 ok; }}");
        let (_nginx, route) = nginx(true, &server, &[]).await;
        let gateway = in_front_of(&redis, &route).await;
        let count = if requests == 1 { 1000 } else { 6000 };
        assert_eq!(h2load(&gateway, count, "/", &[]).await, count, "GET, {requests}");
        let post = ["-d", body.to_str().unwrap()];
        assert_eq!(h2load(&gateway, count, "/", &post).await, count, "POST, {requests}");
        // Each shard learns the number from two connections, on which no more than 200 requests run
        // together. From then on they are not used beyond it.
        let retries = gateway.metrics().await.sum("ssegate_upstream_retries_total", &[]);
        assert!(retries <= 600.0, "{retries} of {} for {requests}", 2 * count);
    }
}

#[tokio::test]
#[ignore = "needs nginx and nghttp2-client: run by tests/run"]
async fn nginx_is_reloaded_under_load_and_each_request_is_answered() {
    let redis = Redis::start().await;
    for is_http2 in [true, false] {
        let (nginx, route) = nginx(is_http2, "location / { return 200 ok; }", &[]).await;
        let gateway = in_front_of(&redis, &route).await;
        let reloading = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                nginx.reload();
            }
        };
        tokio::select! {
            answered = h2load(&gateway, 10_000, "/", &[]) => assert_eq!(answered, 10_000, "{is_http2}"),
            () = reloading => unreachable!("it goes on"),
        }
    }
}

#[tokio::test]
#[ignore = "needs nginx: run by tests/run"]
async fn a_large_header_of_nginx_passes_over_both_protocols_and_harms_no_neighbour() {
    let redis = Redis::start().await;
    let fields = |count: usize| -> String {
        let value = "v".repeat(1000);
        (0..count).map(|number| format!("add_header x-{number:03} {value}; ")).collect()
    };
    let server = format!(
        "location /some {{ {} return 200 ok; }}
         location /many {{ {} return 200 ok; }}
         location /slow {{ limit_rate 2k; }}",
        fields(48),
        fields(70)
    );
    for is_http2 in [true, false] {
        let (_nginx, route) = nginx(is_http2, &server, &[("slow", 1 << 20)]).await;
        let gateway = Gateway::build(&redis).settings("shards: 1").routes(&route).start().await;
        let mut slow = gateway.get("/slow").await;
        for (path, expected) in [("/some", 200), ("/many", 502), ("/some", 200)] {
            let response = gateway.get(path).await;
            assert_eq!(response.status, expected, "{path} {is_http2}");
            if expected == 200 {
                assert_eq!(response.header("x-047").len(), 1000);
            }
            let more = within(SOON, "more of the slow body", slow.body.chunk()).await;
            assert!(matches!(more, Ok(Some(_))), "{more:?} after {path}");
        }
    }
}

#[tokio::test]
#[ignore = "needs node: run by tests/run"]
async fn clients_that_do_not_read_what_node_sends_hold_up_nobody_else() {
    let redis = Redis::start().await;
    let node = Node::start("http2", "").await;
    let gateway =
        Gateway::build(&redis).settings("shards: 1").routes(&node.route("")).start().await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        client.readable().await.unwrap();
        clients.push(client);
    }
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.text().await, "ok");
    }
    let mut large = gateway.get("/large").await;
    let body = within(SOON, "a large body", large.body.rest()).await.unwrap();
    assert_eq!(body.len(), 8 << 20);
}

#[tokio::test]
#[ignore = "needs node: run by tests/run"]
async fn node_that_takes_few_streams_serves_many_event_streams_and_requests() {
    let redis = Redis::start().await;
    for streams in ["1", "2", "4"] {
        let node = Node::start("http2", streams).await;
        let gateway = in_front_of(&redis, &node.route("")).await;
        let mut open = Vec::new();
        for _ in 0..12 {
            let mut stream = gateway.send(Via::Http1, Request::events("/events")).await.stream();
            assert_eq!(stream.next_event().await.data, "first");
            open.push(stream);
            assert_eq!(gateway.get("/").await.text().await, "ok", "{streams}");
        }
        for stream in &mut open {
            assert_eq!(stream.next_event().await.data, "next");
        }
    }
}

#[tokio::test]
#[ignore = "needs node: run by tests/run"]
async fn uploads_that_node_does_not_read_hold_up_no_other() {
    let redis = Redis::start().await;
    let node = Node::start("http2", "").await;
    let gateway =
        Gateway::build(&redis).settings("shards: 1").routes(&node.route("")).start().await;
    let mut stuck = Vec::new();
    for _ in 0..12 {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        let head = "POST /stuck HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&[b'x'; 100_000]).await.unwrap();
        stuck.push(client);
    }
    for length in [10, 1000, 100_000, 1_000_000] {
        let request = Request::new("POST", "/upload").body(&vec![b'x'; length]);
        let response = gateway.send(Via::Http1, request).await;
        assert_eq!(response.text().await, length.to_string());
    }
}

/// Sends requests from many clients, with pauses in which their connections may be closed; gives the
/// statuses other than 200.
async fn asked_again_and_again(gateway: &Gateway, method: &'static str) -> Vec<u16> {
    let to = gateway.address("http");
    let mut clients = JoinSet::new();
    for client in 0..20_u64 {
        clients.spawn(async move {
            let mut others = Vec::new();
            for number in 0..60_u64 {
                tokio::time::sleep(Duration::from_millis((client * 7 + number * 3) % 23)).await;
                let status = Request::new(method, "/").send(Via::Http1, to).await.status;
                if status != 200 {
                    others.push(status);
                }
            }
            others
        });
    }
    within(4 * SOON, "all answers", clients.join_all()).await.concat()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: run by tests/run"]
async fn nginx_that_closes_idle_connections_loses_no_request() {
    let redis = Redis::start().await;
    let server = "keepalive_timeout 11ms; location / { return 200 ok; }";
    // What is not idempotent is sent again only where the backend says that it has not seen it.
    for (is_http2, method) in [(false, "GET"), (false, "DELETE"), (true, "GET"), (true, "POST")] {
        let (_nginx, route) = nginx(is_http2, server, &[]).await;
        let gateway = in_front_of(&redis, &route).await;
        let others = asked_again_and_again(&gateway, method).await;
        assert_eq!(others, [0; 0], "{method} {is_http2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node: run by tests/run"]
async fn node_that_closes_idle_connections_loses_no_request() {
    let redis = Redis::start().await;
    for (kind, method) in [("http1", "GET"), ("http1", "PUT"), ("http2", "GET"), ("http2", "POST")]
    {
        let node = Node::start(kind, "").await;
        let gateway = in_front_of(&redis, &node.route("")).await;
        assert_eq!(gateway.get("/close").await.status, 200);
        let others = asked_again_and_again(&gateway, method).await;
        assert_eq!(others, [0; 0], "{method} {kind}");
        let retries = gateway.metrics().await.sum("ssegate_upstream_retries_total", &[]);
        measured(&format!("{retries} of 1200 {method} over {kind} sent again"));
    }
}
