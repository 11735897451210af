//! Streams that are kept for all gateways, when a gateway or Redis fails: nothing is lost in silence.

use std::time::Duration;

use rustix::process::Signal;

use super::{SHARED, STREAM, begun, build, end, ended, events, get, open, post, state};
use crate::support::{
    Call, Gateway, Redis, Relay, Request, Response, SOON, Upstream, Via, eventually, read_exactly,
    within,
};

/// How long a gateway that dies may go unnoticed: its lease, and a look.
const NOTICED: Duration = Duration::from_secs(20);

async fn start(redis: &Redis, upstream: &Upstream, keep: &str) -> Gateway {
    build(redis, upstream, &format!("{SHARED}{keep}")).start().await
}

/// Opens the stream at another gateway, once that knows it, and reads its first event.
async fn follow(gateway: &Gateway, location: &str, stream: &str) -> Response {
    follow_to(gateway, location, (stream, 1)).await
}

/// The same of all its events.
async fn follow_to(gateway: &Gateway, location: &str, (stream, last): (&str, usize)) -> Response {
    eventually(SOON, "the other gateway knows the stream", async || {
        state(gateway, location).await == "running"
    })
    .await;
    let mut response = gateway.send(Via::Http1, get(location)).await;
    read_exactly(&mut response.body, &events(stream, 1..=last)).await;
    response
}

/// A stream of one gateway that is read there and at another.
async fn followed(redis: &Redis, upstream: &Upstream) -> ((Gateway, Gateway), Call, [Response; 2]) {
    let (one, other) = tokio::join!(start(redis, upstream, ""), start(redis, upstream, ""));
    let (first, call, location) = begun(&one, upstream, Via::Http1).await;
    let (_, stream) = place(&first);
    let reader = follow(&other, &location, &stream).await;
    ((one, other), call, [first, reader])
}

/// Where a stream is, and what its ids begin with.
fn place(response: &Response) -> (String, String) {
    (response.header("location").to_owned(), response.header("ssegate-stream").to_owned())
}

#[tokio::test]
async fn whoever_reads_a_stream_of_a_gateway_that_is_killed_is_told() {
    let redis = Redis::start().await;
    tokio::join!(is_told(&redis, "cut", ""), is_told(&redis, "openai", "event: error\n"));
}

async fn is_told(redis: &Redis, on_lost: &str, told: &str) {
    let upstream = Upstream::start().await;
    let keep = format!(", on_lost: {on_lost}");
    let start = || start(redis, &upstream, &keep);
    let (one, other, third) = tokio::join!(start(), start(), start());
    let (first, call, location) = begun(&one, &upstream, Via::Http1).await;
    let stream = first.header("ssegate-stream").to_owned();
    let readers =
        [follow(&other, &location, &stream).await, follow(&third, &location, &stream).await];
    one.signal(Signal::KILL);
    within(SOON, "the backend is left", call.closed()).await;
    for mut reader in readers {
        let rest = within(NOTICED, "it is told", reader.body.rest()).await;
        match told {
            "" => assert!(rest.is_err(), "it is cut"),
            told => assert!(String::from_utf8_lossy(&rest.unwrap()).contains(told)),
        }
    }
    for gateway in [&other, &third] {
        gateway.counts("ssegate_kept_lost_total", &["reason=\"elsewhere\""], 1.0).await;
    }
    // And whoever comes later.
    assert_eq!(state(&other, &location).await, "lost");
    let last = |request: Request| request.header("last-event-id", &format!("{stream}-1"));
    for request in [last(get(&location)), last(post("/chat", "{}"))] {
        let response = third.send(Via::Http1, request).await;
        match told {
            "" => assert_eq!(response.status, 410),
            told => assert!(response.text().await.contains(told)),
        }
    }
}

/// The rule of a drain: it pumps on, and clients go to another gateway.
#[tokio::test]
async fn a_gateway_that_drains_pumps_on_for_readers_elsewhere() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut one = build(&redis, &upstream, SHARED).settings("drain: 20s").start().await;
    let other = start(&redis, &upstream, "").await;
    let (first, mut call, location) = begun(&one, &upstream, Via::Http1).await;
    let stream = first.header("ssegate-stream").to_owned();
    let mut reader = follow(&other, &location, &stream).await;
    one.terminate();
    drop(first);
    for number in 2..=4 {
        call.write_chunk(&format!("data: {number}\n\n")).await;
        read_exactly(&mut reader.body, &events(&stream, number..=number)).await;
    }
    end(&mut call).await;
    assert!(within(SOON, "the end", reader.body.rest()).await.unwrap().is_empty());
    assert_eq!(state(&other, &location).await, "ended");
    assert!(one.exit_within(3 * SOON).await.success());
}

/// A Redis that has lost everything gets it again.
#[tokio::test]
async fn a_stream_is_whole_after_redis_was_restarted() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let ((_one, _other), mut call, [mut first, mut reader]) = followed(&redis, &upstream).await;
    let (location, stream) = place(&first);
    redis.kill();
    redis.restart().await;
    call.write_chunk("data: 2\n\n").await;
    for reader in [&mut first, &mut reader] {
        read_exactly(&mut reader.body, &events(&stream, 2..=2)).await;
    }
    end(&mut call).await;
    for reader in [&mut first, &mut reader] {
        assert!(within(SOON, "the end", reader.body.rest()).await.unwrap().is_empty());
    }
    let third = start(&redis, &upstream, "").await;
    assert_eq!(third.send(Via::Http1, get(&location)).await.text().await, events(&stream, 1..=2));
}

/// What Redis has lost comes back, and is not said to be gone meanwhile.
#[tokio::test]
async fn what_redis_has_lost_is_not_gone() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = ", key: [\"header:x-id\"], resume_at: \"{path}/{key}/stream\"";
    let (one, other) = tokio::join!(start(&redis, &upstream, keep), start(&redis, &upstream, keep));
    let ended = ended(&one, &upstream, 3).await;
    let (ended_location, ended_stream) = place(&ended);
    let ask = post("/chat", "{}").header("x-id", "c");
    let (mut first, mut call) = open(&one, &upstream, (Via::Http1, ask), STREAM).await;
    call.write_chunk("data: 1\n\n").await;
    let (location, stream) = place(&first);
    read_exactly(&mut first.body, &events(&stream, 1..=1)).await;
    // It knows what Redis has.
    let unknown = get(&format!("/.ssegate/kept/{}", "a".repeat(26)));
    assert_eq!(other.send(Via::Http1, unknown).await.status, 404);
    for (location, state) in [(&location, "running"), (&ended_location, "ended")] {
        eventually(SOON, "it is known", async || super::state(&other, location).await == state)
            .await;
    }
    redis.command::<()>(&["FLUSHALL"]).await;
    for (request, events) in [
        (get("/chat/c/stream"), events(&stream, 1..=1)),
        (get(&location), events(&stream, 1..=1)),
        (get(&ended_location), events(&ended_stream, 1..=3)),
    ] {
        let mut response = other.send(Via::Http1, request.clone()).await;
        within(SOON, "it is back", async {
            while response.status != 200 {
                assert_eq!((response.status, response.header("retry-after")), (503, "3"));
                response = other.send(Via::Http1, request.clone()).await;
            }
        })
        .await;
        read_exactly(&mut response.body, &events).await;
    }
    end(&mut call).await;
}

/// Without Redis each gateway serves its own, and says so of what it does not know.
#[tokio::test]
async fn while_redis_is_away_a_gateway_serves_its_own_streams() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let ((one, other), mut call, [mut first, mut reader]) = followed(&redis, &upstream).await;
    let (location, stream) = place(&first);
    redis.kill();
    call.write_chunk("data: 2\n\n").await;
    read_exactly(&mut first.body, &events(&stream, 2..=2)).await;
    let further = get(&location).header("last-event-id", &format!("{stream}-2"));
    let further = other.send(Via::Http1, further).await;
    assert_eq!((further.status, further.header("retry-after")), (503, "3"));
    assert!(within(NOTICED, "it is told", reader.body.rest()).await.is_err(), "it is cut");
    one.counts("ssegate_kept_unshared", &[], 1.0).await;
    // One that begins now.
    let (mut new, mut new_call, new_location) = begun(&one, &upstream, Via::Http2).await;
    for (location, from) in [(&location, &one), (&new_location, &one)] {
        assert_eq!(state(from, location).await, "running");
        let elsewhere = other.send(Via::Http1, get(location)).await;
        assert_eq!((elsewhere.status, elsewhere.header("retry-after")), (503, "3"));
    }
    let again = post("/chat", "{}").header("last-event-id", &format!("{stream}-1"));
    assert_eq!(other.send(Via::Http1, again).await.status, 503, "no second generation");
    redis.restart().await;
    // Both are known once it is back.
    drop(follow_to(&other, &location, (&stream, 2)).await);
    let new_stream = new.header("ssegate-stream").to_owned();
    drop(follow(&other, &new_location, &new_stream).await);
    new_call.write_chunk("data: 2\n\n").await;
    read_exactly(&mut new.body, &events(&new_stream, 2..=2)).await;
    eventually(SOON, "all is shared", async || {
        one.metrics().await.sum("ssegate_kept_unshared", &[]) < 0.5
    })
    .await;
    end(&mut new_call).await;
    end(&mut call).await;
}

/// What its gateway cannot send comes later: that is no reason to say that it does not exist.
#[tokio::test]
async fn a_client_that_has_read_further_than_another_gateway_comes_back_later() {
    let redis = Redis::start().await;
    let relay = Relay::to(format!("127.0.0.1:{}", redis.port()).parse().unwrap()).await;
    let upstream = Upstream::start().await;
    let url = format!("redis://{}", relay.address());
    let cut_off = build(&redis, &upstream, SHARED).redis_url(&url).start();
    let (one, other) = tokio::join!(cut_off, start(&redis, &upstream, ""));
    let (mut first, mut call, location) = begun(&one, &upstream, Via::Http1).await;
    let (_, stream) = place(&first);
    let _reader = follow(&other, &location, &stream).await;
    let behind = |request: Request, number: u64| {
        other.send(Via::Http1, request.header("last-event-id", &format!("{stream}-{number}")))
    };
    relay.hold(true);
    call.write_chunk("data: 2\n\n").await;
    read_exactly(&mut first.body, &events(&stream, 2..=2)).await;
    let (by_address, again) =
        tokio::join!(behind(get(&location), 2), behind(post("/chat", "{}"), 2));
    for early in [by_address, again] {
        assert_eq!((early.status, early.header("retry-after")), (503, "3"));
    }
    relay.hold(false);
    eventually(2 * SOON, "the other gateway has it", async || {
        behind(get(&location), 2).await.status == 200
    })
    .await;
    // What its gateway has not is nowhere.
    eventually(2 * SOON, "it is known to be nowhere", async || {
        let status = behind(get(&location), 99).await.status;
        assert!([410, 503].contains(&status), "{status}");
        status == 410
    })
    .await;
    end(&mut call).await;
}

/// Where Redis was away for all gateways nobody is taken for dead, also by one that had nothing to ask meanwhile.
#[tokio::test]
async fn an_outage_that_all_gateways_share_ends_no_stream() {
    let redis = Redis::start().await;
    let relay = Relay::to(format!("127.0.0.1:{}", redis.port()).parse().unwrap()).await;
    let upstream = Upstream::start().await;
    let url = format!("redis://{}", relay.address());
    let start = || build(&redis, &upstream, SHARED).redis_url(&url).start();
    let (one, other) = tokio::join!(start(), start());
    let (mut first, mut call, location) = begun(&one, &upstream, Via::Http1).await;
    let (_, stream) = place(&first);
    drop(follow(&other, &location, &stream).await);
    // Longer than the other one is patient after it has connected; and then than a lease.
    tokio::time::sleep(Duration::from_secs(12)).await;
    relay.hold(true);
    tokio::time::sleep(Duration::from_secs(10)).await;
    relay.hold(false);
    for _ in 0..30 {
        assert_ne!(state(&other, &location).await, "lost");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    call.write_chunk("data: 2\n\n").await;
    read_exactly(&mut first.body, &events(&stream, 2..=2)).await;
    drop(follow_to(&other, &location, (&stream, 2)).await);
    end(&mut call).await;
    assert!(within(SOON, "the end", first.body.rest()).await.unwrap().is_empty());
}

/// Without the rights for it a gateway keeps streams for its own clients, and says so once.
#[tokio::test]
async fn without_its_rights_streams_are_kept_here_and_that_is_said_once() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let acl = include_str!("../../../deploy/redis-users.acl");
    let user = acl.lines().find(|line| line.starts_with("user ssegate")).expect("the user");
    let is_kept = |selector: &str| selector.contains("ssegate:kept");
    let (base, selectors) = user.split_once(" (").expect("selectors");
    let without: Vec<_> = selectors.split(" (").filter(|selector| !is_kept(selector)).collect();
    for (selectors, is_shared) in [(without, false), (selectors.split(" (").collect(), true)] {
        let mut words = vec!["ACL", "SETUSER", "ssegate", "reset"];
        words.extend(base.split(' ').skip(2));
        let selectors: Vec<String> = selectors.iter().map(|it| format!("({it}")).collect();
        words.extend(selectors.iter().map(String::as_str));
        redis.command::<()>(&words).await;
        let url = redis.url().replace("redis://", "redis://ssegate:listens@");
        let one = build(&redis, &upstream, SHARED).redis_url(&url).start().await;
        let (mut first, mut call, location) = begun(&one, &upstream, Via::Http1).await;
        let stream = first.header("ssegate-stream").to_owned();
        if is_shared {
            let other = start(&redis, &upstream, "").await;
            drop(follow(&other, &location, &stream).await);
        } else {
            one.logs("kept streams are not shared with other gateways").await;
            one.counts("ssegate_kept_unshared", &[], 1.0).await;
            one.becomes(200, SOON).await;
            let readiness = one.admin("/readyz?verbose").await;
            assert!(readiness.text().await.contains("kept streams"));
        }
        call.write_chunk("data: 2\n\n").await;
        read_exactly(&mut first.body, &events(&stream, 2..=2)).await;
        let again = get(&location).header("last-event-id", &format!("{stream}-1"));
        let mut again = one.send(Via::Http1, again).await;
        read_exactly(&mut again.body, &events(&stream, 2..=2)).await;
        let said = one.said("kept streams are not shared with other gateways").count();
        assert_eq!(said, usize::from(!is_shared));
        end(&mut call).await;
    }
}
