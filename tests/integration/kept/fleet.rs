//! Streams that are kept for all gateways (`store: redis`): begun at one, continued and stopped at another.

use rustix::process::Signal;

use super::{SHARED, STREAM, begun, build, end, events, get, open, post, state};
use crate::support::{
    Call, ClusterSet, Gateway, Redis, Request, Response, SOON, Upstream, Via, eventually,
    read_exactly, within,
};

/// Two gateways that keep streams for each other.
async fn two(redis: &Redis, upstream: &Upstream, keep: &str) -> (Gateway, Gateway) {
    let keep = format!("{SHARED}, {keep}");
    let one = build(redis, upstream, &keep).start();
    let other = build(redis, upstream, &keep).start();
    tokio::join!(one, other)
}

/// Waits until Redis has this many events of a stream, and the other gateway says so.
async fn has(gateway: &Gateway, location: &str, last: usize) {
    eventually(SOON, "the other gateway knows the stream", async || {
        let head = Request { method: "HEAD".into(), ..get(location) };
        let head = gateway.send(Via::Http1, head).await;
        head.status == 200 && head.header("ssegate-last") == last.to_string()
    })
    .await;
}

/// Waits until a gateway says that of a stream: what ends at one is known to others a moment later.
async fn becomes(gateway: &Gateway, location: &str, expected: &str) {
    let known = async || state(gateway, location).await == expected;
    eventually(SOON, &format!("the stream is {expected}"), known).await;
}

async fn ends(mut response: Response, what: &str) {
    let rest = within(SOON, what, response.body.rest()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "", "{what}");
}

#[tokio::test]
async fn a_stream_goes_on_at_the_other_gateway_and_the_backend_is_asked_once() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (one, other) = two(&redis, &upstream, "").await;
    for via in Via::ALL {
        let (mut first, mut call, location) = begun(&one, &upstream, via).await;
        let stream = first.header("ssegate-stream").to_owned();
        call.write_chunk("data: 2\n\ndata: 3\n\n").await;
        read_exactly(&mut first.body, &events(&stream, 2..=3)).await;
        has(&other, &location, 3).await;
        let at = |request: Request, number: usize| {
            request.header("last-event-id", &format!("{stream}-{number}"))
        };
        // From the beginning, behind an event, and by the very same request.
        let mut readers = Vec::new();
        for (request, next) in [
            (get(&location), 1),
            (at(get(&location), 1), 2),
            (at(post("/chat", "{}"), 2), 3),
            (at(get(&location), 3), 4),
        ] {
            let mut response = other.send(via, request).await;
            assert_eq!(response.status, 200, "{via:?} {next}");
            assert_eq!(response.header("ssegate-stream"), stream);
            assert_eq!(response.header("content-type"), "text/event-stream");
            if next <= 3 {
                read_exactly(&mut response.body, &events(&stream, next..=3)).await;
            }
            readers.push(response);
        }
        readers.push(first);
        call.write_chunk("data: 4\n\n").await;
        for reader in &mut readers {
            read_exactly(&mut reader.body, &events(&stream, 4..=4)).await;
        }
        end(&mut call).await;
        for reader in readers {
            ends(reader, "the end").await;
        }
        becomes(&other, &location, "ended").await;
        let all = other.send(via, get(&location)).await.text().await;
        assert_eq!(all, events(&stream, 1..=4));
        assert_eq!(other.send(via, at(get(&location), 4)).await.status, 204);
        assert_eq!(other.send(via, at(post("/chat", "{}"), 4)).await.status, 204);
        // Of others there is nothing, and the same again that is another is no second generation.
        let bert = Request::get(&location).header("authorization", "Bearer bert");
        assert_eq!(other.send(via, bert).await.status, 404);
        let unknown = get(&format!("/.ssegate/kept/{}", "a".repeat(26)));
        assert_eq!(other.send(via, unknown).await.status, 404);
    }
}

#[tokio::test]
async fn a_delete_at_one_gateway_cancels_the_stream_at_the_other() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (one, other) = two(&redis, &upstream, "when_nobody: continue").await;
    let (first, call, location) = begun(&one, &upstream, Via::Http1).await;
    has(&other, &location, 1).await;
    let mut second = other.send(Via::Http2, get(&location)).await;
    let stream = first.header("ssegate-stream").to_owned();
    read_exactly(&mut second.body, &events(&stream, 1..=1)).await;
    let delete = || Request { method: "DELETE".into(), ..get(&location) };
    let bert = Request::new("DELETE", &location).header("authorization", "Bearer bert");
    assert_eq!(other.send(Via::Http1, bert).await.status, 404);
    assert_eq!(other.send(Via::Http1, delete()).await.status, 204);
    within(SOON, "the backend's request is cancelled", call.closed()).await;
    ends(first, "the end at the first").await;
    ends(second, "the end at the other").await;
    for gateway in [&one, &other] {
        assert_eq!(gateway.send(Via::Http1, delete()).await.status, 204, "again");
        becomes(gateway, &location, "cancelled").await;
    }
    one.counts("ssegate_kept_cancelled_total", &["reason=\"deleted\""], 1.0).await;
}

/// The right to publish is none to stop a stream: what is published only says that Redis has something new.
#[tokio::test]
async fn what_is_published_stops_no_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (one, other) = two(&redis, &upstream, "").await;
    let (mut first, mut call, location) = begun(&one, &upstream, Via::Http1).await;
    let stream = first.header("ssegate-stream").to_owned();
    has(&other, &location, 1).await;
    let hash = format!("ssegate:kept:{{{stream}}}");
    let pump: String = redis.command(&["HGET", &hash, "gateway"]).await;
    let (channel, stop) = (format!("ssegate:kept:{pump}"), format!("s {stream} deleted"));
    eventually(SOON, "its gateway hears it", async || {
        redis.command::<u64>(&["PUBLISH", &channel, &stop]).await == 1
    })
    .await;
    for number in 2..=3 {
        call.write_chunk(&format!("data: {number}\n\n")).await;
        read_exactly(&mut first.body, &events(&stream, number..=number)).await;
        has(&other, &location, number).await;
    }
    assert_eq!(state(&one, &location).await, "running");
    end(&mut call).await;
}

/// Whoever reads at another gateway is somebody.
#[tokio::test]
async fn a_reader_at_another_gateway_is_a_reader() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (one, other) = two(&redis, &upstream, "when_nobody: cancel_after 2s").await;
    let (first, mut call, location) = begun(&one, &upstream, Via::Http1).await;
    let stream = first.header("ssegate-stream").to_owned();
    has(&other, &location, 1).await;
    let mut second = other.send(Via::Http1, get(&location)).await;
    read_exactly(&mut second.body, &events(&stream, 1..=1)).await;
    drop(first);
    // It is read for longer than nobody could.
    for number in 2..=5 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        call.write_chunk(&format!("data: {number}\n\n")).await;
        read_exactly(&mut second.body, &events(&stream, number..=number)).await;
    }
    drop(second);
    within(3 * SOON, "nobody reads it", call.closed()).await;
    becomes(&other, &location, "cancelled").await;
}

async fn named(gateway: &Gateway, upstream: &Upstream, name: &str) -> (Response, Call) {
    let ask = post("/chat", "{}").header("x-id", name);
    open(gateway, upstream, (Via::Http1, ask), STREAM).await
}

#[tokio::test]
async fn a_name_is_found_stopped_and_replaced_at_every_gateway() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"header:x-id\"], resume_at: \"{path}/{key}/stream\", same_key: replace";
    let (one, other) = two(&redis, &upstream, keep).await;
    let place = |method: &str| Request { method: method.into(), ..get("/chat/c/stream") };
    assert_eq!(other.send(Via::Http1, place("GET")).await.status, 204, "there is none");
    let (mut first, mut call) = named(&one, &upstream, "c").await;
    call.write_chunk("data: 1\n\n").await;
    let stream = first.header("ssegate-stream").to_owned();
    read_exactly(&mut first.body, &events(&stream, 1..=1)).await;
    has(&other, first.header("location"), 1).await;
    eventually(SOON, "the other gateway knows the name", async || {
        other.send(Via::Http1, place("HEAD")).await.header("ssegate-state") == "running"
    })
    .await;
    let mut again = other.send(Via::Http1, place("GET")).await;
    read_exactly(&mut again.body, &events(&stream, 1..=1)).await;
    // Replaced at the other gateway.
    let (second, second_call) = named(&other, &upstream, "c").await;
    within(SOON, "the first is cancelled", call.closed()).await;
    ends(first, "the end of the first").await;
    ends(again, "the end of the first").await;
    assert_ne!(second.header("ssegate-stream"), stream);
    // And stopped by its name at the first.
    eventually(SOON, "the second is stopped", async || {
        assert_eq!(one.send(Via::Http1, place("DELETE")).await.status, 204);
        other.send(Via::Http1, place("HEAD")).await.header("ssegate-state") == "cancelled"
    })
    .await;
    within(SOON, "the second is cancelled", second_call.closed()).await;
    ends(second, "the end of the second").await;
}

/// What is published is not heard where a connection was just lost.
#[tokio::test]
async fn a_request_that_waits_is_stopped_though_its_gateway_does_not_listen() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"header:x-id\"], resume_at: \"{path}/{key}/stream\", same_key: replace";
    let (one, other) = two(&redis, &upstream, keep).await;
    for round in 0..5 {
        let ask = post("/chat", "{}").header("x-id", &format!("c{round}"));
        let place = get(&format!("/chat/c{round}/stream"));
        let stop = async {
            let call = upstream.call().await;
            redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            let delete = Request { method: "DELETE".into(), ..place };
            assert_eq!(other.send(Via::Http1, delete).await.status, 204);
            within(SOON, "the backend's request is cancelled", call.closed()).await;
        };
        tokio::join!(one.send(Via::Http1, ask), stop);
    }
}

/// A `DELETE` says which path it means, and another one for another path takes nothing back.
#[tokio::test]
async fn a_request_that_waits_is_stopped_though_another_path_is_stopped_right_after() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"header:x-id\"], resume_at: \"{path}/{key}/stream\"";
    let (one, other) = two(&redis, &upstream, keep).await;
    let ask = post("/chat", "{}").header("x-id", "c");
    let stop = async {
        let call = upstream.call().await;
        eventually(SOON, "the name is known", async || {
            !redis.command::<Vec<String>>(&["KEYS", "ssegate:kept:*:index"]).await.is_empty()
        })
        .await;
        // Its gateway looks only when both were stopped.
        one.signal(Signal::STOP);
        for path in ["/chat", "/draft"] {
            let place = get(&format!("{path}/c/stream"));
            let delete = Request { method: "DELETE".into(), ..place };
            assert_eq!(other.send(Via::Http1, delete).await.status, 204);
        }
        one.signal(Signal::CONT);
        within(SOON, "the backend's request is cancelled", call.closed()).await;
    };
    tokio::join!(one.send(Via::Http1, ask), stop);
}

#[tokio::test]
async fn of_two_gateways_that_get_a_name_at_once_one_serves_it() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (one, other) = two(&redis, &upstream, "key: [\"header:x-id\"], same_key: reject").await;
    for round in 0..5 {
        let ask = || post("/chat", "{}").header("x-id", &format!("c{round}"));
        let answer = async {
            let mut call = upstream.call().await;
            call.write(STREAM).await;
            call
        };
        let both =
            async { tokio::join!(one.send(Via::Http1, ask()), other.send(Via::Http1, ask())) };
        let ((a, b), mut call) = tokio::join!(both, answer);
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "round {round}");
        end(&mut call).await;
        for response in [a, b].into_iter().filter(|response| response.status == 200) {
            ends(response, "the end").await;
        }
        // It has ended: the name is free at either.
        let gateway = if round % 2 == 0 { &one } else { &other };
        let (response, mut call) = open(gateway, &upstream, (Via::Http1, ask()), STREAM).await;
        assert_eq!(response.status, 200, "round {round}");
        end(&mut call).await;
        ends(response, "the end").await;
    }
}

/// A backend with ids of its own: the same request again finds its stream, and clients continue behind its events.
#[tokio::test]
async fn the_ids_of_a_backend_are_known_at_every_gateway() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (one, other) = two(&redis, &upstream, "").await;
    let ask = || Request::events("/stream").header("authorization", "Bearer anna");
    let (mut first, mut call) = open(&one, &upstream, (Via::Http1, ask()), STREAM).await;
    let location = first.header("location").to_owned();
    call.write_chunk("id: a\ndata: 1\n\nid: b\ndata: 2\n\n").await;
    read_exactly(&mut first.body, "id: a\ndata: 1\n\nid: b\ndata: 2\n\n").await;
    has(&other, &location, 2).await;
    for request in [get(&location), ask()] {
        let request = request.header("last-event-id", "a");
        let mut resumed = other.send(Via::Http1, request).await;
        assert_eq!(resumed.header("ssegate-stream"), first.header("ssegate-stream"));
        read_exactly(&mut resumed.body, "id: b\ndata: 2\n\n").await;
    }
    end(&mut call).await;
}

/// What is in Redis is bounded, and goes by itself.
#[tokio::test]
async fn redis_keeps_no_more_than_the_limits_say_and_not_for_longer() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "after_end: 1s, limits: { events: 10 }";
    let (one, other) = two(&redis, &upstream, keep).await;
    let (mut first, mut call, location) = begun(&one, &upstream, Via::Http1).await;
    let stream = first.header("ssegate-stream").to_owned();
    for number in 2..=60 {
        call.write_chunk(&format!("data: {number}\n\n")).await;
        read_exactly(&mut first.body, &events(&stream, number..=number)).await;
        has(&other, &location, number).await;
    }
    let log = format!("ssegate:kept:{{{stream}}}:log");
    let entries: usize = redis.command(&["XLEN", &log]).await;
    assert!((1..=11).contains(&entries), "{entries} entries");
    let mut copy = other
        .send(Via::Http1, get(&location).header("last-event-id", &format!("{stream}-55")))
        .await;
    read_exactly(&mut copy.body, &events(&stream, 56..=60)).await;
    let gone = get(&location).header("last-event-id", &format!("{stream}-5"));
    assert_eq!(other.send(Via::Http1, gone).await.status, 410, "what follows is not kept any more");
    end(&mut call).await;
    ends(first, "the end").await;
    let note = "ssegate:kept:{all}:since";
    eventually(SOON, "nothing is left of it", async || {
        redis.command::<Vec<String>>(&["KEYS", "ssegate:kept:*"]).await == [note]
    })
    .await;
    let seconds: i64 = redis.command(&["TTL", note]).await;
    assert!((1..=86_400).contains(&seconds), "{seconds}");
}

/// The hash and the log of a stream are at one node, whichever that is.
#[tokio::test]
async fn in_a_cluster_a_stream_is_at_one_of_the_nodes() {
    let cluster = ClusterSet::start().await;
    let upstream = Upstream::start().await;
    let keep = format!("{SHARED}, key: [\"header:x-id\"], resume_at: \"{{path}}/{{key}}/stream\"");
    let build = |nodes: &[usize]| {
        build(&cluster.nodes[0], &upstream, &keep).redis_url(&cluster.url(nodes)).start()
    };
    let (one, other) = tokio::join!(build(&[0]), build(&[1]));
    for name in ["a", "b", "c", "d"] {
        let (mut first, mut call) = named(&one, &upstream, name).await;
        let location = first.header("location").to_owned();
        call.write_chunk("data: 1\n\n").await;
        let stream = first.header("ssegate-stream").to_owned();
        read_exactly(&mut first.body, &events(&stream, 1..=1)).await;
        has(&other, &location, 1).await;
        let mut by_address = other.send(Via::Http1, get(&location)).await;
        read_exactly(&mut by_address.body, &events(&stream, 1..=1)).await;
        call.write_chunk("data: 2\n\n").await;
        read_exactly(&mut by_address.body, &events(&stream, 2..=2)).await;
        eventually(SOON, "the name is known", async || {
            let place = Request { method: "HEAD".into(), ..get(&format!("/chat/{name}/stream")) };
            other.send(Via::Http1, place).await.header("ssegate-state") == "running"
        })
        .await;
        let delete = Request { method: "DELETE".into(), ..get(&format!("/chat/{name}/stream")) };
        assert_eq!(other.send(Via::Http1, delete).await.status, 204);
        within(SOON, "the backend's request is cancelled", call.closed()).await;
    }
}

/// Gateways with different secrets do not know each other's owners.
#[tokio::test]
async fn another_secret_finds_nothing() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let one = build(&redis, &upstream, SHARED).start().await;
    let keep = SHARED.replace("a-secret", "b-secret");
    let other = build(&redis, &upstream, &keep).start().await;
    let same = build(&redis, &upstream, SHARED).start().await;
    let (first, _call, location) = begun(&one, &upstream, Via::Http1).await;
    let stream = first.header("ssegate-stream").to_owned();
    has(&same, &location, 1).await;
    assert_eq!(other.send(Via::Http1, get(&location)).await.status, 404);
    let again = post("/chat", "{}").header("last-event-id", &format!("{stream}-1"));
    assert_eq!(other.send(Via::Http1, again).await.status, 410);
    // Both say so, once; and that with the same secret does not.
    for gateway in [&one, &other] {
        let told = "another gateway at this Redis is configured differently";
        gateway.logs(told).await;
        let report = gateway.admin("/readyz?verbose").await.text().await;
        assert!(report.contains("[!] keep of /{*rest}: differs: another gateway has"), "{report}");
        let said: Vec<_> = gateway.said(told).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0]["setting"], "keep of /{*rest}");
        assert!(!gateway.log().contains("a-secret"), "{}", gateway.log());
        differs(gateway, 1.0).await;
    }
    differs(&same, 1.0).await;
    // It is mended, and soon nobody says so any more.
    let change = async |before: &str, after: &str| {
        other.rewrite(|yaml| yaml.replace(before, after));
        assert!(other.reload().await, "{}", other.log());
    };
    change("b-secret", "a-secret").await;
    for gateway in [&one, &other, &same] {
        differs(gateway, 0.0).await;
        let report = gateway.admin("/readyz?verbose").await.text().await;
        assert!(!report.contains("differs"), "{report}");
        gateway.logs("no other gateway at this Redis is configured differently now").await;
    }
    // A reload tells it anew, and a gateway that has ended differs from nobody.
    change("a-secret", "c-secret").await;
    for gateway in [&one, &other, &same] {
        differs(gateway, 1.0).await;
    }
    drop(other);
    differs(&one, 0.0).await;
    differs(&same, 0.0).await;
    // What a later version may tell is nothing to mend.
    let run_id: String = redis.command(&["INFO", "server"]).await;
    let run_id = run_id.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim();
    redis.publish("ssegate:mark", format!("{run_id} {{\"later\":{{\"more\":1}}}}")).await;
    one.counts("ssegate_fleet_messages_ignored_total", &["reason=\"unknown\""], 1.0).await;
    assert!(!one.log().contains("ignored a message between gateways"), "{}", one.log());
}

/// Waits until so many routes keep streams otherwise at another gateway.
async fn differs(gateway: &Gateway, routes: f64) {
    eventually(SOON, "as many differ", async || {
        let metrics = gateway.metrics().await;
        metrics.sum("ssegate_fleet_settings_differ", &["setting=\"keep\""]) == routes
    })
    .await;
}
