//! Clients that come back with an id of ours or of the backend, and what those are sent that come late.

use super::{STREAM, build, data, end, first, get, open};
use crate::support::{Gateway, Redis, Upstream, Via};

/// What the route says.
#[tokio::test]
async fn a_late_reader_begins_at_an_event() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis)
        .routes(
            &[("last", "last"), ("none", "none"), ("two", "2"), ("all", "all")]
                .map(|(name, replay)| {
                    format!(
                        "- path: /{name}\n  proxy: {{ upstream: \"http://{}\" }}\n  \
                         share: {{ replay: {replay} }}\n",
                        upstream.address()
                    )
                })
                .concat(),
        )
        .start()
        .await;
    for (name, expected) in
        [("last", &["3"][..]), ("none", &[]), ("two", &["2", "3"]), ("all", &["1", "2", "3"])]
    {
        let (mut reader, mut call) = first(&gateway, &upstream, &format!("/{name}")).await;
        call.write_chunk("data: 1\n\ndata: 2\n\ndata: 3\n\nda").await;
        assert_eq!(data(&mut reader, 3).await, ["1", "2", "3"]);
        let mut late = open(&gateway, Via::H2c, get(&format!("/{name}"))).await;
        assert_eq!(data(&mut late, expected.len()).await, expected, "{name}");
        late.ready().await;
        // An event of which it has not seen the beginning is whole.
        call.write_chunk("ta: 4\n\n").await;
        assert_eq!(data(&mut late, 1).await, ["4"]);
    }
}

/// Over every protocol, after any event.
#[tokio::test]
async fn a_client_gets_the_rest_after_an_id_of_either_kind() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "replay: none").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    // A name is as the backend wrote it.
    call.write_chunk("id: a\ndata: 1\n\nevent: x\ty\ndata: 2\n\nid: \u{fc}, b\ndata: 3\n\n").await;
    let mut ids = Vec::new();
    for name in ["message", "x\ty", "message"] {
        let event = reader.next_event().await;
        assert_eq!(event.name, name);
        ids.push(event.id);
    }
    assert_eq!((&*ids[0], &*ids[2]), ("a", "\u{fc}, b"));
    for via in [Via::Http1, Via::H2c] {
        for (id, rest) in [(&ids[0], &["2", "3"][..]), (&ids[1], &["3"]), (&ids[2], &[])] {
            let mut back = open(&gateway, via, get("/").header("last-event-id", id)).await;
            assert_eq!(data(&mut back, rest.len()).await, rest, "{id}");
        }
        let mut back = open(&gateway, via, get("/?last_event_id=a")).await;
        assert_eq!(data(&mut back, 2).await, ["2", "3"]);
        let mut strange = open(&gateway, via, get("/").header("last-event-id", "strange")).await;
        let gap = strange.next_event().await;
        assert!(gap.name == "gap" && gap.data.contains("unknown_id"), "{gap:?}");
    }
    assert_eq!(gateway.metrics().await.sum("ssegate_shared_upstreams", &[]), 1.0);
}

/// Only the backend knows what follows an id of its own, once the stream was left. It is asked for those who come back
/// with the same id together, and for nobody else.
#[tokio::test]
async fn the_id_of_those_who_begin_goes_to_the_backend() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let back = |id: &str| get("/").header("last-event-id", id);
    let answer = async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("last-event-id"), "6");
        // One with the same id waits.
        gateway.counts("ssegate_shared_readers", &[], 2.0).await;
        call.write(STREAM).await;
        call.write_chunk("id: 7\ndata: 7\n\nid: 8\ndata: 8\n\n").await;
        call
    };
    let (mut one, mut same, mut call) = tokio::join!(
        open(&gateway, Via::Http1, back("6")),
        async {
            gateway.counts("ssegate_shared_readers", &[], 1.0).await;
            open(&gateway, Via::H2c, back("6")).await
        },
        answer,
    );
    for reader in [&mut one, &mut same] {
        assert_eq!(data(reader, 2).await, ["7", "8"]);
    }
    // So is one that comes with it later, as long as the beginning is kept.
    let mut late = open(&gateway, Via::H2c, back("6")).await;
    assert_eq!(data(&mut late, 2).await, ["7", "8"]);
    // One with another id, and one without, begin where they are.
    for (id, expected) in [("3", "3"), ("", "")] {
        let answer = async {
            let mut call = upstream.call().await;
            assert_eq!(call.header("last-event-id"), expected);
            call.write(STREAM).await;
            call.write_chunk("id: 4\ndata: 4\n\n").await;
            call
        };
        let request = if id.is_empty() { get("/") } else { back(id) };
        let (mut other, _call) = tokio::join!(open(&gateway, Via::Http1, request), answer);
        assert_eq!(data(&mut other, 1).await, ["4"]);
    }
    call.write_chunk("retry: 100\n\n").await;
    end(&mut call).await;
    drop(call);
    assert_eq!(upstream.call().await.header("last-event-id"), "8");
}

/// It is asked without it, and the client is told that something may be missing.
#[tokio::test]
async fn a_backend_that_refuses_an_id_is_asked_without() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let answer = async {
        let call = upstream.call().await;
        assert_eq!(call.header("last-event-id"), "old");
        call.answer("400 Bad Request", "", "what id?").await;
        let mut call = upstream.call().await;
        assert_eq!(call.header("last-event-id"), "");
        call.write(STREAM).await;
        call.write_chunk("data: 1\n\n").await;
        call
    };
    let back = get("/").header("last-event-id", "old");
    let (mut reader, _call) = tokio::join!(open(&gateway, Via::Http1, back), answer);
    let gap = reader.next_event().await;
    assert!(gap.name == "gap" && gap.data.contains("unknown_id"), "{gap:?}");
    assert_eq!(data(&mut reader, 1).await, ["1"]);
}

/// The backend does not know it, and is not asked for it.
#[tokio::test]
async fn an_id_of_ours_does_not_outlive_its_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 0s").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("data: 1\n\n").await;
    let id = reader.next_event().await.id;
    drop(reader);
    call.closed().await;
    let answer = async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("last-event-id"), "");
        call.write(STREAM).await;
        call.write_chunk("data: 2\n\n").await;
        call
    };
    let back = get("/").header("last-event-id", &id);
    let (mut back, _call) = tokio::join!(open(&gateway, Via::Http1, back), answer);
    let gap = back.next_event().await;
    assert!(gap.name == "gap" && gap.data.contains("expired"), "{gap:?}");
    assert_eq!(data(&mut back, 1).await, ["2"]);
}

/// Of another gateway, or of the process before: the backend knows none of them, and those who have them share a stream.
#[tokio::test]
async fn an_id_of_another_gateway_is_not_for_the_backend() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let back = |id: &str| get("/").header("last-event-id", id);
    let answer = async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("last-event-id"), "");
        gateway.counts("ssegate_shared_readers", &[], 3.0).await;
        call.write(STREAM).await;
        call
    };
    let (mut one, mut two, mut new, mut call) = tokio::join!(
        open(&gateway, Via::Http1, back("zzzzzz-7")),
        open(&gateway, Via::H2c, back("abc123-1")),
        open(&gateway, Via::Http1, get("/")),
        answer
    );
    for reader in [&mut one, &mut two] {
        let gap = reader.next_event().await;
        assert!(gap.name == "gap" && gap.data.contains("unknown_id"), "{gap:?}");
    }
    call.write_chunk("data: 1\n\n").await;
    for reader in [&mut one, &mut two, &mut new] {
        assert_eq!(data(reader, 1).await, ["1"]);
    }
    // A backend may have such ids: they are known as long as their events are kept.
    call.write_chunk("id: zzzzzz-9\ndata: 2\n\ndata: 3\n\nretry: 100\n\n").await;
    assert_eq!(data(&mut one, 2).await, ["2", "3"]);
    let mut late = open(&gateway, Via::H2c, back("zzzzzz-9")).await;
    assert_eq!(data(&mut late, 1).await, ["3"]);
    end(&mut call).await;
    drop(call);
    assert_eq!(upstream.call().await.header("last-event-id"), "zzzzzz-9");
}
