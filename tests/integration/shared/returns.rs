//! What happens when the backend's stream ends or breaks: it is asked again, as a browser would, while readers stay.

use super::{STREAM, build, data, end, first, get, join, open};
use crate::support::{Redis, SOON, Upstream, Via, eventually};

/// With the last id of the backend; nothing is missing then, and readers are told nothing.
#[tokio::test]
async fn a_stream_that_ends_goes_on_after_its_last_id() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    assert_eq!(call.header("last-event-id"), "");
    call.write_chunk("retry: 100\nid: 7\ndata: 1\n\nid: 8\ndata: 2\n\ndata: cut").await;
    end(&mut call).await;
    drop(call);
    let mut call = upstream.call().await;
    assert_eq!(call.header("last-event-id"), "8");
    call.write(STREAM).await;
    call.write_chunk("id: 9\ndata: 3\n\n").await;
    // Broken, not ended.
    call.reset();
    let mut call = upstream.call().await;
    assert_eq!(call.header("last-event-id"), "9");
    call.write(STREAM).await;
    call.write_chunk("data: 4\n\n").await;
    assert_eq!(data(&mut reader, 4).await, ["1", "2", "3", "4"]);
    gateway.counts("ssegate_shared_retries_total", &["reason=\"complete\""], 1.0).await;
    gateway.counts("ssegate_shared_retries_total", &["reason=\"broken\""], 1.0).await;
    assert_eq!(gateway.metrics().await.sum("ssegate_gaps_total", &[]), 0.0);
}

/// Whoever comes before the stream is left has what was kept, and then the backend is asked for what follows.
#[tokio::test]
async fn a_stream_that_ends_is_not_asked_for_again_for_nobody() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 1h").start().await;
    let (reader, mut call) = first(&gateway, &upstream, "/unread").await;
    call.write_chunk("retry: 100\nid: 7\ndata: 1\n\nid: 8\ndata: 2\n\n").await;
    drop(reader);
    eventually(SOON, "nobody reads", async || {
        gateway.metrics().await.sum("ssegate_shared_readers", &[]) == 0.0
    })
    .await;
    end(&mut call).await;
    drop(call);
    gateway.counts("ssegate_shared_retries_total", &["reason=\"complete\""], 1.0).await;
    // The next that is asked for ends later, and has to wait for longer.
    let (_reader, mut call) = first(&gateway, &upstream, "/read").await;
    call.write_chunk("retry: 400\n\n").await;
    end(&mut call).await;
    drop(call);
    let mut call = upstream.call().await;
    assert_eq!(call.line(), "GET /read HTTP/1.1");
    call.write(STREAM).await;

    let mut back = open(&gateway, Via::H2c, get("/unread").header("last-event-id", "7")).await;
    assert_eq!(data(&mut back, 1).await, ["2"]);
    let mut call = upstream.call().await;
    assert_eq!((call.line(), call.header("last-event-id")), ("GET /unread HTTP/1.1", "8"));
    call.write(STREAM).await;
    call.write_chunk("id: 9\ndata: 3\n\n").await;
    assert_eq!(data(&mut back, 1).await, ["3"]);
}

/// `retry` says when the pump comes back to the backend. Readers come back to the gateway.
#[tokio::test]
async fn readers_are_not_told_when_to_come_back_to_the_backend() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("retry: 0\nid: 7\ndata: 1\n\nretry: 1\n\nid: 8\ndata: 2\n\n").await;
    for expected in ["1", "2"] {
        let block = reader.next_block().await;
        let event = block.event.as_ref().map(|event| &*event.data);
        assert_eq!((event, block.retry), (Some(expected), None), "{block:?}");
    }
}

/// Without ids nobody knows what was missed.
#[tokio::test]
async fn readers_are_told_a_gap_where_the_backend_sets_no_ids() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "replay: all").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/prices").await;
    call.write_chunk("retry: 100\n\ndata: 1\n\n").await;
    end(&mut call).await;
    drop(call);
    let mut call = upstream.call().await;
    assert_eq!(call.header("last-event-id"), "");
    call.write(STREAM).await;
    call.write_chunk("data: 2\n\n").await;
    let mut late = open(&gateway, Via::H2c, get("/prices")).await;
    for reader in [&mut reader, &mut late] {
        assert_eq!(data(reader, 1).await, ["1"]);
        let gap = reader.next_event().await;
        let expected = "{\"reason\":\"upstream_away\",\"channels\":[\"/prices\"]}";
        assert_eq!((&*gap.name, &*gap.data), ("gap", expected));
        assert_eq!(data(reader, 1).await, ["2"]);
    }
}

/// The id with which a client has begun the stream is not where the stream is, once events without ids have come.
#[tokio::test]
async fn readers_are_told_a_gap_where_only_the_client_has_an_id() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 0s").start().await;
    for (events, asked, is_gap) in [
        // With none since, it is where the stream is.
        ("", "x", false),
        ("data: 1\n\n", "", true),
        ("id: x\ndata: 1\n\n", "x", false),
        ("id: y\ndata: 1\n\n", "y", false),
    ] {
        let answer = async {
            let mut call = upstream.call().await;
            assert_eq!(call.header("last-event-id"), "x");
            call.write(STREAM).await;
            call
        };
        let back = get("/prices").header("last-event-id", "x");
        let (mut reader, mut call) = tokio::join!(open(&gateway, Via::Http1, back), answer);
        call.write_chunk(&format!("retry: 100\n\n{events}")).await;
        end(&mut call).await;
        drop(call);
        let mut call = upstream.call().await;
        assert_eq!(call.header("last-event-id"), asked, "{events}");
        call.write(STREAM).await;
        call.write_chunk("data: 2\n\n").await;
        if !events.is_empty() {
            assert_eq!(data(&mut reader, 1).await, ["1"]);
        }
        let mut next = reader.next_event().await;
        if is_gap {
            assert!(next.name == "gap" && next.data.contains("upstream_away"), "{next:?}");
            next = reader.next_event().await;
        }
        assert_eq!((&*next.name, &*next.data), ("message", "2"), "{events}");
        drop(reader);
        call.closed().await;
    }
}

/// 204 is the end: an `EventSource` does not come back after it, and so does no reader.
#[tokio::test]
async fn a_backend_that_has_nothing_more_ends_its_readers() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    let mut other = join(&gateway, Via::H2c, get("/")).await;
    call.write_chunk("retry: 100\nid: 1\ndata: 1\n\n").await;
    end(&mut call).await;
    drop(call);
    upstream.call().await.answer("204 No Content", "", "").await;
    for reader in [&mut reader, &mut other] {
        assert_eq!(data(reader, 1).await, ["1"]);
        assert_eq!(reader.end().await, Ok(()));
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"source_ended\""], 2.0).await;
    for via in [Via::Http1, Via::H2c] {
        let back = gateway.send(via, get("/").header("last-event-id", "1")).await;
        assert_eq!(back.status, 204, "and the backend is not asked");
    }
    gateway.counts("ssegate_shared_requests_total", &["how=\"no_content\""], 2.0).await;
    // Who has not seen all of it, or nothing, is told by the backend.
    for id in ["", "0"] {
        let answer = async {
            let mut call = upstream.call().await;
            assert_eq!(call.header("last-event-id"), id);
            call.write(STREAM).await;
            call.write_chunk("retry: 100\nid: 1\ndata: 1\n\n").await;
            end(&mut call).await;
            drop(call);
        };
        let request = match id {
            "" => get("/"),
            id => get("/").header("last-event-id", id),
        };
        let (mut new, ()) = tokio::join!(open(&gateway, Via::Http1, request), answer);
        assert_eq!(data(&mut new, 1).await, ["1"]);
        upstream.call().await.answer("204 No Content", "", "").await;
        assert_eq!(new.end().await, Ok(()));
    }
    // One that has all of it, where the gateway does not know that.
    let other = gateway.send(Via::Http1, get("/other").header("last-event-id", "1"));
    let answer = async { upstream.call().await.answer("204 No Content", "", "").await };
    let (other, ()) = tokio::join!(other, answer);
    assert_eq!(other.status, 204);
    let (_reader, _call) = first(&gateway, &upstream, "/other").await;
}

/// Also where the backend sets no ids: who does not have the newest event is told by the backend.
#[tokio::test]
async fn only_those_who_have_everything_are_told_of_an_end() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("retry: 100\n\ndata: 1\n\ndata: 2\n\n").await;
    let ids = [reader.next_event().await.id, reader.next_event().await.id];
    end(&mut call).await;
    drop(call);
    upstream.call().await.answer("204 No Content", "", "").await;
    assert_eq!(reader.end().await, Ok(()));
    let back = |id: &str| get("/").header("last-event-id", id);
    for request in [back(&ids[1]), get("/")] {
        assert_eq!(gateway.send(Via::H2c, request).await.status, 204);
    }
    let answer = async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("last-event-id"), "");
        call.write(STREAM).await;
        call.write_chunk("data: 3\n\n").await;
        call
    };
    let (mut behind, _call) = tokio::join!(open(&gateway, Via::Http1, back(&ids[0])), answer);
    let gap = behind.next_event().await;
    assert!(gap.name == "gap" && gap.data.contains("expired"), "{gap:?}");
    assert_eq!(data(&mut behind, 1).await, ["3"]);
}

/// Readers come back on their own, at different times, and go alone.
#[tokio::test]
async fn a_backend_that_refuses_the_pump_is_asked_by_each() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let target = format!("/{}", &status[..3]);
        let (mut reader, mut call) = first(&gateway, &upstream, &target).await;
        call.write_chunk("retry: 100\ndata: 1\n\n").await;
        end(&mut call).await;
        drop(call);
        upstream.call().await.answer(status, "", "").await;
        assert_eq!(data(&mut reader, 1).await, ["1"]);
        let retry = loop {
            if let Some(retry) = reader.next_block().await.retry {
                break retry;
            }
        };
        assert!((3000..=6000).contains(&retry), "{retry}");
        assert_eq!(reader.end().await, Ok(()));
        let answer = async {
            let call = upstream.call().await;
            assert_ne!(call.header("x-forwarded-for"), "", "it is the client's own");
            call.answer(status, "", "").await;
        };
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, get(&target)), answer);
        assert_eq!(response.status.to_string(), status[..3]);
    }
    gateway.counts("ssegate_shared_ended_total", &["reason=\"unshared\""], 3.0).await;
}

/// The readers stay while the backend is restarted.
#[tokio::test]
async fn a_backend_that_is_away_comes_back() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (gateway, address) = (build(&redis, &upstream, "").start().await, upstream.address());
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("retry: 100\nid: a\ndata: 1\n\n").await;
    assert_eq!(data(&mut reader, 1).await, ["1"]);
    drop((call, upstream));
    gateway.counts("ssegate_shared_retries_total", &["reason=\"failed\""], 3.0).await;
    // Somebody who comes meanwhile is not refused.
    let mut late = open(&gateway, Via::H2c, get("/")).await;
    assert_eq!(data(&mut late, 1).await, ["1"]);
    let upstream = Upstream::at(address).await;
    // On its way up it fails otherwise.
    upstream.call().await.answer("503 Service Unavailable", "", "").await;
    let mut call = upstream.call().await;
    assert_eq!(call.header("last-event-id"), "a");
    call.write(STREAM).await;
    call.write_chunk("data: 2\n\n").await;
    for reader in [&mut reader, &mut late] {
        assert_eq!(data(reader, 1).await, ["2"]);
    }
}

/// Whatever a backend sends, its readers are sent events, and other streams go on.
#[tokio::test]
async fn strange_events_harm_nobody() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "limits: { bytes: 64KiB }").start().await;
    let (mut other, mut calm) = first(&gateway, &upstream, "/calm").await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("event: a\u{1}b\nid: c\u{1}d\ndata: 1\n\n").await;
    call.write_chunk("event: \u{0}\nid: \u{0}\ndata: 2\u{0}\r\n\r\n\n\n:\n\n").await;
    call.write_chunk(&format!("id: large\ndata: {}\n\n", "x".repeat(100_000))).await;
    call.write(b"a\r\ndata: \xff\xfe\n\n\r\n".as_slice()).await;
    call.write_chunk(&format!("id: {}\ndata: 4\n\n", "i".repeat(2000))).await;
    let event = reader.next_event().await;
    assert_eq!((&*event.name, &*event.data), ("a\u{1}b", "1"));
    assert_eq!(data(&mut reader, 1).await, ["2\u{0}"]);
    let gap = reader.next_event().await;
    assert!(gap.name == "gap" && gap.data.contains("too_large"), "{gap:?}");
    assert_eq!(data(&mut reader, 2).await, ["\u{fffd}\u{fffd}", "4"]);
    // The next client has the newest with an id of ours.
    let last = reader.last_id().to_owned();
    assert!(last.len() < 60, "{last}");
    calm.write_chunk("data: calm\n\n").await;
    assert_eq!(data(&mut other, 1).await, ["calm"]);
    assert_eq!(gateway.metrics().await.sum("ssegate_panics_total", &[]), 0.0);
}
