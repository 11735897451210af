//! Another process takes the sockets over: nobody is refused meanwhile, and streams move.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::attacks::table::judge_without_crowd;
use crate::support::{
    Gateway, Process, Program, Redis, SOON, TlsClient, Via, eventually, measured, within,
};

const DRAIN: Duration = Duration::from_secs(1);

/// One request on a connection of its own, answered whole.
async fn visit(http: SocketAddr, https: Option<SocketAddr>) -> std::io::Result<()> {
    const REQUEST: &[u8] = b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    match https {
        None => {
            let mut stream = TcpStream::connect(http).await?;
            stream.write_all(REQUEST).await?;
            stream.read_to_end(&mut answer).await?;
        }
        Some(https) => {
            let mut stream = TlsClient::offering(&["http/1.1"]).connect(https).await?;
            stream.write_all(REQUEST).await?;
            stream.read_to_end(&mut answer).await?;
        }
    }
    let is_whole = answer.starts_with(b"HTTP/1.1 404 ");
    if is_whole { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// What visitors met.
#[derive(Default)]
struct Visits {
    made: AtomicUsize,
    failed: AtomicUsize,
}

/// So many new connections a second, every tenth of them with TLS, until `stop`.
async fn keep_visiting(
    (http, https): (SocketAddr, SocketAddr),
    a_second: u32,
    visits: Arc<Visits>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / a_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut visitors = JoinSet::new();
    while !stop.is_cancelled() {
        tick.tick().await;
        let visits = Arc::clone(&visits);
        let number = visits.made.fetch_add(1, Ordering::Relaxed);
        let https = number.is_multiple_of(10).then_some(https);
        visitors.spawn(async move {
            match tokio::time::timeout(SOON, visit(http, https)).await {
                Ok(Ok(())) => {}
                _ => drop(visits.failed.fetch_add(1, Ordering::Relaxed)),
            }
        });
        while visitors.try_join_next().is_some() {}
    }
    visitors.join_all().await;
}

/// Takes over again and again under load; at most one connection in ten thousand may fail.
async fn takeovers_under_load(times: usize, a_second: u32, least_visits: usize) {
    let redis = Redis::start().await;
    let mut gateway = Gateway::build(&redis).settings("drain: 1s").start().await;
    let to = (gateway.address("http"), gateway.address("https"));
    let (visits, stop) = (Arc::new(Visits::default()), CancellationToken::new());
    let visiting = tokio::spawn(keep_visiting(to, a_second, Arc::clone(&visits), stop.clone()));
    for _ in 0..times {
        let successor = gateway.successor().await;
        assert_eq!((successor.address("http"), successor.address("https")), to);
        let status = gateway.exit_within(SOON + DRAIN).await;
        assert_eq!(status.code(), Some(0), "{}", gateway.log());
        gateway = successor;
    }
    while visits.made.load(Ordering::Relaxed) < least_visits {
        tokio::time::sleep(DRAIN).await;
    }
    stop.cancel();
    within(2 * SOON, "all visitors have left", visiting).await.unwrap();
    let (made, failed) =
        (visits.made.load(Ordering::Relaxed), visits.failed.load(Ordering::Relaxed));
    measured(&format!("{failed} of {made} connections failed in {times} takeovers"));
    let bounds = [("failed connections", (made / 10_000) as f64, failed as f64)];
    judge_without_crowd(&format!("{times} takeovers, {made} connections"), &bounds, 0);
}

#[tokio::test]
async fn nobody_is_refused_while_another_takes_over() {
    takeovers_under_load(3, 200, 600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute under load"]
async fn long_ten_takeovers_under_500_connections_a_second() {
    takeovers_under_load(10, 500, 10_000).await;
}

#[tokio::test]
async fn streams_move_over_and_miss_nothing() {
    let redis = Redis::start().await;
    let mut old = Gateway::build(&redis).settings("drain: 1s").start().await;
    let mut streams = Vec::new();
    for via in Via::ALL {
        streams.push((via, old.subscribe_via(via, "/events/news").await));
    }
    let new = old.successor().await;
    for (via, mut stream) in streams {
        let mut retry = None;
        // Before that, it may be told its position for other gateways.
        while let Some(block) = within(SOON, "a last word", stream.block()).await {
            assert_eq!(block.event, None);
            retry = block.retry.or(retry);
        }
        assert!(retry.is_some(), "it says when to come back");
        assert_eq!(stream.end().await, Ok(()), "{via:?}");
        let back = crate::support::Request::events("/events/news")
            .header("last-event-id", stream.last_id());
        let mut back = new.send(via, back).await.stream();
        // No gap comes before it.
        back.ready().await;
    }
    assert_eq!(old.exit_within(SOON).await.code(), Some(0));
    // Operators see the new one.
    new.becomes(200, SOON).await;
    let opened = new.metrics().await.sum("ssegate_streams_opened_total", &[]);
    assert_eq!(opened, Via::ALL.len() as f64);
}

#[tokio::test]
async fn the_bus_moves_over_too() {
    let redis = Redis::start().await;
    let mut old = Gateway::build(&redis)
        .redis_url("embedded://127.0.0.1:0")
        .settings("drain: 1s")
        .start()
        .await;
    let bus = old.address("bus");
    let new = old.successor().await;
    assert_eq!(new.address("bus"), bus);
    assert_eq!(old.exit_within(SOON).await.code(), Some(0));
    let mut stream = new.subscribe("/events/news").await;
    let mut publisher = TcpStream::connect(bus).await.unwrap();
    publisher.write_all(b"PUBLISH news hello\r\n").await.unwrap();
    assert_eq!(stream.next_event().await.data, "hello");
}

#[tokio::test]
async fn a_successor_that_cannot_start_changes_nothing() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;
    let mut good = String::new();
    // Its second listener is where another program listens already.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    gateway.rewrite(|text| {
        good.clone_from(&text);
        let address = taken.local_addr().unwrap();
        text.replace("admin: {", &format!("  - address: {address}\nadmin: {{"))
    });
    let failed = gateway.takeover().output(SOON).await;
    assert_eq!(failed.code(), 1, "{failed:?}");
    assert!(failed.stderr.contains("address already in use"), "{failed:?}");
    let told =
        async || gateway.said("a takeover has failed; this gateway continues").next().is_some();
    eventually(SOON, "it is told", told).await;
    redis.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");

    gateway.rewrite(|_| good);
    let successor = gateway.successor().await;
    assert_eq!(successor.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn where_none_runs_there_is_nothing_to_take_over() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::start(&redis).await;
    let doors = || {
        let state = std::fs::read_dir(gateway.dir().join("state/ssegate")).unwrap();
        let paths = state.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "sock")).collect::<Vec<_>>()
    };
    eventually(SOON, "a door", async || doors().len() == 1).await;
    let door = doors().remove(0);
    assert_eq!(std::fs::metadata(&door).unwrap().permissions().mode() & 0o777, 0o600);
    gateway.terminate();
    gateway.exit_within(SOON).await;
    assert!(!door.exists(), "it is taken away");
    let failed = gateway.takeover().output(SOON).await;
    assert_eq!(failed.code(), 1, "{failed:?}");
    assert!(failed.stderr.contains("start without --takeover"), "{failed:?}");
    // One that was left by `kill -9` is in nobody's way.
    std::fs::write(&door, "").unwrap();
    let again = Gateway::start(&redis).await;
    assert_eq!(again.get("/nothing").await.status, 404);
}

/// `systemd-socket-activate` is not in every container; this is what it does.
fn activated(gateway: &Gateway, address: SocketAddr) -> Process {
    const ACTIVATE: &str = r#"
import os, socket, sys
host, port = sys.argv[1].rsplit(":", 1)
listener = socket.create_server((host, int(port)))
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"#;
    Program::new("/usr/bin/python3")
        .args(["-c", ACTIVATE, &address.to_string(), env!("CARGO_BIN_EXE_ssegate"), "run", "-c"])
        .arg(gateway.dir().join("gateway.yaml"))
        .env("XDG_STATE_HOME", gateway.dir().join("other"))
        .start()
}

#[tokio::test]
async fn systemd_may_have_opened_the_sockets() {
    let redis = Redis::start().await;
    let mut first = Gateway::start(&redis).await;
    let address = first.address("http");
    first.terminate();
    first.exit_within(SOON).await;
    first.rewrite(|text| {
        let (before, after) = text.rsplit_once("127.0.0.1:0\nadmin").unwrap();
        format!("{before}{address}\nadmin{after}")
    });
    let process = activated(&first, address);
    let answers = async || visit(address, None).await.is_ok();
    eventually(SOON, "it answers on the socket that it was given", answers).await;
    drop(process);

    // One that no listener wants would never be answered.
    let other = SocketAddr::from(([127, 0, 0, 1], crate::support::free_port()));
    let mut process = activated(&first, other);
    assert_eq!(process.exit_within(SOON).await.code(), Some(64));
    assert!(process.log().contains("no listener in gateway.yaml has that address"));
}
