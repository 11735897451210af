//! How many lines there are, and what becomes of those that are too many.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::{InAnyForm, lines};
use crate::support::{Gateway, Program, Redis, Request, SOON, Via, eventually};

async fn gateway(redis: &Redis, log: &str) -> Gateway {
    Gateway::build(redis).settings(&format!("log: {{ {log} }}")).start().await
}

/// Waits until the gateway counts no open stream.
async fn all_closed(gateway: &Gateway) {
    let none = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "all streams are closed", none).await;
}

#[tokio::test]
async fn without_an_access_log_there_is_no_line() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    drop(gateway.subscribe("/events/news").await);
    gateway.get("/nowhere").await;
    all_closed(&gateway).await;
    assert_eq!(gateway.stdout(), [""; 0]);
}

#[tokio::test]
async fn a_share_of_the_requests_is_logged_and_streams_with_both_lines_or_none() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "access: 50%").await;
    for number in 0..200 {
        gateway.get(&format!("/nowhere/{number}")).await;
    }
    for number in 0..100 {
        drop(gateway.subscribe(&format!("/events?channel=c{number}")).await);
    }
    all_closed(&gateway).await;
    let written = gateway.metrics().await.sum("ssegate_access_log_lines_total", &[]);
    let all_read = async || gateway.stdout().len() as f64 == written;
    eventually(SOON, "all lines are read", all_read).await;
    let requests = lines(&gateway, "/nowhere").len();
    assert!((60..140).contains(&requests), "{requests} of 200");
    let mut streams: HashMap<String, Vec<String>> = HashMap::new();
    for line in lines(&gateway, "/events") {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        streams.entry(text("path")).or_default().push(text("event"));
    }
    assert!((25..75).contains(&streams.len()), "{} of 100", streams.len());
    for (path, events) in streams {
        assert_eq!(events, ["stream_opened", "stream_closed"], "{path}");
    }
}

#[tokio::test]
async fn only_errors_are_logged_where_the_operator_wants_that() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "access: errors").await;
    drop(gateway.subscribe("/events/news").await);
    gateway.send(Via::Http1, Request::new("HEAD", "/events/well")).await;
    gateway.get("/nowhere").await;
    gateway.send(Via::Http2, Request::new("PUT", "/events/news")).await;
    all_closed(&gateway).await;
    eventually(SOON, "two lines", async || gateway.stdout().len() >= 2).await;
    let lines = lines(&gateway, "/");
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [404, 405]);
}

#[tokio::test]
async fn lines_over_the_rate_are_left_out_and_counted() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "access: all, access_rate: 5").await;
    let asked = 200;
    let connection = crate::support::Http2::connect(Via::H2c, gateway.address("http")).await;
    let started = std::time::SystemTime::now();
    for number in 0..asked {
        let response = connection.send(Request::get(&format!("/nowhere/{number}"))).await;
        assert_eq!(response.status, 404);
        drop(response.text().await);
    }
    let seconds = started.elapsed().unwrap().as_secs() + 2;
    let counts = async || {
        let metrics = gateway.metrics().await;
        let count = |name: &str| metrics.sum(&format!("ssegate_access_log_lines_{name}"), &[]);
        (count("total"), count("left_out_total"))
    };
    let all = async || {
        let (written, left_out) = counts().await;
        written + left_out == f64::from(asked)
    };
    eventually(SOON, "every request is counted", all).await;
    let (written, _left_out) = counts().await;
    assert!(written >= 5.0 && written <= 5.0 * seconds as f64, "{written} in {seconds} s");
    eventually(SOON, "they are read", async || gateway.stdout().len() as f64 == written).await;
}

#[tokio::test]
async fn a_reload_changes_what_is_logged() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "access: off").await;
    let ask = async |target: &str| gateway.get(target).await.status;
    let change = async |from: &str, to: &str| {
        gateway.rewrite(|text| text.replace(from, to));
        assert!(gateway.reload().await);
    };
    assert_eq!(ask("/first").await, 404);
    let stream = gateway.subscribe("/events/before").await;
    change("access: off", "access: all").await;
    assert_eq!(ask("/second").await, 404);
    drop(stream);
    let open = gateway.subscribe("/events/after").await;
    eventually(SOON, "two lines", async || gateway.stdout().len() == 2).await;
    change("access: all", "access: off").await;
    drop(open);
    all_closed(&gateway).await;
    change("access: off", "access: errors, format: text").await;
    assert_eq!(ask("/third").await, 404);
    eventually(SOON, "a third line", async || gateway.stdout().len() == 3).await;
    let lines = lines(&gateway, "/");
    let paths: Vec<_> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/second", "/events/after", "/third"]);
    let warned = gateway.said("the change takes effect after a restart").collect::<Vec<Value>>();
    assert!(warned.iter().any(|fields| fields["key"] == "log.format"), "{warned:?}");
}

#[tokio::test]
async fn in_the_combined_form_a_stream_has_its_line_when_it_is_closed() {
    let redis = Redis::start().await;
    let builder = Gateway::build(&redis).settings("log: { format: text, access: all }");
    let gateway = InAnyForm::start(builder).await;
    let request = Request::events("/events/news").header("user-agent", "Mozilla/5.0 (X11)");
    let mut stream = request.send(Via::H2c, gateway.http).await.stream();
    stream.ready().await;
    assert_eq!(gateway.process.stdout(), [""; 0]);
    drop(stream);
    eventually(SOON, "its line", async || gateway.process.stdout().len() == 1).await;
    let line = &gateway.process.stdout()[0];
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("] \"GET /events/news HTTP/2.0\" 200 "), "{line}");
    assert!(line.ends_with(" \"-\" \"Mozilla/5.0 (X11)\""), "{line}");
}

#[tokio::test]
#[ignore = "needs goaccess: apt-get install goaccess"]
async fn goaccess_reads_every_line_of_the_combined_form() {
    const GOACCESS: &str = "/usr/bin/goaccess";
    assert!(Path::new(GOACCESS).exists(), "missing: apt-get install goaccess");
    let redis = Redis::start().await;
    let builder = Gateway::build(&redis).settings("log: { format: text, access: all }");
    let gateway = InAnyForm::start(builder).await;
    let targets = ["/events/news", "/a%22b?token=x", "/\"b\"\\x", "/nowhere", "/%0a%1b"];
    for target in targets {
        for agent in ["Mozilla/5.0 (X11; Linux x86_64) \"q\"", "", "\\", "a [b] {c}"] {
            let request = Request::get(target).header("user-agent", agent);
            let request = request.header("referer", "https://app.example/\"x");
            drop(request.send(Via::Http1, gateway.http).await);
        }
    }
    let count = targets.len() * 4;
    eventually(SOON, "all lines", async || gateway.process.stdout().len() == count).await;
    let dir = TempDir::new().unwrap();
    let (log, report) = (dir.path().join("access.log"), dir.path().join("report.json"));
    std::fs::write(&log, gateway.process.stdout().join("\n") + "\n").unwrap();
    let program = Program::new(GOACCESS).arg(&log).args([
        "--log-format=COMBINED",
        "--no-global-config",
        "-o",
    ]);
    program.arg(&report).dir(dir.path()).output(SOON).await.success();
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let general = &report["general"];
    assert_eq!(general["valid_requests"], count, "{general}");
    assert_eq!(general["failed_requests"], 0, "{general}");
}
