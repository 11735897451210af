//! A crowd leaves and comes back, to another gateway or to the same one started again: what is kept in
//! Redis Streams is missed by nobody, and seen once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::attacks::table::judge_without_crowd;
use crate::support::{Gateway, GatewayBuilder, Redis, Request, SOON, Via, free_port, within};

/// What is added while they leave and come back.
struct Publisher {
    added: AtomicUsize,
    /// The number after which there is none; set at the end.
    last: AtomicUsize,
}

/// What a client came to.
struct Journey {
    streams: usize,
    lost: usize,
    repeated: usize,
}

/// Reads a number at a time, from the first that comes to the last there is, through as many streams
/// as it takes; does what it is told about when to come back.
async fn follow(to: [SocketAddr; 2], publisher: Arc<Publisher>) -> Journey {
    let mut journey = Journey { streams: 0, lost: 0, repeated: 0 };
    let (mut expected, mut id) = (None, String::new());
    loop {
        let at = to[journey.streams.min(1)];
        let mut request = Request::events("/events/news");
        if !id.is_empty() {
            request = request.header("last-event-id", &id);
        }
        if tokio::net::TcpStream::connect(at).await.is_err() {
            // It is being started.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(100..300))).await;
            continue;
        }
        let mut stream = request.send(Via::Http1, at).await.stream();
        journey.streams += 1;
        let mut retry = Duration::ZERO;
        while let Some(block) = stream.block().await {
            retry = block.retry.map_or(retry, Duration::from_millis);
            let Some(event) = block.event else { continue };
            assert_eq!(event.name, "message", "{event:?}");
            let number: usize = event.data.parse().unwrap();
            let next = expected.unwrap_or(number);
            journey.lost += number.saturating_sub(next);
            journey.repeated += usize::from(number < next);
            expected = Some(number + 1);
            if number == publisher.last.load(Ordering::SeqCst) {
                return journey;
            }
        }
        assert_eq!(stream.end().await, Ok(()));
        // A stream that ends before its first event leaves the client's id as it was.
        if !stream.last_id().is_empty() {
            stream.last_id().clone_into(&mut id);
        }
        tokio::time::sleep(retry).await;
    }
}

fn gateway(redis: &Redis, port: u16, drain: Duration) -> GatewayBuilder {
    let settings = format!("drain: {}ms\nsse: {{ retry: 1s }}", drain.as_millis());
    Gateway::build(redis).streams().port(port).settings(&settings)
}

async fn a_crowd_moves(count: usize, drain: Duration, pace: Duration) {
    let redis = Arc::new(Redis::start().await);
    let port = free_port();
    let mut first = gateway(&redis, port, drain).start().await;
    let other = gateway(&redis, 0, drain).start().await;
    let publisher = Publisher { added: AtomicUsize::new(0), last: AtomicUsize::new(usize::MAX) };
    let publisher = Arc::new(publisher);
    let mut clients = JoinSet::new();
    let here = first.address("http");
    for number in 0..count {
        let back = if number % 2 == 0 { here } else { other.address("http") };
        clients.spawn(follow([here, back], Arc::clone(&publisher)));
    }
    let streams = count as f64;
    first.counts("ssegate_streams", &[], streams).await;
    let (adding, to) = (Arc::clone(&publisher), Arc::clone(&redis));
    let adding = tokio::spawn(async move {
        while adding.last.load(Ordering::SeqCst) == usize::MAX {
            let number = adding.added.load(Ordering::SeqCst);
            to.add("news", &number.to_string()).await;
            adding.added.store(number + 1, Ordering::SeqCst);
            tokio::time::sleep(pace).await;
        }
        let last = adding.last.load(Ordering::SeqCst);
        for number in adding.added.load(Ordering::SeqCst)..=last {
            to.add("news", &number.to_string()).await;
        }
    });
    // Each has seen something, and has an id.
    first.counts("ssegate_events_sent_total", &[], 2.0 * streams).await;

    let begun = Instant::now();
    first.terminate();
    let status = first.exit_within(drain + SOON).await;
    assert_eq!(status.code(), Some(0));
    let took = begun.elapsed();
    assert!(!first.log().contains("drain timed out"), "{}", first.log());
    let again = gateway(&redis, port, drain).start().await;
    let half = (count / 2) as f64;
    again.counts("ssegate_streams", &[], half).await;
    other.counts("ssegate_streams", &[], half).await;
    publisher.last.store(publisher.added.load(Ordering::SeqCst) + 5, Ordering::SeqCst);
    let journeys = within(4 * SOON, "all have the last", clients.join_all()).await;
    adding.await.unwrap();
    assert!(journeys.iter().all(|journey| journey.streams >= 2), "each has come back");
    let lost: usize = journeys.iter().map(|journey| journey.lost).sum();
    let repeated: usize = journeys.iter().map(|journey| journey.repeated).sum();
    let harmed = journeys.iter().filter(|journey| journey.lost + journey.repeated > 0).count();
    let bounds = [
        ("stopped after s", (drain + SOON).as_secs_f64(), took.as_secs_f64()),
        ("lost", 0.0, lost as f64),
        ("repeated", 0.0, repeated as f64),
    ];
    judge_without_crowd(&format!("{count} that move to another gateway"), &bounds, harmed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_moves_misses_nothing() {
    a_crowd_moves(200, Duration::from_secs(2), Duration::from_millis(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "five thousand connections, twice"]
async fn long_five_thousand_that_move_miss_nothing() {
    a_crowd_moves(5000, Duration::from_secs(5), Duration::from_millis(500)).await;
}
