//! Mistakes in gateway.yaml: all at once, each with its place and the way to mend it; exit 64.

use std::path::Path;

use tempfile::TempDir;

use crate::support::{Pem, Program, SOON, indent};

/// What `ssegate check` says to a file, and its exit code.
async fn check(dir: &Path, yaml: &str) -> (i32, String) {
    std::fs::write(dir.join("gateway.yaml"), yaml).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["check"]).dir(dir);
    let output = program.output(SOON).await;
    (output.code(), format!("{}{}", output.stdout, output.stderr))
}

/// A file that is right, with `routes` and further `settings`.
fn file(settings: &str, routes: &str) -> String {
    let routes = indent(routes, 2);
    format!(
        "listeners:\n  - address: 127.0.0.1:0\nredis:\n  url: redis://127.0.0.1:6379\n{settings}routes:\n{routes}"
    )
}

const ROUTE: &str = "- path: /events\n  events: { channels: [news] }\n";

#[tokio::test]
async fn a_right_file_is_exit_0() {
    let dir = TempDir::new().unwrap();
    let (code, said) = check(dir.path(), &file("", ROUTE)).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn the_shipped_file_is_right() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml");
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["check", "-c"]).arg(&shipped);
    let program = program.env_remove("REDIS_URL").env_remove("BACKEND_URL");
    program.output(SOON).await.success();
}

#[tokio::test]
async fn every_mistake_is_told_with_its_place() {
    let dir = TempDir::new().unwrap();
    let yaml = "\
listeners:
  - address: 127.0.0.1:0
    tls: { certificate: /nowhere/cert.pem, key: /nowhere/key.pem }
redis:
  url: mysql://127.0.0.1
sse:
  keep_alife: 15s
routes:
  - path: /events
    events:
      channels: [\"{channel}\"]
      history: { age: 5 parsecs }
  - path: /both
    events: { channels: [a] }
    proxy: { upstream: \"http://127.0.0.1:8000\" }
";
    let (code, said) = check(dir.path(), yaml).await;
    assert_eq!(code, 64, "{said}");
    let expected = [
        ("listeners[0].tls.certificate", "no such file: /nowhere/cert.pem", ":3:"),
        ("listeners[0].tls.key", "/nowhere/key.pem", ":3:"),
        ("redis.url", "redis://", ":5:8"),
        ("sse", "keep_alive", ":7:"),
        ("routes[0].events.channels[0]", "{query.channel}", ":11:"),
        ("routes[0].events.history.age", "\"5 parsecs\" is not a duration", ":12:"),
        ("routes[1]", "has events and proxy", ":13:"),
    ];
    for (path, words, place) in expected {
        let line = said.lines().find(|line| line.contains(path) && line.contains(words));
        let line = line.unwrap_or_else(|| panic!("nothing of {path} with {words:?} in:\n{said}"));
        assert!(line.contains(&format!("gateway.yaml{place}")), "{line}");
    }
}

#[tokio::test]
async fn run_refuses_a_wrong_file_like_check() {
    let dir = TempDir::new().unwrap();
    let wrong = file("no_such_key: 1\n", ROUTE);
    let (_, said) = check(dir.path(), &wrong).await;
    let run = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["run"]).dir(dir.path());
    let output = run.output(SOON).await;
    assert_eq!(output.code(), 64, "{output:?}");
    let first = said.lines().find(|line| line.contains("no_such_key")).unwrap();
    assert!(output.stderr.contains("no_such_key"), "{first}\n{}", output.stderr);
}

#[tokio::test]
async fn variables_are_filled_in_wherever_they_stand() {
    let dir = TempDir::new().unwrap();
    let yaml = file("", ROUTE).replace("redis://127.0.0.1:6379", "${MY_REDIS:?where Redis is}");
    let run = |value: Option<&str>| {
        std::fs::write(dir.path().join("gateway.yaml"), &yaml).unwrap();
        let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["check"]).dir(dir.path());
        match value {
            Some(value) => program.env("MY_REDIS", value),
            None => program.env_remove("MY_REDIS"),
        }
        .output(SOON)
    };
    let unset = run(None).await;
    assert_eq!(unset.code(), 64);
    let said = format!("{}{}", unset.stdout, unset.stderr);
    assert!(said.contains("MY_REDIS") && said.contains("where Redis is"), "{said}");
    run(Some("redis://127.0.0.1:7000")).await.success();
}

#[tokio::test]
async fn secrets_are_never_printed() {
    let dir = TempDir::new().unwrap();
    for url in [
        "redis://user:hunter2@[::1",
        "redis://:hunter2@127.0.0.1:notaport",
        "mysql://user:hunter2@127.0.0.1",
        "embedded://user:hunter2@127.0.0.1:6380",
    ] {
        let yaml = file("", ROUTE).replace("redis://127.0.0.1:6379", url);
        let (code, said) = check(dir.path(), &yaml).await;
        assert_eq!(code, 64, "{url}: {said}");
        assert!(!said.contains("hunter2"), "{url}: {said}");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_one_clear_line() {
    let dir = TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    let tls = format!("tls: {{ certificate: {} }}", pem.certificate.display());
    let yaml = file("", ROUTE).replace("127.0.0.1:0\n", &format!("127.0.0.1:0\n    {tls}\n"));
    let (code, said) = check(dir.path(), &yaml).await;
    assert_eq!(code, 64, "{said}");
    let lines: Vec<_> = said.lines().filter(|line| line.contains("gateway.yaml:")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("listeners[0].tls") && lines[0].contains("key"), "{said}");
}

#[tokio::test]
async fn a_mistake_of_yaml_itself_comes_alone() {
    let dir = TempDir::new().unwrap();
    let (code, said) = check(dir.path(), "listeners: [\nroutes: }\n").await;
    assert_eq!(code, 64, "{said}");
    let lines: Vec<_> = said.lines().filter(|line| line.contains("gateway.yaml:")).collect();
    assert_eq!(lines.len(), 1, "{said}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    for command in ["check", "run"] {
        let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args([command]).dir(dir.path());
        let output = program.output(SOON).await;
        assert_eq!(output.code(), 64, "{output:?}");
        assert!(output.stderr.contains("gateway.yaml"), "{output:?}");
    }
}
