//! What an operator is told when something is wrong: in the log, in the metrics, in `/readyz?verbose`
//! and on the status page; and when it is over.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::support::{
    Gateway, Pem, Program, Redis, Request, SOON, Upstream, Via, eventually, free_port, measured,
    within,
};

/// What `/readyz?verbose` says, and its status.
async fn verbose(gateway: &Gateway) -> (u16, String) {
    let response = gateway.admin("/readyz?verbose").await;
    (response.status, response.text().await)
}

/// Waits for a line of `/readyz?verbose` with all these words, and gives it.
async fn verbose_says(gateway: &Gateway, words: &[&str]) -> String {
    let mut found = String::new();
    eventually(4 * SOON, &format!("/readyz?verbose says {words:?}"), async || {
        let (_, text) = verbose(gateway).await;
        let line = text.lines().find(|line| words.iter().all(|word| line.contains(word)));
        found = line.unwrap_or_default().to_owned();
        !found.is_empty()
    })
    .await;
    found
}

/// Waits until nothing is wrong any more.
async fn all_is_well(gateway: &Gateway) {
    eventually(4 * SOON, "nothing is wrong any more", async || {
        let (status, text) = verbose(gateway).await;
        status == 200 && text.lines().all(|line| line.starts_with("[+]") || line == "ready")
    })
    .await;
}

/// The lines of the log with this message, at this level.
fn lines(gateway: &Gateway, level: &str, message: &str) -> Vec<Value> {
    let log = gateway.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_it = |line: &Value| line["level"] == level && line["fields"]["message"] == message;
    lines.filter(is_it).map(|mut line| line["fields"].take()).collect()
}

fn proxy(path: &str, upstream: &str, more: &str) -> String {
    format!("- path: {path}\n  proxy: {{ upstream: \"{upstream}\"{more} }}\n")
}

/// A backend that answers every request, after `delay`, until it is dropped.
async fn serve(port: u16, delay: Duration) -> tokio::task::JoinSet<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let answer = move |_| async move {
                    tokio::time::sleep(delay).await;
                    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"hello"));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                };
                let service = hyper::service::service_fn(answer);
                let io = hyper_util::rt::TokioIo::new(socket);
                let http = hyper::server::conn::http1::Builder::new();
                // The gateway may leave at any time.
                drop(http.serve_connection(io, service).await);
            });
        }
    });
    tasks
}

#[tokio::test]
async fn a_dead_backend_is_two_lines_in_the_log_and_not_one_for_each_request() {
    const DOWN: &str = "the request to the backend failed";
    let redis = Redis::start().await;
    let port = free_port();
    let upstream = format!("http://127.0.0.1:{port}");
    let gateway = Gateway::build(&redis).route(&proxy("/{*rest}", &upstream, "")).start().await;
    gateway.becomes(200, SOON).await;
    for number in 0..300 {
        let request = Request::new("POST", &format!("/orders/{number}?token=secret"));
        assert_eq!(gateway.send(Via::Http1, request).await.status, 502);
    }
    gateway.logs(DOWN).await;
    let told = lines(&gateway, "WARN", DOWN);
    assert!((1..3).contains(&told.len()), "{told:?}");
    let first = &told[0];
    assert_eq!((&first["method"], &first["path"]), (&"POST".into(), &"/orders/0".into()));
    assert_eq!((&first["kind"], &first["route"]), (&"connect".into(), &"/{*rest}".into()));
    assert!(first["error"].as_str().unwrap().contains("refused"), "{first}");

    // Ten seconds later the rest is told, though nothing more happens.
    let counted = async || {
        let told = lines(&gateway, "WARN", "the backend keeps failing");
        let held_back = told.iter().chain(&lines(&gateway, "WARN", DOWN)).fold(0, |sum, line| {
            let count = ["requests", "held_back"].iter().find_map(|field| line[*field].as_u64());
            sum + count.unwrap_or(0)
        });
        held_back + lines(&gateway, "WARN", DOWN).len() as u64 == 300
    };
    eventually(2 * SOON, "all 300 are accounted for", counted).await;

    let line = verbose_says(&gateway, &["[!]", &upstream, "/{*rest}", "connect: "]).await;
    assert!(line.contains("refused") && line.contains("since 20"), "{line}");
    assert!(line.contains(", 300 times, "), "{line}");
    let metrics = gateway.metrics().await;
    let label = format!("upstream=\"{upstream}\"");
    assert!(metrics.has("ssegate_upstream_up", &[&label]));
    assert_eq!(metrics.sum("ssegate_upstream_up", &[&label]), 0.0);
    let page = gateway.admin("/").await.text().await;
    assert!(page.contains(&format!("backend {upstream}")), "{page}");

    let _backend = serve(port, Duration::ZERO).await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.metrics().await.sum("ssegate_upstream_up", &[&label]), 1.0);
    all_is_well(&gateway).await;
    gateway.logs("the backend responds again").await;
    let back = lines(&gateway, "INFO", "the backend responds again");
    assert_eq!((back.len(), back[0]["requests"].as_u64()), (1, Some(300)), "{back:?}");
}

#[tokio::test]
async fn a_backend_that_breaks_off_and_responds_in_turns_does_not_flood_the_log() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis).route(&upstream.route("/{*rest}")).start().await;
    gateway.becomes(200, SOON).await;
    for _ in 0..30 {
        let (response, ()) = tokio::join!(gateway.get("/x"), async {
            upstream.call().await.answer("200 OK", "", "x").await;
        });
        assert_eq!(response.text().await, "x");
        let (response, ()) = tokio::join!(gateway.get("/x"), async {
            upstream.call().await.reset();
        });
        assert_eq!(response.status, 502);
        let broken = async {
            let mut call = upstream.call().await;
            call.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        };
        let (mut response, ()) = tokio::join!(gateway.get("/x"), broken);
        assert!(within(SOON, "an end", response.body.rest()).await.is_err());
    }
    let log = gateway.log();
    let of_the_backend = log.lines().filter(|line| line.contains("backend")).count();
    assert!(of_the_backend <= 8, "{of_the_backend} lines:\n{log}");
}

#[tokio::test]
async fn a_slow_backend_is_seen_in_the_histograms_and_told_above_the_p99_of_the_operators_choice() {
    let redis = Redis::start().await;
    let port = free_port();
    let upstream = format!("http://127.0.0.1:{port}");
    let slow = proxy("/slow/{*rest}", &upstream, ", p99_warning: 100ms");
    let gateway = Gateway::build(&redis).route(&slow).start().await;
    gateway.becomes(200, SOON).await;
    let backend = serve(port, Duration::from_millis(300)).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/slow/x").await.status, 200);
    }
    let line = verbose_says(&gateway, &["[!]", &upstream, "slow: "]).await;
    assert!(line.contains("took over 100ms"), "{line}");
    const SLOW: &str = "the backend is slow: over 1% of responses in a minute exceed p99_warning";
    gateway.logs(SLOW).await;
    let told = lines(&gateway, "WARN", SLOW);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["p99_warning"], "100ms");

    let metrics = gateway.metrics().await;
    let route = "route=\"/slow/{*rest}\"";
    for name in ["ssegate_upstream_response_seconds", "ssegate_http_request_duration_seconds"] {
        let bucket = |le: &str| {
            let label = format!("le=\"{le}\"");
            metrics.sum(&format!("{name}_bucket"), &[route, &label])
        };
        assert_eq!((bucket("0.25"), bucket("60")), (0.0, 4.0), "{name}");
        assert_eq!(metrics.sum(&format!("{name}_count"), &[route]), 4.0);
    }

    // One that never responds is late before its time is over.
    drop(backend);
    let hung = Upstream::start().await;
    gateway.rewrite(|text| text.replace(&upstream, &format!("http://{}", hung.address())));
    assert!(gateway.reload().await);
    let gateway = Arc::new(gateway);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let gateway = Arc::clone(&gateway);
        waiting.spawn(async move { gateway.get("/slow/y").await.status });
    }
    let _calls = (hung.call().await, hung.call().await, hung.call().await);
    verbose_says(&gateway, &["[!]", &hung.address().to_string(), "slow: 3 of 3"]).await;
    assert!(waiting.try_join_next().is_none(), "nothing has been answered yet");
}

#[tokio::test]
async fn a_slow_backend_is_told_of_the_route_that_asks_for_it_beside_another_of_the_same_path() {
    let redis = Redis::start().await;
    let port = free_port();
    let upstream = format!("http://127.0.0.1:{port}");
    // The one that does not ask comes last, and responds often.
    let asks = proxy("/x", &upstream, ", p99_warning: 100ms") + "  methods: [GET]\n";
    let does_not = proxy("/x", &upstream, "") + "  methods: [POST]\n";
    let generous = proxy("/x", &upstream, ", p99_warning: 30s") + "  methods: [DELETE]\n";
    let gateway = Gateway::build(&redis).route(&asks).route(&does_not).route(&generous);
    let gateway = gateway.start().await;
    gateway.becomes(200, SOON).await;
    let _backend = serve(port, Duration::from_millis(300)).await;
    for method in ["GET", "POST", "DELETE", "GET", "POST", "GET"] {
        let request = Request::new(method, "/x");
        assert_eq!(gateway.send(Via::Http1, request).await.status, 200);
    }
    verbose_says(&gateway, &["[!]", &upstream, "slow: 3 of 3 responses", "over 100ms"]).await;
    const SLOW: &str = "the backend is slow: over 1% of responses in a minute exceed p99_warning";
    gateway.logs(SLOW).await;
    assert_eq!(lines(&gateway, "WARN", SLOW).len(), 1);
}

fn tls(pem: &Pem) -> String {
    let (certificate, key) = (pem.certificate.display(), pem.key.display());
    format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}")
}

async fn shown(gateway: &Gateway) -> Vec<u8> {
    crate::support::shown_certificate(gateway.address("https")).await
}

#[tokio::test]
async fn an_expired_certificate_never_replaces_one_that_is_valid() {
    const KEPT: &str = "cannot reload the certificate; the old one stays in use";
    const FAILED: (&str, &[&str]) =
        ("ssegate_tls_certificate_reloads_total", &["result=\"failure\""]);
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let good = Pem::write(dir.path());
    let gateway = Gateway::build(&redis).tls(&tls(&good)).start().await;
    assert_eq!(gateway.metrics().await.sum(FAILED.0, FAILED.1), 0.0);

    Pem::write_for(dir.path(), -90, -3);
    gateway.counts(FAILED.0, FAILED.1, 1.0).await;
    gateway.logs(KEPT).await;
    let told = lines(&gateway, "ERROR", KEPT);
    assert_eq!(told.len(), 1);
    let error = told[0]["error"].as_str().unwrap();
    assert!(error.contains("expired on 20"), "{error}");
    assert_eq!(shown(&gateway).await, good.der);
    verbose_says(&gateway, &["[!]", "certificate of", "expired on 20"]).await;

    // A reload is no way around that; the rest of it holds.
    gateway.rewrite(|text| text.replace("/events/{channel}", "/other/{channel}"));
    assert!(gateway.reload().await);
    assert_eq!(shown(&gateway).await, good.der);
    assert_eq!(gateway.get("/events/news").await.status, 404);
    const STAYS: &str = "the certificate stays unchanged";
    gateway.logs(STAYS).await;
    assert_eq!(lines(&gateway, "ERROR", STAYS).len(), 1);

    let next = Pem::write(dir.path());
    let is_shown = async || shown(&gateway).await == next.der;
    eventually(SOON, "a valid one is shown", is_shown).await;
    all_is_well(&gateway).await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_will_is_told_at_the_start_and_by_check() {
    let redis = Redis::start().await;
    for (to, level, message, words) in [
        (-3, "ERROR", "clients reject the certificate", "it expired on 20"),
        (2, "WARN", "the certificate expires soon", "it expires on 20"),
        (13, "WARN", "the certificate expires soon", "in 12 days; renew it"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let pem = Pem::write_for(dir.path(), -80, to);
        let gateway = Gateway::build(&redis).tls(&tls(&pem)).start().await;
        gateway.logs(message).await;
        let told = lines(&gateway, level, message);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0]["problem"].as_str().unwrap().contains(words), "{told:?}");
        verbose_says(&gateway, &["[!]", "certificate of", words]).await;
        assert_eq!(shown(&gateway).await, pem.der);

        let check = Program::new(env!("CARGO_BIN_EXE_ssegate"));
        let check = check.args(["check"]).dir(gateway.dir()).env("HOME", dir.path());
        let output = check.output(SOON).await;
        assert_eq!(output.code(), 0, "a gateway runs with it: {output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
    }
}

#[tokio::test]
async fn a_backend_that_is_back_is_reported_without_a_request() {
    let redis = Redis::start().await;
    let port = free_port();
    let upstream = format!("http://127.0.0.1:{port}");
    let gateway = Gateway::build(&redis).route(&proxy("/{*rest}", &upstream, "")).start().await;
    gateway.becomes(200, SOON).await;
    let label = format!("upstream=\"{upstream}\"");
    for outage in 1..=2 {
        assert_eq!(gateway.get("/x").await.status, 502);
        // Logged at once, the second time too.
        let told =
            async || lines(&gateway, "WARN", "the request to the backend failed").len() == outage;
        eventually(SOON, "the outage is logged with its request", told).await;
        assert_eq!(gateway.metrics().await.sum("ssegate_upstream_up", &[&label]), 0.0);
        let backend = serve(port, Duration::ZERO).await;
        all_is_well(&gateway).await;
        assert_eq!(gateway.metrics().await.sum("ssegate_upstream_up", &[&label]), 1.0);
        let told = async || lines(&gateway, "INFO", "the backend responds again").len() == outage;
        eventually(SOON, "the recovery is logged", told).await;
        assert!(lines(&gateway, "WARN", "the backend keeps failing").is_empty());
        drop(backend);
    }
}

/// A backend that shows this certificate and keeps its connections, until it is dropped.
async fn serve_tls(port: u16, pem: &Pem) -> tokio::task::JoinSet<()> {
    let acceptor = pem.acceptor();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                if let Ok(mut stream) = acceptor.accept(socket).await {
                    drop(stream.read_u8().await);
                }
            });
        }
    });
    tasks
}

#[tokio::test]
async fn a_backend_whose_certificate_is_right_again_is_reported_without_a_request() {
    let redis = Redis::start().await;
    let (right, wrong) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let [right, wrong] = [&right, &wrong].map(|dir| Pem::write(dir.path()));
    let port = free_port();
    let upstream = format!("https://127.0.0.1:{port}");
    let tls = format!(", tls: {{ ca: \"{}\" }}", right.authority.display());
    let gateway = Gateway::build(&redis).route(&proxy("/{*rest}", &upstream, &tls)).start().await;
    gateway.becomes(200, SOON).await;
    let label = format!("upstream=\"{upstream}\"");
    let is_up = async || gateway.metrics().await.sum("ssegate_upstream_up", &[&label]) > 0.0;
    let mut backend = serve_tls(port, &wrong).await;
    assert_eq!(gateway.get("/x").await.status, 502);
    assert!(!is_up().await);
    backend.shutdown().await;
    let backend = serve_tls(port, &right).await;
    eventually(2 * SOON, "the backend is up", is_up).await;
    all_is_well(&gateway).await;
    drop(backend);
}

/// The lines about file descriptors.
fn of_files(gateway: &Gateway) -> Vec<String> {
    let log = gateway.log();
    log.lines().filter(|line| line.contains("file descriptors")).map(str::to_owned).collect()
}

/// docs/RUNBOOK.md: what mends it at once.
#[tokio::test]
async fn a_limit_of_file_descriptors_that_is_raised_serves_all_who_wait_and_closes_nothing() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    gateway.becomes(200, SOON).await;
    let pid = gateway.id().to_string();
    let limit = async |most: &str| {
        // With a colon: only the soft limit, which needs no root.
        let arguments = ["--pid", &pid, &format!("--nofile={most}:")];
        Program::new("/usr/bin/prlimit").args(arguments).output(SOON).await.success();
    };
    limit("160").await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (request, to) = (Request::events("/events/news"), gateway.address("http"));
        waiting.spawn(request.send_within(8 * SOON, Via::Http1, to));
    }
    gateway.becomes(503, SOON).await;
    limit("2000").await;
    let mut streams = Vec::new();
    while let Some(stream) = within(SOON, "each is served", waiting.join_next()).await {
        streams.push(stream.unwrap());
    }
    gateway.becomes(200, SOON).await;
    gateway.counts("ssegate_streams", &[], 200.0).await;
}

#[tokio::test]
async fn file_descriptors_that_are_used_up_are_told_once_and_make_it_not_ready() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).under(&["prlimit", "--nofile=160"]).start().await;
    gateway.becomes(200, SOON).await;
    let to = gateway.address("http");
    let mut streams = Vec::new();
    // More than there is room for; the rest waits in the kernel.
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let request = Request::events("/events/news");
        waiting.spawn(request.send_within(8 * SOON, Via::Http1, to));
    }
    gateway.becomes(503, SOON).await;
    let (_, text) = verbose(&gateway).await;
    let line = text.lines().find(|line| line.contains("descriptors")).unwrap();
    assert!(
        line.starts_with("[-] descriptors failed: file_descriptors: limit of 160 reached"),
        "{line}"
    );
    assert!(line.contains("since 20"), "{line}");
    assert_eq!(gateway.admin("/readyz?exclude=descriptors").await.status, 200);
    assert_eq!(gateway.metrics().await.sum("ssegate_file_descriptors_short", &[]), 1.0);
    let page = gateway.admin("/").await.text().await;
    assert!(page.contains("limit of 160 reached"), "{page}");

    // Clients come and go: the log does not.
    for _ in 0..20 {
        let stream = within(SOON, "one is served", waiting.join_next()).await.unwrap().unwrap();
        drop(stream);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = of_files(&gateway);
    assert_eq!(told.len(), 1, "{told:?}");
    let told: Value = serde_json::from_str(&told[0]).unwrap();
    assert_eq!((&told["level"], &told["fields"]["limit"]), (&"WARN".into(), &160.into()));
    assert!(told["fields"]["connections"].as_u64().is_some_and(|n| n > 20), "{told}");

    while let Some(stream) = within(SOON, "the others are served", waiting.join_next()).await {
        streams.push(stream.unwrap());
        streams.truncate(10);
    }
    gateway.becomes(200, SOON).await;
    gateway.logs("file descriptors are available").await;
    let told = of_files(&gateway);
    assert_eq!(told.len(), 2, "{told:?}");
    let told: Value = serde_json::from_str(&told[1]).unwrap();
    assert_eq!(told["level"], "INFO");
    assert!(told["fields"]["pauses"].as_u64().is_some_and(|pauses| pauses > 0), "{told}");
    assert_eq!(gateway.metrics().await.sum("ssegate_file_descriptors_short", &[]), 0.0);
}

#[tokio::test]
async fn operators_are_served_when_the_limit_of_file_descriptors_is_lowered_at_runtime() {
    let redis = Redis::start().await;
    for idle in [0, 300] {
        let gateway = Gateway::start(&redis).await;
        gateway.becomes(200, SOON).await;
        let to = gateway.address("http");
        let mut clients = Vec::new();
        for _ in 0..idle {
            clients.push(TcpStream::connect(to).await.unwrap());
        }
        let accepted = async || gateway.open_files() >= idle;
        eventually(SOON, "all are accepted", accepted).await;
        let process = rustix::process::Pid::from_raw(i32::try_from(gateway.id()).unwrap());
        let limit = rustix::process::Rlimit { current: Some(120), maximum: Some(20_000) };
        rustix::process::prlimit(process, rustix::process::Resource::Nofile, limit).unwrap();
        for _ in 0..200 {
            clients.push(TcpStream::connect(to).await.unwrap());
        }
        gateway.becomes(503, SOON).await;
        for _ in 0..20 {
            let (_, text) = verbose(&gateway).await;
            assert!(text.contains("[-] descriptors failed"), "{text}");
            let metrics = gateway.metrics().await;
            assert_eq!(metrics.sum("ssegate_file_descriptors_short", &[]), 1.0);
        }
        let log = gateway.log();
        assert!(!log.contains("cannot accept on the admin listener"), "{log}");
        // The reserve is that of the new limit.
        let kept = async || gateway.open_files() <= 120 - 32 + 4;
        eventually(4 * SOON, "idle connections make room", kept).await;
        drop(clients);
        gateway.becomes(200, 2 * SOON).await;
    }
}

#[tokio::test]
async fn redis_that_is_killed_or_hangs_is_told_with_its_cause() {
    let mut redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    all_is_well(&gateway).await;
    let _stream = gateway.subscribe("/events/news").await;

    redis.signal(Signal::STOP);
    gateway.becomes(503, 2 * SOON).await;
    let line = verbose_says(&gateway, &["[-] redis failed: timeout: ", "since 20"]).await;
    measured(&line);
    redis.signal(Signal::CONT);
    all_is_well(&gateway).await;

    redis.kill();
    verbose_says(&gateway, &["[-] redis failed: connection: 127.0.0.1:", "refused", "since 20"])
        .await;
    let page = gateway.admin("/").await.text().await;
    assert!(page.contains("connection: "), "{page}");
}

#[tokio::test]
async fn a_reload_that_failed_is_told_until_the_next_one() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    all_is_well(&gateway).await;
    let mut good = String::new();
    gateway.rewrite(|text| {
        good.clone_from(&text);
        format!("{text}drain: soon\nroute: []\n")
    });
    assert!(!gateway.reload().await);
    let line = verbose_says(&gateway, &["[!] configuration: ", "drain", "and 1 more"]).await;
    assert!(
        line.contains("the old configuration stays in use") && line.contains("since 20"),
        "{line}"
    );
    gateway.becomes(200, SOON).await;
    gateway.rewrite(|_| good);
    assert!(gateway.reload().await);
    all_is_well(&gateway).await;
}

#[tokio::test]
async fn readers_that_are_too_slow_are_told() {
    const SLOW: &str = "streams were closed because their clients read too slowly; on routes \
                        with a history they resume after reconnecting";
    let redis = Redis::start().await;
    let settings = "sse: { queue: { bytes: 64KiB } }\nsockets: { send_buffer: 8KiB }";
    let gateway = Gateway::build(&redis).settings(settings).start().await;
    all_is_well(&gateway).await;
    let socket = stalled(gateway.address("http")).await;
    let mut reader = gateway.subscribe("/events/news").await;
    let big = "x".repeat(32 << 10);
    let reason = ["reason=\"lagged\""];
    eventually(SOON, "the slow one is closed", async || {
        redis.publish("news", &big).await;
        assert_eq!(reader.next_event().await.data.len(), big.len());
        gateway.metrics().await.sum("ssegate_streams_closed_total", &reason) >= 1.0
    })
    .await;
    verbose_says(
        &gateway,
        &["[!] slow readers: ", "1 streams were closed", "; /events/{channel}: 1; since 20"],
    )
    .await;
    gateway.logs(SLOW).await;
    assert_eq!(lines(&gateway, "WARN", SLOW).len(), 1);
    drop(socket);
}

/// Asks for a stream and never reads.
async fn stalled(to: std::net::SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut socket = TcpStream::from_std(socket.into()).unwrap();
    let request = b"GET /events/news HTTP/1.1\r\nhost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut socket, request).await.unwrap();
    socket
}

#[tokio::test]
async fn what_a_reload_left_behind_is_no_backend_any_more() {
    let redis = Redis::start().await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let gateway = Gateway::build(&redis).route(&proxy("/dead", &dead, "")).start().await;
    gateway.becomes(200, SOON).await;
    assert_eq!(gateway.get("/dead").await.status, 502);
    verbose_says(&gateway, &["[!] backend", &dead]).await;
    gateway.rewrite(|text| text.split("  - path: /dead").next().unwrap().to_owned());
    assert!(gateway.reload().await);
    all_is_well(&gateway).await;
}
