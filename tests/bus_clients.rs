//! The embedded bus, published to by the client libraries that backends use, unchanged.
//!
//! Each runs a script of tests/bus_clients in the library's own language.

mod bus_support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bus_support::{Bus, LONG, run};

/// What each script publishes to `news`, in its order, unless it says otherwise.
const PUBLISHED: [&str; 4] = [r#"{"hello": "wörld"}"#, "one", "two", "three"];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bus_clients").join(name)
}

/// Where tests/bus_clients/install puts the libraries.
fn installed(path: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    target.join("bus-clients").join(path)
}

/// Runs a client script against `bus`; what it printed.
fn client(program: impl AsRef<Path>, name: &str, bus: &Bus, needs: &str) -> String {
    let mut command = Command::new(program.as_ref());
    command
        .env("NODE_PATH", installed("node_modules"))
        .arg(script(name))
        .args(["127.0.0.1", &bus.port()]);
    let Output { status, stdout, stderr } = run(&mut command, "", LONG, needs);
    let (stdout, stderr) = (bus_support::text(&stdout), bus_support::text(&stderr));
    assert!(status.success(), "{name}: {status}\n{stdout}{stderr}\nit needs: {needs}");
    stdout
}

/// Checks that the gateway heard these payloads on `news`, however their JSON is written.
fn assert_heard(bus: &Bus, payloads: &[&str]) {
    let plain = |text: &str| text.replace("\\u00f6", "ö").replace(": ", ":");
    for payload in payloads {
        let (channel, heard) = bus.next_message();
        assert_eq!((channel.as_str(), plain(&heard)), ("news", plain(payload)));
    }
}

const PHP: &str = "apt-get install php-cli php-redis php-predis";
const PYTHON: &str = "apt-get install python3-venv; tests/bus_clients/install";
const NODE: &str = "apt-get install nodejs npm; tests/bus_clients/install";

#[test]
#[ignore = "needs php-cli and php-redis: run by tests/run"]
fn phpredis_publishes_and_so_does_laravel() {
    let bus = Bus::start(&["news", "app:news", "laravel_database_orders"]);
    let printed = client("php", "phpredis.php", &bus, PHP);
    let expected = "publish 1\nprefix 1\npipeline [1,1]\ntransaction [1]\nlaravel false null\n\
                    log 1-1 {\"log\":{\"1-1\":{\"data\":\"wörld\"}}}\n\
                    range {\"1-1\":{\"data\":\"wörld\"}} []\ninfo 1 1 -1\n";
    assert_eq!(printed, expected);
    assert_heard(&bus, &PUBLISHED[..1]);
    assert_eq!(bus.next_message(), ("app:news".into(), "prefixed".into()));
    assert_heard(&bus, &PUBLISHED[1..]);
    assert_laravel(&bus);
}

#[test]
#[ignore = "needs php-cli and php-predis: run by tests/run"]
fn predis_publishes_and_so_does_laravel() {
    let bus = Bus::start(&["news", "laravel_database_orders"]);
    let printed = client("php", "predis.php", &bus, PHP);
    let expected = "publish 1\npipeline [1,1]\ntransaction [1]\nlaravel null\n\
                    log 1-1 [[\"log\",[[\"1-1\",[\"data\",\"wörld\"]]]]]\n\
                    range [[\"1-1\",[\"data\",\"wörld\"]]] null\nexists 1 stream 1\n";
    assert_eq!(printed, expected);
    assert_heard(&bus, &PUBLISHED);
    assert_laravel(&bus);
}

fn assert_laravel(bus: &Bus) {
    let payload = || r#"{"event":"OrderShipped"}"#.to_owned();
    assert_eq!(bus.next_message(), ("laravel_database_orders".into(), payload()));
    assert_eq!(bus.next_message(), ("news".into(), payload()));
}

#[test]
#[ignore = "needs python3 and redis-py: run by tests/run"]
fn redis_py_publishes_and_listens_in_both_protocols() {
    let bus = Bus::start(&["news"]);
    let printed = client(installed("venv/bin/python"), "redis_py.py", &bus, PYTHON);
    let entry = r"[(b'1-1', {b'data': b'w\xc3\xb6rld'})]";
    let once = |woken: &str, none: &str| {
        format!(
            "ping True\npublish 1\npipeline [1, 1]\nwoken b'1-1' {woken}\nrange {entry} {none}\n\
             info 1 1\nmine 1\nheard b'mine' b'to myself'\n"
        )
    };
    let resp2 = once(&format!("[[b'log', {entry}]]"), "[]");
    let resp3 = once(&format!("{{b'log': [{entry}]}}"), "{}");
    assert_eq!(printed, resp2 + &resp3);
    assert_heard(&bus, &PUBLISHED[..3]);
    assert_heard(&bus, &PUBLISHED[..3]);
}

#[test]
#[ignore = "needs node and node-redis: run by tests/run"]
fn node_redis_publishes_and_listens() {
    let bus = Bus::start(&["news"]);
    let printed = client("node", "node_redis.cjs", &bus, NODE);
    let entry = r#"[{"id":"1-1","message":{"data":"wörld"}}]"#;
    let expected = format!(
        "publish 1\npipeline [1,1]\ntransaction [1]\n\
         woken 1-1 [{{\"name\":\"log\",\"messages\":{entry}}}]\nrange {entry}\nnone null 1\n\
         mine 1\nheard mine to myself\n"
    );
    assert_eq!(printed, expected);
    assert_heard(&bus, &PUBLISHED);
}

#[test]
#[ignore = "needs node and ioredis: run by tests/run"]
fn ioredis_publishes_and_listens() {
    let bus = Bus::start(&["news"]);
    let printed = client("node", "ioredis.cjs", &bus, NODE);
    let expected = "publish 1\npipeline [[null,1],[null,1]]\ntransaction [[null,1]]\n\
                    woken 1-1 [[\"log\",[[\"1-1\",[\"data\",\"wörld\"]]]]]\n\
                    range [[\"1-1\",[\"data\",\"wörld\"]]]\nnone null 1\n\
                    subscribed 1\nmine 1\nheard mine to myself\n";
    assert_eq!(printed, expected);
    assert_heard(&bus, &PUBLISHED);
}
