//! Histories outlive the process: at a takeover, and over a restart of a service with a state directory.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{
    EventStream, Gateway, GatewayBuilder, Redis, Request, SOON, Via, eventually, within,
};

const SETTINGS: &str = "drain: 1s";

/// Opens a stream, has it read `1`, and publishes `2` and `3` when it has gone. Returns its last id.
async fn misses_two(gateway: &Gateway, redis: &Redis, via: Via, channel: &str) -> String {
    let mut stream = gateway.subscribe_via(via, &format!("/events/{channel}")).await;
    redis.publish(channel, "1").await;
    assert_eq!(stream.next_event().await.data, "1");
    let id = stream.last_id().to_owned();
    drop(stream);
    redis.publish(channel, "2").await;
    redis.publish(channel, "3").await;
    heard(gateway, channel, "3").await;
    id
}

/// Waits until the newest event of a channel is this, as a client is sent that has seen nothing.
async fn heard(gateway: &Gateway, channel: &str, last: &str) {
    let mut stream = gateway.open(&format!("/newest/{channel}")).await;
    within(SOON, "the newest event", async { while stream.next_event().await.data != last {} })
        .await;
}

/// What a client with this id is sent up to `last`, which is published once it is there.
async fn comes_back(
    (gateway, via): (&Gateway, Via),
    redis: &Redis,
    channel: &str,
    id: &str,
) -> Vec<String> {
    let mut stream = gateway.resume(via, &format!("/events/{channel}"), id).await;
    let mut read = until_ready(&mut stream).await;
    redis.publish(channel, "last").await;
    loop {
        let event = stream.next_event().await;
        let is_last = event.data == "last";
        read.push(event.data);
        if is_last {
            return read;
        }
    }
}

async fn until_ready(stream: &mut EventStream) -> Vec<String> {
    let mut read = Vec::new();
    within(SOON, "`ready`", async {
        loop {
            let block = stream.next_block().await;
            if block.comments.iter().any(|comment| comment == "ready") {
                return;
            }
            read.extend(block.event.map(|event| event.data));
        }
    })
    .await;
    read
}

fn gap(channel: &str) -> String {
    format!("{{\"reason\":\"redis_away\",\"channels\":[\"{channel}\"]}}")
}

fn build(redis: &Redis) -> GatewayBuilder {
    let newest =
        "- path: /newest/{channel}\n  events: { channels: [\"{channel}\"], replay: last }\n";
    Gateway::build(redis).settings(SETTINGS).route(newest)
}

#[tokio::test]
async fn a_successor_has_what_clients_missed_before_it_came() {
    let redis = Redis::start().await;
    let mut old = build(&redis).start().await;
    old.becomes(200, SOON).await;
    let mut ids = Vec::new();
    for (at, via) in Via::ALL.into_iter().enumerate() {
        ids.push((via, misses_two(&old, &redis, via, &format!("news{at}")).await));
    }
    let new = old.successor().await;
    assert_eq!(old.exit_within(SOON).await.code(), Some(0), "{}", old.log());
    for (at, (via, id)) in ids.iter().enumerate() {
        let read = comes_back((&new, *via), &redis, &format!("news{at}"), id).await;
        assert_eq!(read, ["2", "3", "last"], "{via:?} with {id}");
    }
    // And the one after that: the ids are of the run before the last.
    let mut new = new;
    let next = new.successor().await;
    assert_eq!(new.exit_within(SOON).await.code(), Some(0), "{}", new.log());
    for (at, (via, id)) in ids.iter().enumerate() {
        let read = comes_back((&next, *via), &redis, &format!("news{at}"), id).await;
        assert_eq!(read, ["2", "3", "last", "last"], "{via:?} with {id}");
    }
    let metrics = next.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 0.0);
}

#[tokio::test]
async fn a_successor_without_a_fleet_has_them_too_and_a_gap_behind() {
    let redis = Redis::start().await;
    let mut old = build(&redis).settings("fleet: off").start().await;
    old.becomes(200, SOON).await;
    let id = misses_two(&old, &redis, Via::Http1, "news").await;
    let new = old.successor().await;
    // Until then it accepts connections, too.
    assert_eq!(old.exit_within(SOON).await.code(), Some(0), "{}", old.log());
    let read = comes_back((&new, Via::Http1), &redis, "news", &id).await;
    assert_eq!(read, ["2".to_owned(), "3".to_owned(), gap("news"), "last".to_owned()]);
}

/// Comes back to whoever accepts connections there.
async fn again(address: SocketAddr, id: &str) -> EventStream {
    loop {
        let request = Request::events("/events/news").header("last-event-id", id);
        let response = request.send(Via::Http1, address).await;
        if response.status == 200 {
            return EventStream::new(response);
        }
    }
}

/// Makes the settings of the next gateway.
fn set(gateway: &Gateway, line: &str) {
    gateway.rewrite(|text| text.replace("drain: 1s\n", &format!("drain: 1s\n{line}\n")));
}

#[tokio::test]
async fn a_successor_that_has_room_for_less_takes_what_fits() {
    let redis = Redis::start().await;
    let mut old = build(&redis).start().await;
    old.becomes(200, SOON).await;
    let small = misses_two(&old, &redis, Via::Http1, "small").await;
    let large = misses_two(&old, &redis, Via::Http1, "large").await;
    redis.publish("large", "x".repeat(200 << 10)).await;
    set(&old, "history_handover: 100KiB");
    let new = old.successor().await;
    assert_eq!(old.exit_within(SOON).await.code(), Some(0), "{}", old.log());
    assert!(old.log().contains("history_handover has no room for them"), "{}", old.log());
    let read = comes_back((&new, Via::Http1), &redis, "small", &small).await;
    assert_eq!(read, ["2", "3", "last"]);
    let read = comes_back((&new, Via::Http1), &redis, "large", &large).await;
    assert!(read[0].contains("\"reason\":\""), "{:?}", &read[..1]);
    // The next one finds its socket.
    new.becomes(200, SOON).await;
    let next = new.successor().await;
    assert_eq!(next.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn who_connects_to_the_takeover_socket_and_says_nothing_is_in_nobodys_way() {
    let redis = Redis::start().await;
    let mut old = build(&redis).start().await;
    old.becomes(200, SOON).await;
    let state = old.dir().join("state/ssegate");
    let socket = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let mut socket = socket.filter(|path| path.extension().is_some_and(|kind| kind == "sock"));
    let socket = socket.next().expect("a socket");
    let connect = || std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let silent: Vec<_> = (0..20).map(|_| connect()).collect();
    std::io::Write::write_all(&mut connect(), b"what is this?\n").unwrap();
    // Each of them would take ten seconds; the successor does not wait so long.
    let new = old.successor().await;
    assert_eq!(old.exit_within(SOON).await.code(), Some(0), "{}", old.log());
    assert_eq!(new.get("/nothing").await.status, 404);
    drop(silent);
}

#[tokio::test]
async fn where_the_fleet_changes_with_the_successor_there_is_a_gap() {
    let redis = Redis::start().await;
    let mut old = build(&redis).start().await;
    old.becomes(200, SOON).await;
    let id = misses_two(&old, &redis, Via::Http1, "news").await;
    set(&old, "fleet: { key: 0123456789abcdef0123456789abcdef }");
    let new = old.successor().await;
    assert_eq!(old.exit_within(2 * SOON).await.code(), Some(0), "{}", old.log());
    let read = comes_back((&new, Via::Http1), &redis, "news", &id).await;
    assert!(read[0].contains("unknown_id"), "{read:?}");
    assert!(new.log().contains("goes on without the histories"), "{}", new.log());
}

#[tokio::test]
async fn nothing_comes_twice_while_another_takes_over() {
    const MESSAGES: usize = 3_000;
    let redis = Redis::start().await;
    // At this rate a thousand events are those of a tenth of a second, in which the client comes back.
    let all = "sse: { history: { count: 100000, bytes: 64MiB } }";
    let mut gateway = build(&redis).settings(all).start().await;
    gateway.becomes(200, SOON).await;
    let mut stream = gateway.subscribe("/events/news").await;
    let address = gateway.address("http");
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let publish = async {
        while !stop.load(Ordering::SeqCst) || next.load(Ordering::SeqCst) < MESSAGES {
            let number = next.fetch_add(1, Ordering::SeqCst);
            redis.publish("news", number.to_string()).await;
        }
        redis.publish("news", "end").await;
    };
    let move_over = async {
        for _ in 0..3 {
            let new = gateway.successor().await;
            assert_eq!(gateway.exit_within(2 * SOON).await.code(), Some(0), "{}", gateway.log());
            gateway = new;
        }
        stop.store(true, Ordering::SeqCst);
        gateway
    };
    let read = async {
        let (mut expected, mut came_back) = (0, Vec::new());
        loop {
            let Some(block) = stream.block().await else {
                // It was closed: another one, perhaps the same gateway still, goes on.
                came_back.push((expected, stream.last_id().to_owned()));
                stream = again(address, stream.last_id()).await;
                continue;
            };
            let Some(event) = block.event else { continue };
            if event.data == "end" {
                return expected;
            }
            assert_eq!(event.data, expected.to_string(), "{came_back:?}");
            expected += 1;
        }
    };
    let (gateway, read, ()) = tokio::join!(move_over, read, publish);
    assert_eq!(read, next.load(Ordering::SeqCst));
    drop(gateway);
}

#[tokio::test]
async fn nothing_is_handed_over_where_the_operator_says_so() {
    let (redis, state) = (Redis::start().await, tempfile::tempdir().unwrap());
    let off = || build(&redis).settings("history_handover: 0");
    let mut old = off().start().await;
    old.becomes(200, SOON).await;
    let id = misses_two(&old, &redis, Via::Http1, "news").await;
    let new = old.successor().await;
    // Until then it accepts connections, too.
    assert_eq!(old.exit_within(SOON).await.code(), Some(0), "{}", old.log());
    let read = comes_back((&new, Via::Http1), &redis, "news", &id).await;
    assert!(read[0].contains("\"reason\":\""), "{read:?}");
    assert_eq!(read[1..], ["last"]);

    let mut service = off().in_state(state.path()).start().await;
    misses_two(&service, &redis, Via::Http1, "news").await;
    service.terminate();
    assert_eq!(service.exit_within(SOON).await.code(), Some(0));
    assert_eq!(left_in(state.path()), [] as [PathBuf; 0]);
}

impl GatewayBuilder {
    /// As a service with this state directory.
    fn in_state(self, directory: &Path) -> Self {
        self.env("STATE_DIRECTORY", directory.to_str().unwrap())
    }
}

/// The files with histories.
fn left_in(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains("histories");
    files.filter(is_it).collect()
}

/// Ends a gateway; returns the file that it has left.
async fn stop(mut gateway: Gateway, state: &Path) -> PathBuf {
    gateway.terminate();
    assert_eq!(gateway.exit_within(SOON).await.code(), Some(0), "{}", gateway.log());
    let mut left = left_in(state);
    assert_eq!(left.len(), 1, "{left:?}");
    left.remove(0)
}

/// A gateway that has started with what another has left.
async fn start_again(redis: &Redis, state: &Path) -> Gateway {
    let gateway = build(redis).in_state(state).start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

#[tokio::test]
async fn a_restart_keeps_the_histories_and_tells_of_what_may_be_missing() {
    let (redis, state) = (Redis::start().await, tempfile::tempdir().unwrap());
    let first = start_again(&redis, state.path()).await;
    let id = misses_two(&first, &redis, Via::Http2, "news").await;
    let file = stop(first, state.path()).await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let second = start_again(&redis, state.path()).await;
    assert!(!file.exists(), "it is for one start");
    let read = comes_back((&second, Via::Http2), &redis, "news", &id).await;
    assert_eq!(read, ["2".to_owned(), "3".to_owned(), gap("news"), "last".to_owned()]);
    // One that comes again has been told.
    let mut stream = second.resume(Via::Http1, "/events/news", &id).await;
    until_ready(&mut stream).await;
    let id = stream.last_id().to_owned();
    drop(stream);
    assert_eq!(comes_back((&second, Via::Http1), &redis, "news", &id).await, ["last"]);
}

#[tokio::test]
async fn with_another_gateway_a_restart_is_no_gap_where_nothing_was_missed() {
    let (redis, state) = (Redis::start().await, tempfile::tempdir().unwrap());
    let other = Gateway::start(&redis).await;
    let first = start_again(&redis, state.path()).await;
    let mut ids = Vec::new();
    for channel in ["quiet", "busy"] {
        // The other gateway follows them, too.
        let _stream = other.subscribe(&format!("/events/{channel}")).await;
        ids.push(misses_two(&first, &redis, Via::Http2, channel).await);
    }
    stop(first, state.path()).await;
    redis.publish("busy", "missed").await;
    let second = start_again(&redis, state.path()).await;
    let read = comes_back((&second, Via::Http2), &redis, "quiet", &ids[0]).await;
    assert_eq!(read, ["2", "3", "last"]);
    let read = comes_back((&second, Via::Http2), &redis, "busy", &ids[1]).await;
    assert_eq!(read, ["2".to_owned(), "3".to_owned(), gap("busy"), "last".to_owned()]);
    // One that had all before is not worse off than without the file.
    let mut stream = other.subscribe("/events/quiet").await;
    redis.publish("quiet", "new").await;
    assert_eq!(stream.next_event().await.data, "new");
    let read = comes_back((&second, Via::Http1), &redis, "quiet", stream.last_id()).await;
    assert_eq!(read, ["last"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_and_harms_nothing() {
    let (redis, state) = (Redis::start().await, tempfile::tempdir().unwrap());
    let first = start_again(&redis, state.path()).await;
    let id = misses_two(&first, &redis, Via::Http1, "news").await;
    let file = stop(first, state.path()).await;
    let good = std::fs::read(&file).unwrap();
    let other_server = [
        b"ssegate histories of redis.example:6379\n",
        &good[good.iter().position(|b| *b == b'\n').unwrap() + 1..],
    ]
    .concat();
    for (bytes, mode, age, told) in [
        (&good[..good.len() - 10], 0o600, 0, "it is truncated"),
        (&good[..30], 0o600, 0, "belongs to another redis.url"),
        (b"", 0o600, 0, "belongs to another redis.url"),
        (&other_server, 0o600, 0, "belongs to another redis.url"),
        (&good, 0o644, 0, "others may have written it"),
        (&good, 0o600, 120, "not of the last minute"),
        (&good, 0o600, -3600, "not of the last minute"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let written = std::time::SystemTime::now();
        let age = (std::time::Duration::from_secs(i64::unsigned_abs(age)), age < 0);
        let written = if age.1 { written + age.0 } else { written - age.0 };
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(written).unwrap();
        let gateway = start_again(&redis, state.path()).await;
        let is_told = async || gateway.log().contains(told);
        eventually(SOON, told, is_told).await;
        assert_eq!(file.exists(), mode != 0o600, "it is not ours to remove");
        let read = comes_back((&gateway, Via::Http1), &redis, "news", &id).await;
        assert!(read[0].contains("unknown_id") || read[0].contains("expired"), "{read:?}");
        drop(gateway);
    }
    // The same file, as it was written.
    std::fs::write(&file, &good).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().uid(), rustix::process::geteuid().as_raw());
    let gateway = start_again(&redis, state.path()).await;
    let read = comes_back((&gateway, Via::Http1), &redis, "news", &id).await;
    assert_eq!(read[..3], ["2".to_owned(), "3".to_owned(), gap("news")]);
}
