//! Metrics, health, and who may ask.

use std::io::Write;
use std::process::{Command, Stdio};

use tokio::net::TcpStream;

use crate::support::{Gateway, Program, Redis, Request, Response, SOON, Via, eventually};

async fn ask(gateway: &Gateway, request: Request) -> Response {
    request.send(Via::Http1, gateway.address("admin")).await
}

#[tokio::test]
async fn livez_and_readyz_answer_200_when_all_is_well() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    gateway.becomes(200, SOON).await;
    for target in ["/livez", "/readyz", "/livez?verbose", "/readyz?verbose"] {
        assert_eq!(gateway.admin(target).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn readiness_depends_on_redis_and_says_so() {
    let mut redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    gateway.becomes(200, SOON).await;
    redis.kill();
    gateway.becomes(503, SOON).await;

    let verbose = gateway.admin("/readyz?verbose").await;
    assert_eq!(verbose.status, 503);
    let checks = verbose.text().await;
    let redis_line = checks.lines().find(|line| line.contains("redis"));
    assert!(redis_line.is_some_and(|line| line.contains("[-]")), "{checks}");
    assert!(checks.lines().any(|line| line.contains("[+]")), "{checks}");

    assert_eq!(gateway.admin("/readyz?exclude=redis").await.status, 200);
    assert_eq!(gateway.admin("/livez").await.status, 200, "away is not dead");
}

#[tokio::test]
async fn readiness_does_not_depend_on_backends() {
    let redis = Redis::start().await;
    let down = "- path: /{*rest}\n  proxy: { upstream: \"http://127.0.0.1:1\" }\n";
    let gateway = Gateway::build(&redis).route(down).start().await;
    assert_eq!(gateway.get("/").await.status, 502);
    gateway.becomes(200, SOON).await;
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut streams = gateway.subscribe_all("/events/news", 3).await;
    streams.push(gateway.subscribe_via(Via::Http2, "/events/news").await);
    redis.publish("news", "hello").await;
    for stream in &mut streams {
        stream.next_event().await;
    }
    assert_eq!(gateway.get("/nothing").await.status, 404);

    let sent = async || gateway.metrics().await.sum("ssegate_events_sent_total", &[]) == 4.0;
    eventually(SOON, "four events are counted", sent).await;
    let metrics = gateway.metrics().await;
    let expected: [(&str, &[&str], f64); 12] = [
        ("ssegate_streams", &["protocol=\"h1\"", "route=\"/events/{channel}\""], 3.0),
        ("ssegate_streams", &["protocol=\"h2\""], 1.0),
        ("ssegate_streams_opened_total", &[], 4.0),
        ("ssegate_streams_closed_total", &[], 0.0),
        ("ssegate_delivery_latency_seconds_count", &[], 4.0),
        ("ssegate_redis_connected", &[], 1.0),
        ("ssegate_redis_reconnects_total", &[], 0.0),
        ("ssegate_redis_messages_received_total", &[], 1.0),
        ("ssegate_channels", &[], 1.0),
        ("ssegate_subscriptions", &[], 4.0),
        ("ssegate_events_dropped_total", &[], 0.0),
        ("ssegate_gaps_total", &[], 0.0),
    ];
    for (name, labels, value) in expected {
        assert!(metrics.has(name, labels), "{name} {labels:?} is not there");
        assert_eq!(metrics.sum(name, labels), value, "{name} {labels:?}");
    }
    for name in [
        "ssegate_build_info",
        "ssegate_stream_bytes_sent_total",
        "ssegate_connections",
        "ssegate_connections_accepted_total",
        "ssegate_tls_certificate_expiry_timestamp_seconds",
        "ssegate_http_requests_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(metrics.has(name, &[]), "{name} is not there");
    }

    streams.clear();
    gateway.counts("ssegate_streams_closed_total", &["reason=\"client_left\""], 4.0).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_stream_age_seconds_count", &[]), 4.0);
    assert_eq!(metrics.sum("ssegate_streams", &[]), 0.0);
}

#[tokio::test]
async fn no_label_has_a_clients_input() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/needle-channel?x=needle-query").await;
    redis.publish("needle-channel", "needle-payload").await;
    stream.next_event().await;
    let strange = Request::new("NEEDLE", "/needle-path").host("needle.example");
    let strange = strange.header("origin", "https://needle.example").header("user-agent", "needle");
    gateway.send(Via::Http1, strange).await;
    let metrics = gateway.metrics().await;
    let found: Vec<_> = metrics.names().filter(|name| name.contains("needle")).collect();
    assert_eq!(found, Vec::<&str>::new());
}

#[tokio::test]
async fn a_failed_handshake_is_counted() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut socket = TcpStream::connect(gateway.address("https")).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    gateway.counts("ssegate_tls_handshake_failures_total", &[], 1.0).await;
}

#[tokio::test]
async fn a_page_of_another_origin_may_not_ask() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let own = format!("http://{}", gateway.address("admin"));
    for target in ["/metrics", "/livez", "/readyz", "/"] {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
            let response = ask(&gateway, Request::get(target).header("origin", origin)).await;
            assert_eq!(response.status, 403, "{target} from {origin}");
            assert_eq!(response.header("access-control-allow-origin"), "");
        }
        let response = ask(&gateway, Request::get(target).header("origin", &own)).await;
        assert_ne!(response.status, 403, "{target} from its own origin");
    }
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_is_refused() {
    let redis = Redis::start().await;
    let admin = "{ address: \"127.0.0.1:0\", hosts: [ssegate] }";
    let gateway = Gateway::build(&redis).admin(admin).start().await;
    for host in ["evil.example", "evil.example:9464", "localhost.evil.example", "ssegate.evil", ""]
    {
        let response = ask(&gateway, Request::get("/metrics").host(host)).await;
        assert!((400..500).contains(&response.status), "{host:?}: {}", response.status);
    }
    for host in
        ["localhost", "LOCALHOST:9464", "127.0.0.1:1", "[::1]", "10.0.0.7:9464", "ssegate:9464"]
    {
        let response = ask(&gateway, Request::get("/metrics").host(host)).await;
        assert_eq!(response.status, 200, "{host}");
    }
}

#[tokio::test]
async fn the_admin_listener_serves_no_streams_and_the_others_no_metrics() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    assert_eq!(gateway.admin("/events/news").await.status, 404);
    for target in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(gateway.get(target).await.status, 404, "{target}");
    }
}

#[tokio::test]
#[ignore = "needs promtool of the package prometheus: run by tests/run"]
async fn promtool_has_nothing_to_say() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe_via(Via::Http2, "/events/news").await;
    redis.publish("news", "hello").await;
    stream.next_event().await;
    let text = gateway.admin("/metrics").await.text().await;

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert!(output.status.success());
}

#[tokio::test]
async fn operators_who_say_nothing_do_not_pile_up() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let publishes = async || {
        let clients: String = redis.command(&["CLIENT", "LIST"]).await;
        clients.contains("cmd=publish")
    };
    eventually(SOON, "its own connections are open", publishes).await;
    let files = gateway.open_files();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(gateway.address("admin")).await.unwrap());
    }
    let full = async || gateway.open_files() >= files + 64;
    eventually(SOON, "as many as may are let in", full).await;
    assert!(gateway.open_files() <= files + 66, "{} files more", gateway.open_files() - files);
    // The last one in the row has its turn when the first ones have had their time.
    assert_eq!(gateway.admin("/livez").await.status, 200);
}

#[tokio::test]
async fn with_auth_only_the_probes_need_no_credential() {
    let redis = Redis::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let users = dir.path().join("users");
    // htpasswd -nbB -C 5 alice 'correct horse'
    let alice = "alice:$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve\n";
    std::fs::write(&users, alice).unwrap();
    // printf %s admin-token | sha256sum
    let token =
        "{ name: ops, sha256: 10a4c7c9fc5206d6f36dc6944a81bb6f4a3cb0e25014ae3b12e6c3e52712292a }";
    let admin = format!(
        "{{ address: \"127.0.0.1:0\", auth: {{ any: [{{ tokens: [{token}] }}, {{ basic: {{ users: {} }} }}] }} }}",
        users.display()
    );
    let gateway = Gateway::build(&redis).admin(&admin).start().await;
    let readiness = async || gateway.readiness().await == 200;
    eventually(SOON, "it is ready", readiness).await;
    let alice = "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==";
    for (credential, status) in [
        ("", 401),
        ("Bearer wrong", 401),
        ("Basic YWxpY2U6d3Jvbmc=", 401),
        ("Bearer admin-token", 200),
        (alice, 200),
    ] {
        let with = |target: &str| match credential {
            "" => Request::get(target),
            credential => Request::get(target).header("authorization", credential),
        };
        for target in ["/metrics", "/"] {
            let response = ask(&gateway, with(target)).await;
            assert_eq!(response.status, status, "{target} {credential}");
            let challenge = response.header("www-authenticate");
            let is_told =
                challenge.contains("Bearer realm=") && challenge.contains(", Basic realm=");
            assert_eq!(is_told, status == 401, "{challenge}");
        }
        for target in ["/livez", "/readyz"] {
            assert_eq!(ask(&gateway, with(target)).await.status, 200, "{target} {credential}");
        }
        let verbose = ask(&gateway, with("/readyz?verbose")).await;
        assert_eq!(verbose.status, 200);
        let text = verbose.text().await;
        assert_eq!(text.contains("redis"), status == 200, "{text}");
    }
    // The commands.
    let url = format!("http://{}", gateway.address("admin"));
    let metrics = |token: &str| {
        let program =
            Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["metrics", "--url", &url, "streams"]);
        program.env("SSEGATE_ADMIN_TOKEN", token).output(SOON)
    };
    assert!(metrics("admin-token").await.success().contains("ssegate_streams_resumed_total 0"));
    for wrong in ["", "wrong", "a\nb"] {
        let output = metrics(wrong).await;
        assert_eq!(output.code(), 1);
        assert!(output.stderr.contains("SSEGATE_ADMIN_TOKEN"), "{}", output.stderr);
    }
    // A reload changes it.
    gateway.rewrite(|yaml| {
        yaml.replace("tokens: [{ name: ops", "tokens: [{ name: ops2").replace(
            "10a4c7c9fc5206d6f36dc6944a81bb6f4a3cb0e25014ae3b12e6c3e52712292a",
            "394889a5b991a77dee30cc636d3f50a7697bcc1c9e7b9daea8acc2df488ee803",
        )
    });
    gateway.signal(rustix::process::Signal::HUP);
    for (token, status) in [("next-token", 200), ("admin-token", 401)] {
        eventually(SOON, token, async || {
            let bearer = format!("Bearer {token}");
            ask(&gateway, Request::get("/metrics").header("authorization", &bearer)).await.status
                == status
        })
        .await;
    }
    assert!(!gateway.log().contains("the change takes effect after a restart"));
}
