//! How kept streams end, what is told of it, and what bounds them.

use std::time::Duration;

use tokio::time::Instant;

use super::{OWNER, STREAM, begun, build, end, ended, events, get, open, post, state};
use crate::support::{Call, Redis, Request, SOON, Upstream, Via, read_exactly, within};

fn delete(target: &str) -> Request {
    Request { method: "DELETE".into(), ..get(target) }
}

/// To stop is not to disconnect.
#[tokio::test]
async fn only_its_owner_stops_a_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway =
        build(&redis, &upstream, &format!("{OWNER}, when_nobody: continue")).start().await;
    for via in Via::ALL {
        let (response, mut call, location) = begun(&gateway, &upstream, via).await;
        drop(response);
        let mut reader = gateway.send(via, get(&location)).await;
        drop(reader.body.until("\n\n").await);
        call.write_chunk("data: 2\n\n").await;
        drop(reader.body.until("\n\n").await);
        let began = Instant::now();
        let deleted = gateway.send(via, delete(&location)).await;
        assert_eq!((deleted.status, deleted.header("cache-control")), (204, "no-store"));
        call.closed().await;
        // On a machine that does nothing else it is 100 ms; the request is in it.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(within(SOON, "the end", reader.body.rest()).await.unwrap().is_empty());
        assert_eq!(gateway.send(via, delete(&location)).await.status, 204, "again");
        assert_eq!(state(&gateway, &location).await, "cancelled");
    }
    gateway.counts("ssegate_kept_cancelled_total", &["reason=\"deleted\""], 4.0).await;
}

#[tokio::test]
async fn when_nobody_reads_the_route_decides() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for (when, is_cancelled) in
        [("cancel", true), ("cancel_after 300ms", true), ("continue", false)]
    {
        let keep = format!("{OWNER}, when_nobody: {when}");
        let gateway = build(&redis, &upstream, &keep).start().await;
        let (response, mut call, location) = begun(&gateway, &upstream, Via::Http2).await;
        drop(response);
        if is_cancelled {
            call.closed().await;
            assert_eq!(state(&gateway, &location).await, "cancelled", "{when}");
            gateway.counts("ssegate_kept_cancelled_total", &["reason=\"nobody\""], 1.0).await;
        } else {
            call.write_chunk("data: 2\n\n").await;
            end(&mut call).await;
            within(SOON, "its end", async { while state(&gateway, &location).await != "ended" {} })
                .await;
        }
    }
    // One that comes back in time keeps it alive.
    let gateway =
        build(&redis, &upstream, &format!("{OWNER}, when_nobody: cancel_after 2s")).start().await;
    let (response, mut call, location) = begun(&gateway, &upstream, Via::Http2).await;
    drop(response);
    let mut reader = gateway.send(Via::Http1, get(&location)).await;
    drop(reader.body.until("\n\n").await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    call.write_chunk("data: 2\n\n").await;
    assert!(reader.body.until("\n\n").await.starts_with("data: 2\n"));
}

/// The backend breaks off, between two events or in the middle of one.
#[tokio::test]
async fn a_loss_is_told_as_the_route_says() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for (on_lost, told) in [
        ("cut", ""),
        ("openai", "event: error\ndata: {\"error\":{\"message\":"),
        ("anthropic", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","),
        ("ai-sdk", "data: {\"type\":\"error\",\"errorText\":"),
        ("gap", "event: gap\ndata: {\"reason\":\"lost\"}\n\n"),
    ] {
        let keep = format!("{OWNER}, on_lost: {on_lost}");
        let gateway = build(&redis, &upstream, &keep).start().await;
        let (mut response, mut call, location) = begun(&gateway, &upstream, Via::Http1).await;
        call.write_chunk("data: 2").await;
        read_exactly(&mut response.body, "data: 2").await;
        call.reset();
        let rest = within(SOON, "the end", response.body.rest()).await;
        assert!(
            rest.is_err(),
            "{on_lost}: in the middle of an event nothing can be told: {rest:?}"
        );
        assert_eq!(state(&gateway, &location).await, "lost");
        let mut late = gateway.send(Via::H2c, get(&location)).await;
        let mut seen = late.body.until("\n\n").await;
        if on_lost == "cut" {
            assert!(within(SOON, "the end", late.body.rest()).await.is_err());
            continue;
        }
        let rest = within(SOON, "the end", late.body.rest()).await.unwrap();
        seen.push_str(str::from_utf8(&rest).unwrap());
        let (first, rest) = seen.split_at(seen.find("\n\n").unwrap() + 2);
        assert!(first.starts_with("data: 1\n"), "{on_lost}: {seen}");
        assert!(rest.starts_with(told) && rest.ends_with("\n\n"), "{on_lost}: {seen}");
        gateway.counts("ssegate_kept_lost_total", &["reason=\"backend\""], 1.0).await;
    }
}

/// Where a loss is told by a cut, what is there comes first, and nothing is asked for again and again.
#[tokio::test]
async fn a_lost_stream_is_read_before_it_is_cut() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    for via in [Via::Http1, Via::H2c] {
        let (mut response, mut call, location) = begun(&gateway, &upstream, via).await;
        let stream = response.header("ssegate-stream").to_owned();
        call.write_chunk("data: 2\n\n").await;
        read_exactly(&mut response.body, &events(&stream, 2..=2)).await;
        call.reset();
        assert!(within(SOON, "the end", response.body.rest()).await.is_err(), "{via:?}");
        for (after, rest) in [("", 1..=2), ("?after=1", 2..=2)] {
            let mut late = gateway.send(via, get(&format!("{location}{after}"))).await;
            assert_eq!(late.status, 200, "{via:?} {after}");
            read_exactly(&mut late.body, &events(&stream, rest)).await;
            assert!(within(SOON, "the cut", late.body.rest()).await.is_err(), "{via:?} {after}");
        }
        let late = gateway.send(via, get(&format!("{location}?after=2"))).await;
        assert_eq!(late.status, 410, "{via:?}");
        let again = post("/chat", "{}").header("last-event-id", &format!("{stream}-2"));
        assert_eq!(gateway.send(via, again).await.status, 410, "{via:?}");
    }
}

/// The oldest events go, and who needs them is told.
#[tokio::test]
async fn what_is_kept_is_bounded() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for limits in ["events: 10", "bytes: 1KiB"] {
        for (on_lost, status) in [("cut", 410), ("gap", 200), ("openai", 200)] {
            let keep = format!("{OWNER}, limits: {{ {limits} }}, on_lost: {on_lost}");
            let gateway = build(&redis, &upstream, &keep).start().await;
            let response = ended(&gateway, &upstream, 100).await;
            let stream = response.header("ssegate-stream").to_owned();
            let location = response.header("location").to_owned();
            let behind = gateway.send(Via::Http1, get(&location)).await;
            assert_eq!((behind.status, behind.header("cache-control")), (status, "no-store"));
            let text = behind.text().await;
            match on_lost {
                "gap" => {
                    let begin = "event: gap\ndata: {\"reason\":\"history\"}\nid: ";
                    assert!(text.starts_with(begin), "{text}");
                    assert!(text.ends_with(&events(&stream, 99..=100)), "{text}");
                }
                "openai" => assert!(text.starts_with("event: error\n"), "{text}"),
                _ => {}
            }
            let near = get(&location).header("last-event-id", &format!("{stream}-95"));
            let text = gateway.send(Via::Http1, near).await.text().await;
            assert_eq!(text, events(&stream, 96..=100), "{limits}");
        }
    }
}

#[tokio::test]
async fn an_owner_has_so_many_and_those_that_have_ended_go_first() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = format!("{OWNER}, limits: {{ per_owner: 2 }}, when_nobody: continue");
    let gateway = build(&redis, &upstream, &keep).start().await;
    let first = ended(&gateway, &upstream, 1).await.header("location").to_owned();
    let (_one, _call, one) = begun(&gateway, &upstream, Via::Http1).await;
    assert_eq!(state(&gateway, &first).await, "ended");
    let (_two, _other_call, two) = begun(&gateway, &upstream, Via::Http1).await;
    assert_eq!(gateway.send(Via::Http1, get(&first)).await.status, 404, "it made room");
    let (response, mut call) =
        open(&gateway, &upstream, (Via::Http1, post("/chat", "{}")), STREAM).await;
    assert_eq!(response.header("location"), "", "one more passes");
    call.write_chunk(": x\n\ndata: 1\n\n").await;
    end(&mut call).await;
    assert_eq!(response.text().await, ": x\n\ndata: 1\n\n");
    for running in [one, two] {
        assert_eq!(state(&gateway, &running).await, "running");
    }
    let bert = Request::new("POST", "/chat").header("authorization", "Bearer bert");
    let (response, _call) = open(&gateway, &upstream, (Via::Http1, bert), STREAM).await;
    assert_ne!(response.header("location"), "", "he has none");
    gateway.counts("ssegate_kept_passed_total", &["reason=\"per_owner\""], 1.0).await;
}

#[tokio::test]
async fn a_stream_that_is_too_old_is_cut_off() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway =
        build(&redis, &upstream, &format!("{OWNER}, limits: {{ age: 1s }}")).start().await;
    let (mut response, call, location) = begun(&gateway, &upstream, Via::Http1).await;
    call.closed().await;
    assert!(within(SOON, "the end", response.body.rest()).await.is_err());
    assert_eq!(state(&gateway, &location).await, "lost");
    gateway.counts("ssegate_kept_lost_total", &["reason=\"age\""], 1.0).await;
}

/// A gateway that stops does not stop what is paid for, as long as it may.
#[tokio::test]
async fn a_draining_gateway_pumps_on() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = format!("{OWNER}, when_nobody: continue");
    let mut gateway = build(&redis, &upstream, &keep).settings("drain: 20s").start().await;
    let (mut response, mut call, _) = begun(&gateway, &upstream, Via::Http2).await;
    let stream = response.header("ssegate-stream").to_owned();
    let (other, mut unread, _) = begun(&gateway, &upstream, Via::Http2).await;
    drop(other);
    gateway.terminate();
    gateway.logs("stopping").await;
    for number in 2..5 {
        call.write_chunk(&format!("data: {number}\n\n")).await;
        read_exactly(&mut response.body, &events(&stream, number..=number)).await;
        unread.write_chunk("data: x\n\n").await;
    }
    end(&mut call).await;
    assert!(within(SOON, "the end", response.body.rest()).await.unwrap().is_empty());
    unread.write_chunk("data: x\n\n").await;
    end(&mut unread).await;
    assert!(gateway.exit_within(SOON).await.success());
}

/// What does not end until then is told.
#[tokio::test]
async fn when_the_drain_is_over_the_rest_is_lost() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = format!("{OWNER}, on_lost: gap");
    let mut gateway = build(&redis, &upstream, &keep).settings("drain: 1s").start().await;
    let (mut response, call, _) = begun(&gateway, &upstream, Via::Http1).await;
    gateway.terminate();
    let rest = within(SOON, "the end", response.body.rest()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "event: gap\ndata: {\"reason\":\"lost\"}\n\n");
    call.closed().await;
    gateway.exit_within(SOON).await;
}

/// A reader that does not read holds up nobody: neither the others nor the backend.
#[tokio::test]
async fn a_slow_reader_slows_nobody() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = format!("{OWNER}, limits: {{ bytes: 256KiB }}");
    let gateway = build(&redis, &upstream, &keep).start().await;
    let (slow, mut call, location) = begun(&gateway, &upstream, Via::Http1).await;
    let mut quick = gateway.send(Via::H2c, get(&location)).await;
    drop(quick.body.until("\n\n").await);
    let text = "x".repeat(60_000);
    let sent = 400;
    for _ in 0..sent {
        let event = format!("data: {text}\n\n");
        within(SOON, "the backend can write", call.write_chunk(&event)).await;
        let mut seen = 0;
        while seen < event.len() {
            let chunk = within(SOON, "more", quick.body.chunk()).await.unwrap();
            seen += chunk.expect("it goes on").len();
        }
    }
    let mut slow = slow.body;
    let rest = within(SOON, "the end", slow.rest()).await;
    assert!(rest.is_err(), "it has missed something, and is told");
}

/// Bytes of a stream that is written at once.
const MANY: usize = 30 << 20;

/// Writes a stream of [`MANY`] bytes, as fast as it is taken.
async fn write_many(mut call: Call) -> usize {
    let event = format!("data: {}\n\n", "x".repeat(10_000));
    let events = MANY / event.len();
    for _ in 0..events {
        call.write_chunk(&event).await;
    }
    end(&mut call).await;
    events
}

/// A backend that is faster than the only reader waits for it, as without the gateway.
#[tokio::test]
async fn the_only_reader_loses_nothing_however_fast_the_backend_is() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for (limits, via) in [
        ("bytes: 64KiB", Via::Http1),
        ("bytes: 64KiB", Via::H2c),
        ("events: 3", Via::Http1Tls),
        ("total: 64KiB", Via::Http2),
        // Less than comes with the head.
        ("bytes: 1KiB", Via::Http1),
    ] {
        let keep = format!("{OWNER}, limits: {{ {limits} }}");
        let gateway = build(&redis, &upstream, &keep).start().await;
        let (mut response, call) =
            open(&gateway, &upstream, (via, post("/chat", "{}")), STREAM).await;
        let writing = tokio::spawn(write_many(call));
        // It takes a while before it reads.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!writing.is_finished(), "{limits}: the backend waits");
        let bytes = gateway.metrics().await.sum("ssegate_kept_bytes", &[]);
        assert!(bytes < f64::from(200 << 10), "{limits}: {bytes}");
        let seen = within(4 * SOON, "all of it", response.body.rest()).await.unwrap();
        let events = writing.await.unwrap();
        assert_eq!(memchr::memmem::find_iter(&seen, b"\nid: ").count(), events, "{limits}");
        gateway.counts("ssegate_kept_streams", &["state=\"ended\""], 1.0).await;
    }
}

/// A reader that stands holds nobody: the stream goes on without it.
#[tokio::test]
async fn a_reader_that_does_not_read_is_waited_for_no_longer_than_others_would_wait() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for via in [Via::Http1, Via::H2c] {
        let keep = format!("{OWNER}, limits: {{ bytes: 64KiB }}, when_nobody: continue");
        let gateway = build(&redis, &upstream, &keep).settings("write_timeout: 1s").start().await;
        let (mut response, call) =
            open(&gateway, &upstream, (via, post("/chat", "{}")), STREAM).await;
        let location = response.header("location").to_owned();
        within(4 * SOON, "the backend can write", write_many(call)).await;
        within(SOON, "its end", async { while state(&gateway, &location).await != "ended" {} })
            .await;
        assert!(within(SOON, "the end", response.body.rest()).await.is_err(), "it was cut");
    }
}
