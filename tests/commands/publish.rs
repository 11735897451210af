//! `ssegate pub` against a real Redis.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::{run, ssegate, stderr, stdout};

#[test]
fn a_redis_that_is_not_there_is_one_clear_line_without_the_password() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("redis://user:secret@127.0.0.1:{port}/");
    let output = run(&["pub", "news", "hello", "--redis", &url]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with(&format!("ssegate: cannot connect to 127.0.0.1:{port}: ")));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains("secret"), "{said}");
}

/// A real Redis on a socket of its own: no port to share.
struct Redis {
    process: Child,
    directory: TempDir,
}

impl Redis {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"])
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let log = BufReader::new(process.stdout.take().unwrap());
        let is_ready = |line: &String| line.contains("ready to accept connections");
        log.lines().map_while(Result::ok).find(is_ready).expect("redis-server starts");
        Self { process, directory }
    }

    fn url(&self) -> String {
        format!("redis+unix://{}/redis.sock", self.directory.path().display())
    }

    /// What a subscriber of `channel` receives while `publish` runs.
    fn heard(&self, channel: &str, publish: impl FnOnce() -> Output) -> (Vec<u8>, Output) {
        let mut connection = redis::Client::open(self.url()).unwrap().get_connection().unwrap();
        let mut subscriber = connection.as_pubsub();
        subscriber.subscribe(channel).unwrap();
        let output = publish();
        assert!(output.status.success(), "{}", stderr(&output));
        (subscriber.get_message().unwrap().get_payload().unwrap(), output)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("it runs");
    }
}

#[test]
fn pub_publishes_and_counts_who_heard() {
    let redis = Redis::start();
    let url = redis.url();
    let to_nobody = run(&["pub", "news", "hello", "--redis", &url]);
    assert_eq!(stdout(&to_nobody), "0 receivers\n", "{}", stderr(&to_nobody));

    let (message, output) = redis.heard("news", || run(&["pub", "news", "-1 °C", "--redis", &url]));
    assert_eq!(String::from_utf8(message).unwrap(), "-1 °C");
    assert_eq!(stdout(&output), "1 receiver\n");

    let (message, _) = redis.heard("news", || {
        run(&["pub", "news", r#"{"a":1}"#, "--event", "ping", "--id", "7", "--redis", &url])
    });
    assert_eq!(
        String::from_utf8(message).unwrap(),
        r#"{"event":"ping","id":"7","data":"{\"a\":1}"}"#
    );
}

#[test]
fn pub_reads_any_bytes_from_stdin() {
    let redis = Redis::start();
    let directory = TempDir::new().unwrap();
    for (input, expected) in [
        (&b"hello\n"[..], &b"hello"[..]),
        (b"two\nlines\r\n", b"two\nlines"),
        (b"\n\n", b"\n"),
        (b"\xff\0", b"\xff\0"),
        (b"", b""),
    ] {
        let (message, _) = redis.heard("news", || {
            let mut child = ssegate(&["pub", "news", "-", "--redis", &redis.url()], &directory)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            child.wait_with_output().unwrap()
        });
        assert_eq!(message, expected);
    }
}

#[test]
fn pub_says_where_no_route_reads_envelopes_and_only_there() {
    const WARNING: &str = "no route has format: envelope";
    let redis = Redis::start();
    let key = "x".repeat(32);
    let proxy = "proxy: { upstream: \"http://127.0.0.1:1\" }";
    for (route, is_said) in [
        ("events: { channels: [news] }".to_owned(), true),
        ("events: { channels: [news], format: envelope }".to_owned(), false),
        (format!("{proxy}, handover: {{ key: {key} }}"), true),
        (format!("{proxy}, handover: {{ key: {key}, format: envelope }}"), false),
    ] {
        let yaml = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"{}\" }}\n\
             routes: [{{ path: /x, {route} }}]\n",
            redis.url()
        );
        std::fs::write(redis.directory.path().join("gateway.yaml"), yaml).unwrap();
        let arguments = ["pub", "news", "{}", "--event", "ping"];
        let output = ssegate(&arguments, &redis.directory).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output).contains(WARNING), is_said, "{route}: {}", stderr(&output));
    }
}
