//! One who does not read, beside those who do.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{
    Event, EventStream, Gateway, Redis, Request, SOON, eventually, kernel_tcp_bytes, unsent_bytes,
    within,
};

/// Opens a stream on a socket with a small receive buffer, reads up to `ready`, and then nothing.
pub(crate) async fn stalled(to: SocketAddr, target: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut socket = socket.connect(to).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut start = Vec::new();
    let ready = async {
        while memchr::memmem::find(&start, b": ready\n").is_none() {
            assert!(socket.read_buf(&mut start).await.unwrap() > 0, "closed before `ready`");
        }
    };
    within(SOON, "`ready`", ready).await;
    socket
}

/// A payload that says its number and is `bytes` long.
pub(crate) fn numbered(number: usize, bytes: usize) -> String {
    let mut text = number.to_string();
    text.push_str(&" ".repeat(bytes - text.len()));
    text
}

fn number(event: &Event) -> usize {
    event.data.trim_end().parse().unwrap_or_else(|_| panic!("no number: {:.40}", event.data))
}

#[tokio::test]
async fn one_who_never_reads_delays_nobody_and_is_closed() {
    const READERS: usize = 50;
    let redis = Redis::start().await;
    // It is never closed for the time: who waited for it would wait for ever.
    let gateway = Gateway::build(&redis).settings("write_timeout: 1h").start().await;
    let address = gateway.address("http");
    let stalled = stalled(address, "/events/news").await;
    let mut readers = gateway.subscribe_all("/events/news", READERS).await;
    let memory = gateway.resident_bytes();

    // 10 MiB for each: ten times what a queue holds.
    let mut beside = 0;
    for sent in 0..160 {
        redis.publish("news", numbered(sent, 64 << 10)).await;
        for reader in &mut readers {
            assert_eq!(number(&reader.next_event().await), sent);
        }
        if beside < 5 && unsent_bytes(address).1 > 0 {
            let open = gateway.metrics().await.sum("ssegate_streams", &[]);
            beside += usize::from(open == (READERS + 1) as f64);
        }
    }
    assert_eq!(beside, 5, "events that all had while it was stuck and not yet closed");
    gateway.counts("ssegate_streams_closed_total", &["reason=\"lagged\""], 1.0).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_streams", &[]), READERS as f64);
    assert_eq!(metrics.sum("ssegate_streams_closed_total", &[]), 1.0);

    let grown = gateway.resident_bytes().saturating_sub(memory);
    assert!(grown < 48 << 20, "the gateway grew by {} KiB", grown >> 10);
    drop(stalled);
}

#[tokio::test]
async fn the_kernel_holds_little_for_readers_that_stopped() {
    const READERS: usize = 50;
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let address = gateway.address("http");
    let mut sockets = Vec::new();
    for _ in 0..READERS {
        sockets.push(stalled(address, "/events/news").await);
    }

    // More than default socket buffers take (4 MiB), less than closes anybody before it is seen.
    let before = kernel_tcp_bytes();
    for sent in 0..15 {
        redis.publish("news", numbered(sent, 64 << 10)).await;
    }
    // Or more: a socket of somebody else can have the number of this port on its own side.
    let stuck = async || unsent_bytes(address).1 >= READERS;
    eventually(SOON, "all readers are stuck", stuck).await;
    let (unsent, _) = unsent_bytes(address);
    assert!(unsent <= READERS * (192 << 10), "{} KiB for each", (unsent / READERS) >> 10);
    // Both ends are counted here, and whatever else the machine does, which passes; unbounded it is
    // 196 MiB, for as long as they are stuck.
    let is_little = async || kernel_tcp_bytes().saturating_sub(before) < 64 << 20;
    eventually(SOON, "less than 64 MiB of kernel memory", is_little).await;
    assert!(unsent_bytes(address).1 >= READERS, "all are stuck still");
}

#[tokio::test]
async fn one_who_takes_nothing_for_write_timeout_is_closed() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("write_timeout: 2s").start().await;
    let mut socket = stalled(gateway.address("http"), "/events/news").await;
    let mut reader = gateway.subscribe("/events/news").await;

    // One event only: it is over no queue's bound, but it does not leave.
    redis.publish("news", "x".repeat(2 << 20)).await;
    assert_eq!(reader.next_event().await.data.len(), 2 << 20);
    gateway.counts("ssegate_streams_closed_total", &[], 1.0).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_streams", &[]), 1.0);
    let mut rest = Vec::new();
    // A reset is as much an end as any.
    drop(within(SOON, "the socket is closed", socket.read_to_end(&mut rest)).await);
    assert!(rest.len() < 2 << 20);
}

#[tokio::test]
async fn a_stream_without_window_is_reset_and_its_connection_lives() {
    let redis = Redis::start().await;
    // With a fleet both streams would be sent a position some time, which has no window either.
    let settings = "write_timeout: 2s\nfleet: off";
    let gateway = Gateway::build(&redis).settings(settings).start().await;
    let address = gateway.address("https");
    let io = crate::support::Via::Http2.connect(address).await;
    let connection = crate::support::Http2::handshake(io, true, address).await;
    let mut unread = connection.send(Request::events("/events/news")).await.stream();
    unread.ready().await;
    let mut other = connection.send(Request::events("/events/other")).await.stream();
    other.ready().await;

    // 1 MiB: more than the 64 KiB window of a stream whose body nobody reads.
    redis.publish("news", "x".repeat(1 << 20)).await;
    gateway.counts("ssegate_streams_closed_total", &[], 1.0).await;
    redis.publish("other", "alive").await;
    assert_eq!(other.next_event().await.data, "alive");
}

/// Fills the queue of a reader that has paused, then reads on: the numbers of the events that
/// arrive, `None` for a gap.
async fn after_a_pause(policy: &str) -> Vec<Option<usize>> {
    const EVENTS: usize = 400;
    let redis = Redis::start().await;
    let settings = format!("queue: {{ bytes: 64KiB, when_full: {policy} }}");
    let gateway = Gateway::build(&redis).events(&settings).start().await;
    let mut paused = gateway.subscribe("/events/news").await;
    let mut reader = gateway.subscribe("/events/news").await;

    for sent in 0..EVENTS {
        redis.publish("news", numbered(sent, 32 << 10)).await;
        assert_eq!(number(&reader.next_event().await), sent, "nobody else waits");
    }
    gateway.counts("ssegate_events_dropped_total", &["reason=\"overflow\""], 1.0).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&Some(EVENTS - 1)) {
        let event = paused.next_event().await;
        seen.push((event.name != "gap").then(|| number(&event)));
    }
    assert!(!paused.has_ended());
    seen
}

#[tokio::test]
async fn drop_oldest_tells_one_gap_and_goes_on_with_the_newest() {
    let seen = after_a_pause("drop_oldest").await;
    let gaps: Vec<_> = (0..seen.len()).filter(|&at| seen[at].is_none()).collect();
    let [gap] = gaps[..] else { panic!("{} gaps in {seen:?}", gaps.len()) };
    let (before, after) = (&seen[..gap], &seen[gap + 1..]);
    assert!(before.iter().enumerate().all(|(at, number)| *number == Some(at)), "{seen:?}");
    assert!(after.is_sorted_by(|a, b| b.unwrap() == a.unwrap() + 1), "{seen:?}");
    assert!(!after.is_empty() && after.len() <= 3, "what 64 KiB hold: {seen:?}");
}

#[tokio::test]
async fn latest_keeps_the_newest_event_only() {
    let seen = after_a_pause("latest").await;
    let numbers: Vec<_> = seen.iter().flatten().collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{seen:?}");
    let skipped = numbers.windows(2).filter(|pair| *pair[1] != *pair[0] + 1).count();
    assert!(skipped >= 1, "{seen:?}");
    let newest = numbers.iter().rev().take_while(|number| ***number >= 399);
    assert_eq!(newest.count(), 1, "only the last one waited: {seen:?}");
}

#[tokio::test]
async fn a_client_that_was_closed_is_told_so_by_the_end_of_its_stream() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .events("queue: { bytes: 64KiB, when_full: disconnect }")
        .start()
        .await;
    let mut paused: EventStream = gateway.subscribe("/events/news").await;
    for sent in 0..400 {
        redis.publish("news", numbered(sent, 32 << 10)).await;
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"lagged\""], 1.0).await;

    let mut expected = 0;
    while let Some(event) = within(SOON, "the rest of the stream", paused.event()).await {
        assert_eq!(number(&event), expected, "in order, without a hole, up to the end");
        expected += 1;
    }
    assert!(expected < 400);
}

#[tokio::test]
async fn a_slow_dashboard_sees_the_newest_of_each_channel() {
    let redis = Redis::start().await;
    let events = "channels: [\"{query.channel}\"], patterns: true, \
                  queue: { bytes: 64KiB, when_full: latest }";
    let route = format!("- path: /events\n  events: {{ {events} }}\n");
    let gateway = Gateway::build(&redis).routes(&route).start().await;
    // By their names, and through one pattern for both.
    for (query, prefix) in [("channel=door&channel=temp", ""), ("channel=home:*", "home:")] {
        let target = format!("/events?{query}");
        let mut socket = stalled(gateway.address("http"), &target).await;
        let mut witness = gateway.subscribe(&target).await;
        let (door, temp) = (format!("{prefix}door"), format!("{prefix}temp"));
        let mut send = async |channel: &str, payload: &str| {
            redis.publish(channel, payload).await;
            assert!(witness.next_event().await.data == payload);
        };
        for number in 0..200 {
            send(&temp, &numbered(number, 10 << 10)).await;
        }
        send(&door, "OPEN").await;
        for number in 200..400 {
            send(&temp, &numbered(number, 10 << 10)).await;
        }
        let mut text = Vec::new();
        let newest = async {
            let newest = format!("data: {}", numbered(399, 10 << 10));
            while memchr::memmem::find(&text, newest.as_bytes()).is_none() {
                assert!(socket.read_buf(&mut text).await.unwrap() > 0, "it was closed");
            }
        };
        within(SOON, "the newest temperature", newest).await;
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("data: OPEN"), "the door is {query}");
        assert!(text.matches("data: ").count() < 100, "most gave way");
        assert!(!text.contains("event: gap"), "and nobody misses them");
    }
}
