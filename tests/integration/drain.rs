//! A crowd leaves: evenly, each with a time of its own to come back, and nothing is lost on the way.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::attacks::table::judge_without_crowd;
use crate::support::frames::{GOAWAY, PING};
use crate::support::{
    EventStream, Frame, FrameConnection, Gateway, Redis, Request, SOON, Via, eventually, measured,
    within,
};

/// How evenly is looked at in slices of this.
const SLICE: Duration = Duration::from_millis(500);

/// When a stream ended, and how long its client was told to wait.
struct Goodbye {
    at: Instant,
    retry: Duration,
    last_id: String,
}

/// Reads a stream to its end, which must be a clean one.
async fn goodbye(mut stream: EventStream) -> Goodbye {
    let mut retry = None;
    while let Some(block) = stream.block().await {
        retry = block.retry.or(retry);
    }
    let at = Instant::now();
    assert_eq!(stream.end().await, Ok(()));
    let retry = Duration::from_millis(retry.expect("a time to come back"));
    Goodbye { at, retry, last_id: stream.last_id().to_owned() }
}

/// How many of `times` are in each slice of `over`, from `start` on.
fn slices(times: impl Iterator<Item = Instant>, start: Instant, over: Duration) -> Vec<usize> {
    let slice_of =
        |at: Instant| at.saturating_duration_since(start).as_millis() / SLICE.as_millis();
    let mut slices = vec![0; usize::try_from(over.as_millis() / SLICE.as_millis()).unwrap()];
    let last = slices.len() - 1;
    for at in times {
        slices[usize::try_from(slice_of(at)).unwrap().min(last)] += 1;
    }
    slices
}

/// By how much the ends of streams, and the clients that come back, may be off an even number in each
/// slice of the time.
const TOLERANCE: f64 = 0.25;

/// Drains a gateway with `count` streams over the time `over`. No stream ends before its time, the ends are
/// spread over the drain, and the clients, which wait for the `retry` they received, come back as evenly.
/// If the test `is_alone` on the machine, each slice of time is checked; otherwise ends may be seen late.
async fn a_crowd_leaves(count: usize, over: Duration, is_alone: bool) {
    let redis = Redis::start().await;
    let drain = format!("drain: {}ms", over.as_millis());
    let mut gateway = Gateway::build(&redis).settings(&drain).start().await;
    let mut streams = gateway.subscribe_all("/events/news", count).await;
    redis.publish("news", "before").await;
    let id = streams[0].next_event().await.id;
    let mut leaving: JoinSet<Goodbye> = streams.into_iter().map(goodbye).collect();
    gateway
        .counts("ssegate_events_sent_total", &[], f64::from(u32::try_from(count).unwrap()))
        .await;
    let start = Instant::now();
    gateway.terminate();
    let mut gone = Vec::new();
    while let Some(goodbye) = leaving.join_next().await {
        gone.push(goodbye.unwrap());
    }
    assert!(gone.iter().all(|goodbye| goodbye.last_id == id), "each has its last id");
    let status = gateway.exit_within(over + SOON).await;
    assert_eq!(status.code(), Some(0));
    assert!(!gateway.log().contains("drain timed out"), "{}", gateway.log());

    gone.sort_by_key(|goodbye| goodbye.at);
    let even = count as f64 * SLICE.as_secs_f64() / over.as_secs_f64();
    let ends = slices(gone.iter().map(|goodbye| goodbye.at), start, over);
    measured(&format!("{count} streams over {over:?}, ends in each {SLICE:?}: {ends:?}"));
    let mut due = TOLERANCE * even;
    let mut ended = 0;
    for in_slice in &ends[..ends.len() - 1] {
        (due, ended) = (due + even, ended + in_slice);
        assert!(ended as f64 <= due, "too soon: {ends:?}, where {even} would be even");
    }
    let half = gone[count * 3 / 4].at - gone[count / 4].at;
    assert!(half >= over / 4, "half of all streams end within {half:?}: {ends:?}");
    if is_alone {
        let off = |in_slice: &usize| (*in_slice as f64 / even - 1.0).abs();
        assert!(ends.iter().all(|slice| off(slice) <= TOLERANCE), "{ends:?}, {even} is even");
    }
    // When each ends is the gateway's to say; when that is seen is not.
    let times = gone.iter().enumerate().map(|(rank, goodbye)| {
        let is_due = over.mul_f64(rank as f64 / count as f64);
        start + is_due + goodbye.retry
    });
    let times: Vec<_> = times.collect();
    let first = times.iter().copied().min().unwrap();
    let back = slices(times.into_iter(), first, 2 * over + 2 * SOON);
    measured(&format!("those who come back: {back:?}"));
    let off = |slices: &[usize]| {
        slices.iter().map(|&n| (n as f64 / even - 1.0) * 100.0).fold(f64::MIN, f64::max)
    };
    let bounds = [("returns off even %", 100.0 * TOLERANCE, off(&back))];
    // Each end was between two events, or this would not be reached.
    judge_without_crowd(&format!("SIGTERM with {count} streams"), &bounds, count - gone.len());
}

#[tokio::test]
async fn a_crowd_leaves_evenly() {
    a_crowd_leaves(600, Duration::from_secs(3), false).await;
}

#[tokio::test]
#[ignore = "five thousand connections"]
async fn long_five_thousand_leave_evenly_over_five_seconds() {
    a_crowd_leaves(5000, Duration::from_secs(5), true).await;
}

#[tokio::test]
async fn who_pings_for_ever_does_not_hold_the_stop() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::build(&redis).settings("drain: 1s").start().await;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    connection.send(&Frame::get(1, "/events/news")).await;
    gateway.counts("ssegate_streams", &[], 1.0).await;
    gateway.terminate();
    let pinging = async {
        loop {
            connection.send(&Frame::new(PING, 0, 0, b"for ever")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let exit = gateway.exit_within(SOON);
    let status = tokio::select! {
        status = exit => status,
        () = pinging => unreachable!("it pings for ever"),
    };
    assert_eq!(status.code(), Some(0));
    assert!(connection.next_of(GOAWAY).await.is_some());
}

#[tokio::test]
async fn before_the_drain_new_clients_are_let_in_and_sent_away() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::build(&redis).settings("drain_delay: 8s\ndrain: 1s").start().await;
    gateway.becomes(200, SOON).await;
    let mut open = gateway.subscribe("/events/news").await;
    gateway.terminate();
    // At the begin of the delay: those below are let in after it.
    gateway.becomes(503, SOON).await;
    for via in Via::ALL {
        let late = gateway.send(via, Request::events("/events/news")).await.stream();
        late.sent_away().await;
    }
    redis.publish("news", "still served").await;
    assert_eq!(open.next_event().await.data, "still served");
    assert_eq!(open.end().await, Ok(()));
    assert_eq!(gateway.exit_within(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_delay() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::build(&redis).settings("drain_delay: 1h").start().await;
    gateway.becomes(200, SOON).await;
    gateway.terminate();
    gateway.becomes(503, SOON).await;
    gateway.signal(Signal::INT);
    gateway.exit_within(SOON).await;
}

/// Row 31 of the fault matrix: `kill -9`, and another one on the same port. Clients do as browsers
/// do: they come back with their last id until somebody answers.
async fn killed_and_started_again(count: usize) {
    let redis = Redis::start().await;
    let port = crate::support::free_port();
    let first = Gateway::build(&redis).port(port).start().await;
    let to = first.address("http");
    let mut streams = first.subscribe_all("/events/news", count).await;
    redis.publish("news", "before").await;
    let last_id = streams[0].next_event().await.id;
    let mut clients = JoinSet::new();
    for mut stream in streams {
        let last_id = last_id.clone();
        clients.spawn(async move {
            while stream.event().await.is_some() {}
            let id = stream.last_id().to_owned();
            assert_eq!(id, last_id);
            loop {
                tokio::time::sleep(Duration::from_millis(200 + fastrand::u64(..400))).await;
                if tokio::net::TcpStream::connect(to).await.is_ok() {
                    break;
                }
            }
            let back = Request::events("/events/news").header("last-event-id", &id);
            let mut back = back.send(Via::Http1, to).await.stream();
            let gap = back.next_event().await;
            assert_eq!(gap.name, "gap", "{gap:?}");
            while !back.next_block().await.comments.iter().any(|comment| comment == "ready") {}
            back
        });
    }
    let heard = f64::from(u32::try_from(count).unwrap());
    first.counts("ssegate_events_sent_total", &[], heard).await;
    first.signal(Signal::KILL);
    let second = Gateway::build(&redis).port(port).start().await;
    let begun = Instant::now();
    let mut back = within(2 * SOON, "all are back", clients.join_all()).await;
    let all_back = begun.elapsed().as_secs_f64();
    redis.publish("news", "after").await;
    for stream in &mut back {
        assert_eq!(stream.next_event().await.data, "after");
    }
    let bounds = [("all back after s", (2 * SOON).as_secs_f64(), all_back)];
    judge_without_crowd(&format!("kill -9 with {count} streams"), &bounds, count - back.len());
    assert_eq!(second.metrics().await.sum("ssegate_streams_closed_total", &[]), 0.0);
}

#[tokio::test]
async fn all_come_back_to_one_that_was_killed_and_started_again() {
    killed_and_started_again(200).await;
}

#[tokio::test]
#[ignore = "a thousand connections, twice"]
async fn long_a_thousand_come_back_to_one_that_was_killed() {
    killed_and_started_again(1000).await;
}

/// Follows a channel until `last` comes, through as many streams as it takes; gives all data.
async fn follow(to: SocketAddr, last: String) -> (Vec<String>, usize) {
    let (mut seen, mut streams, mut id) = (Vec::new(), 0, String::new());
    loop {
        let mut request = Request::events("/events/news");
        if !id.is_empty() {
            request = request.header("last-event-id", &id);
        }
        let mut stream = request.send(Via::Http1, to).await.stream();
        streams += 1;
        while let Some(event) = stream.event().await {
            assert_eq!(event.name, "message", "a gap: {event:?}");
            seen.push(event.data);
            if seen.last() == Some(&last) {
                return (seen, streams);
            }
        }
        assert_eq!(stream.end().await, Ok(()));
        // A stream that ends before its first event leaves the client's id as it was.
        if !stream.last_id().is_empty() {
            stream.last_id().clone_into(&mut id);
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_too_old_ends_and_its_client_misses_nothing() {
    const LAST: usize = 400;
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("sse: { max_stream_age: 1s }").start().await;
    let to = gateway.address("http");
    let last = LAST.to_string();
    let mut clients: JoinSet<_> = (0..20).map(|_| follow(to, last.clone())).collect();
    let all_listen = async || gateway.metrics().await.sum("ssegate_streams", &[]) >= 20.0;
    eventually(SOON, "all listen", all_listen).await;
    let _keeps_the_channel = gateway.subscribe("/events/news").await;
    for number in 0..=LAST {
        redis.publish("news", number.to_string()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while let Some(client) = within(SOON, "all have seen the last", clients.join_next()).await {
        let (seen, streams) = client.unwrap();
        let expected: Vec<_> = (0..=LAST).map(|number| number.to_string()).collect();
        // Who came a moment after the first event sees the others.
        assert!(expected.ends_with(&seen) && seen.len() > LAST - 50, "{seen:?}");
        assert!(streams > 2, "{streams}");
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"max_stream_age\""], 40.0).await;
}
