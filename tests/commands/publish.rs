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
    assert!(said.ends_with("; is Redis running?\n"), "{said}");

    let embedded = format!("embedded://127.0.0.1:{port}");
    let output = run(&["pub", "news", "hello", "--redis", &embedded]);
    let said = stderr(&output);
    assert!(
        said.ends_with("; is the gateway running? The embedded bus is a part of it\n"),
        "{said}"
    );
}

/// A real Redis on a socket of its own: no port to share.
struct Redis {
    process: Child,
    directory: TempDir,
}

impl Redis {
    fn start() -> Self {
        Self::with(&["--port", "0"])
    }

    fn with(arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--unixsocket", "redis.sock", "--save", ""])
            .args(["--appendonly", "no"])
            .args(arguments)
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
fn pub_says_what_to_do_about_a_login_and_about_tls() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let redis = Redis::with(&["--port", &port.to_string(), "--requirepass", "right"]);
    let socket = redis.url();
    for (url, expected) in [
        (socket.clone(), "; put the password in the URL: redis://:password@host:6379"),
        (format!("{socket}?pass=wrong"), "; check the user and the password in the URL of Redis"),
        (
            format!("rediss://:right@127.0.0.1:{port}"),
            "; does this port speak TLS? If not, write redis:// in the URL",
        ),
    ] {
        let output = run(&["pub", "news", "hello", "--redis", &url]);
        assert_eq!(output.status.code(), Some(1), "{url}");
        let said = stderr(&output);
        assert!(said.trim_end().ends_with(expected), "{url}: {said}");
        assert!(!said.contains("wrong") && !said.contains("right"), "{said}");
    }
}

#[test]
fn pub_says_that_a_port_may_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    // As Redis does where a connection does not begin with a handshake.
    let closing = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let output = run(&["pub", "news", "hello", "--redis", &url]);
    let said = stderr(&output);
    let expected = "; does this port speak TLS? Then write rediss:// in the URL";
    assert!(said.trim_end().ends_with(expected), "{said}");
    closing.join().unwrap();
}

#[test]
fn pub_says_whom_a_message_does_not_reach() {
    let redis = Redis::start();
    for (routes, arguments, expected) in [
        (
            "{ path: /x, events: { channels: [news] } }",
            &["other"][..],
            "no stream can follow \"other\"",
        ),
        (
            "{ path: \"/{id}\", events: { channels: [\"user:{id}\"] } }",
            &["order:7"],
            "no stream can follow",
        ),
        ("{ path: \"/{id}\", events: { channels: [\"user:{id}\"] } }", &["user:7"], ""),
        (
            "{ path: /x, events: { channels: [news], strip_prefix: \"app:\" } }",
            &["news"],
            "no stream can",
        ),
        ("{ path: /x, events: { channels: [news], strip_prefix: \"app:\" } }", &["app:news"], ""),
        (
            "{ path: /x, events: { channels: [news] } }",
            &["__keyspace@0__:x"],
            "no stream can follow this",
        ),
        ("{ path: /x, events: { channels: [news], source: stream } }", &["news"], "use XADD"),
        (
            "{ path: /x, events: { channels: [news], format: envelope } }, \
             { path: /raw, events: { channels: [news] } }",
            &["news", "--event", "ping"],
            "clients of /raw get the JSON as data",
        ),
        (
            "{ path: /x, events: { channels: [news], format: envelope } }, \
             { path: /raw, events: { channels: [other] } }",
            &["news", "--event", "ping"],
            "",
        ),
    ] {
        let yaml = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"{}\" }}\nroutes: [{routes}]\n",
            redis.url()
        );
        std::fs::write(redis.directory.path().join("gateway.yaml"), yaml).unwrap();
        let (channel, more) = arguments.split_first().unwrap();
        let arguments = [&["pub", channel, "x"], more].concat();
        let output = ssegate(&arguments, &redis.directory).output().unwrap();
        assert_eq!(stdout(&output), "0 receivers\n", "{routes}: {}", stderr(&output));
        let said = stderr(&output);
        match expected {
            "" => assert_eq!(said, "", "{routes}"),
            _ => {
                assert!(said.starts_with("ssegate: warning: ") && said.contains(expected), "{said}")
            }
        }
    }
}

#[test]
fn pub_says_where_no_route_reads_envelopes_and_only_there() {
    const WARNING: &str = "no route of this channel has format: envelope";
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
