//! Pipes, devices and huge files where the configuration names a file: an error at once, and nothing waits.

use std::collections::HashSet;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::support::{Gateway, Pem, Program, Redis, SOON, eventually};

const FAILED: &str = "reload failed; the old configuration stays in use";

/// A configuration without mistakes.
const RIGHT: &str = "\
listeners: [{ address: \"127.0.0.1:0\" }]
redis: { url: \"redis://127.0.0.1:6379\" }
routes: [{ path: /events, events: { channels: [news] } }]
";

/// A pipe that nobody writes to.
fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Twenty megabytes that take no space.
fn make_huge(path: &Path) {
    std::fs::File::create(path).unwrap().set_len(20 << 20).unwrap();
}

fn make_device(path: &Path) {
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
}

/// Makes something that is no file of configuration.
type Make = fn(&Path);

/// A gateway with TLS and with a backend whose certificate is signed by `ca.pem`.
async fn with_files(redis: &Redis, pem: &Pem, ca: &Path) -> Gateway {
    let (certificate, key) = (pem.certificate.display(), pem.key.display());
    std::fs::copy(&pem.certificate, ca).unwrap();
    let route = format!(
        "- path: /{{rest...}}\n  proxy: {{ upstream: \"https://127.0.0.1:1\", tls: {{ ca: \"{}\" }} }}\n",
        ca.display()
    );
    Gateway::build(redis)
        .tls(&format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}"))
        .route(&route)
        .start()
        .await
}

#[tokio::test]
async fn a_reload_does_not_wait_for_a_pipe_a_device_or_a_huge_file() {
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    let (pem, ca) = (Pem::write(dir.path()), dir.path().join("ca.pem"));
    let gateway = with_files(&redis, &pem, &ca).await;
    let mut stream = gateway.subscribe("/events/news").await;
    let config = gateway.dir().join("gateway.yaml");
    let makers: [(Make, &str); 3] = [
        (make_pipe, "a pipe, not a regular file"),
        (make_device, "a device, not a regular file"),
        (make_huge, "larger than 16 MiB"),
    ];
    for file in [&config, &ca, &pem.certificate, &pem.key] {
        let good = std::fs::read(file).unwrap();
        for (make, expected) in makers {
            std::fs::remove_file(file).unwrap();
            make(file);
            let before = gateway.said(FAILED).count();
            assert!(!gateway.reload().await, "{}: {expected}", file.display());
            let said: Vec<_> = gateway.said(FAILED).skip(before).collect();
            let told = said[0]["error"].as_str().unwrap().to_owned();
            assert!(told.contains(expected), "{}: {told}", file.display());
            std::fs::remove_file(file).unwrap();
            std::fs::write(file, &good).unwrap();
            assert!(gateway.reload().await, "{}: {expected}", file.display());
        }
    }
    redis.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
}

/// The files of a certificate are also read without a reload, when they change.
#[tokio::test]
async fn a_pipe_in_place_of_a_certificate_stops_no_event_and_no_shutdown() {
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    let (pem, ca) = (Pem::write(dir.path()), dir.path().join("ca.pem"));
    let mut gateway = with_files(&redis, &pem, &ca).await;
    let mut stream = gateway.subscribe("/events/news").await;
    for file in [&pem.certificate, &gateway.dir().join("gateway.yaml")] {
        std::fs::remove_file(file).unwrap();
        make_pipe(file);
    }
    let message = "cannot reload the certificate; the old one stays in use";
    eventually(SOON, "the pipe is noticed", async || gateway.said(message).count() > 0).await;
    redis.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
    drop(stream);
    assert!(!gateway.reload().await);
    gateway.terminate();
    assert!(gateway.exit_within(SOON).await.success());
}

/// The thread that has the source reads it for `rediss://`, those of the shards for backends.
#[tokio::test]
async fn a_pipe_in_place_of_the_certificates_of_the_system_is_told_and_stops_nothing() {
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("pipe.pem");
    make_pipe(&pipe);
    let directories = format!("{}:{}", dir.path().join("none").display(), pipe.display());
    let mut gateway = Gateway::build(&redis)
        .env("SSL_CERT_FILE", pipe.to_str().unwrap())
        .env("SSL_CERT_DIR", &directories)
        .route("- path: /{*rest}\n  proxy: { upstream: \"https://127.0.0.1:1\" }\n")
        .start()
        .await;
    let mut stream = gateway.subscribe("/events/news").await;
    assert_eq!(gateway.get("/backend").await.status, 502);
    gateway.logs("SSL_CERT_FILE cannot be read").await;
    let unread = gateway.said("SSL_CERT_DIR cannot be read: no certificate in it is trusted");
    let unread: HashSet<_> = unread.map(|line| line["directory"].to_string()).collect();
    assert_eq!(unread.len(), 2, "each of the directories: {unread:?}");
    redis.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
    drop(stream);
    gateway.terminate();
    assert!(gateway.exit_within(SOON).await.success());
}

/// What a command in a shell exits with, and says of mistakes.
async fn shell(command: &str) -> (i32, String) {
    // A gibibyte of memory at most: /dev/zero has no end.
    let command =
        format!("ulimit -v 1048576; {}", command.replace("ssegate", env!("CARGO_BIN_EXE_ssegate")));
    let output = Program::new("/bin/bash").args(["-c", &command]).output(SOON).await;
    (output.code(), output.stderr)
}

#[tokio::test]
async fn a_configuration_out_of_a_pipe_is_read_at_the_start() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("gateway.yaml");
    std::fs::write(&file, RIGHT).unwrap();
    let file = file.display();
    for command in [
        format!("cat {file} | ssegate check -c /dev/stdin"),
        format!("(sleep 0.3; cat {file}) | ssegate check -c /dev/stdin"),
        format!("ssegate check -c <(sleep 0.3; cat {file})"),
        format!(
            "mkfifo {file}.pipe; (sleep 0.3; cat {file} > {file}.pipe) & ssegate check -c {file}.pipe"
        ),
        format!("ssegate check -c /dev/stdin < {file}"),
        format!("ssegate check -c - < {file}"),
    ] {
        let (code, said) = shell(&command).await;
        assert_eq!(code, 0, "{command}: {said}");
    }
    for command in ["ssegate check -c /dev/zero", "ssegate check -c - < /dev/zero"] {
        let (code, said) = shell(command).await;
        assert_eq!(code, 64, "{command}: {said}");
        assert!(said.contains("larger than 16 MiB"), "{command}: {said}");
    }
}
