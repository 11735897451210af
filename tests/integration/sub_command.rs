//! `ssegate sub` at a gateway: patterns, and streams that begin in the past.

use std::path::Path;

use crate::support::{Gateway, Output, Program, Redis, SOON, eventually};

const ROUTES: &str = "\
- { path: \"/orders/{id}\", events: { channels: [\"orders:{id}\"], source: stream } }
- { path: /events, events: { channels: [\"{query.channel}\"], patterns: true } }
";

/// The configuration by which the command finds the gateway: its first listener, which the system has chosen.
fn write_found(gateway: &Gateway, dir: &Path) {
    let address = gateway.address("http");
    let routes = ROUTES.replace("- {", "  - {");
    let yaml = format!(
        "listeners: [{{ address: \"{address}\" }}]\nadmin: off\nredis: {{ url: \"redis://127.0.0.1:1\" }}\n\
         routes:\n{routes}"
    );
    std::fs::write(dir.join("gateway.yaml"), yaml).unwrap();
}

fn sub(dir: &Path, arguments: &[&str]) -> Program {
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).dir(dir);
    program.args(["sub", "--for", "10s"]).args(arguments.iter().copied())
}

fn data(output: &Output) -> Vec<&str> {
    output.stdout.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

#[tokio::test]
async fn a_pattern_is_followed_by_its_name() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).routes(ROUTES).start().await;
    let dir = tempfile::tempdir().unwrap();
    write_found(&gateway, dir.path());
    let mut process = sub(dir.path(), &["news:*", "-n", "2"]).start();
    eventually(SOON, "the pattern is subscribed", async || {
        redis.publish("news:de", "eins").await;
        process.stdout().iter().any(|line| line == "data: eins")
    })
    .await;
    redis.publish("sport:de", "no").await;
    redis.publish("news:fr", "deux").await;
    assert!(process.exit_within(SOON).await.success(), "{}", process.log());
}

#[tokio::test]
async fn a_stream_begins_at_a_time_or_with_all_that_redis_has() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).routes(ROUTES).start().await;
    let dir = tempfile::tempdir().unwrap();
    write_found(&gateway, dir.path());
    // 2026-05-01T12:00:00Z, and the minutes around it.
    let noon = 1_777_636_800_000_u64;
    for (at, word) in [(noon - 1, "before"), (noon, "at"), (noon + 60_000, "after")] {
        redis.command::<String>(&["XADD", "orders:7", &format!("{at}-3"), "data", word]).await;
    }
    for (since, expected) in [
        ("beginning", &["before", "at", "after"][..]),
        ("2026-05-01T12:00:00Z", &["at", "after"]),
        ("2026-05-01T14:00+02:00", &["at", "after"]),
        ("1777636800000-3", &["after"]),
    ] {
        let count = expected.len().to_string();
        let output =
            sub(dir.path(), &["orders:7", "-n", &count, "--since", since]).output(SOON).await;
        assert_eq!(output.code(), 0, "{output:?}");
        assert_eq!(data(&output), expected, "{since}");
        assert!(output.stderr.ends_with("0 reconnects; no gap"), "{output:?}");
    }
    // By its address, too, of which the configuration says nothing.
    let url = format!("http://{}/orders/7", gateway.address("http"));
    let output = sub(dir.path(), &[&url, "-n", "3", "--since", "beginning"]).output(SOON).await;
    assert_eq!(data(&output), ["before", "at", "after"]);
}
