//! Gateways that are killed while messages are published.

use std::time::Duration;

use rustix::process::Signal;

use super::{build, start};
use crate::support::{EventStream, Gateway, Redis, SOON, Via, eventually, within};

/// What one client has received, over all its connections.
#[derive(Default)]
struct Received {
    numbers: Vec<u64>,
    // Behind which number each gap stood, and its reason.
    gaps: Vec<(Option<u64>, String)>,
    id: Option<String>,
}

impl Received {
    /// Comes to this gateway.
    async fn open(&self, gateway: &Gateway) -> EventStream {
        const TARGET: &str = "/events?channel=kept:storm";
        match &self.id {
            Some(id) => gateway.resume(Via::Http1, TARGET, id).await,
            None => gateway.subscribe(TARGET).await,
        }
    }

    /// Reads until `last`, or until the stream ends.
    async fn read(&mut self, mut stream: EventStream, last: u64) {
        while self.numbers.last() != Some(&last)
            && let Some(event) = within(6 * SOON, "an event", stream.event()).await
        {
            self.id = Some(event.id.clone());
            match event.name.as_str() {
                "gap" => self.gaps.push((self.numbers.last().copied(), event.data)),
                _ => self.numbers.push(event.data.parse().expect("a number")),
            }
        }
    }

    fn missing(&self, count: u64) -> Vec<u64> {
        (0..count).filter(|number| !self.numbers.contains(number)).collect()
    }
}

/// Publishes numbers from `from` on, some at a time.
async fn publish(redis: &Redis, numbers: std::ops::Range<u64>, pause: Duration) {
    for number in numbers {
        redis.publish("kept:storm", number.to_string()).await;
        if number % 5 == 0 {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn one_is_killed(count: u64, kills: u64) {
    let redis = Redis::start().await;
    let (mut one, two) = (start(&redis).await, start(&redis).await);
    let (mut moving, mut staying) = (Received::default(), Received::default());
    let part = count / (kills + 1);
    let pause = Duration::from_millis(5);
    let (steady, mut stream) = (staying.open(&two).await, moving.open(&one).await);
    let steady = staying.read(steady, count - 1);
    let moves = async {
        for kill in 0..kills {
            let publishing = publish(&redis, kill * part..(kill + 1) * part, pause);
            let last = (kill + 1) * part - 1;
            let reading = moving.read(stream, last);
            let killing = async {
                publishing.await;
                one.signal(Signal::KILL);
            };
            tokio::join!(reading, killing);
            one = build(&redis).start().await;
            one.becomes(200, SOON).await;
            stream = moving.open(&one).await;
        }
        let publishing = publish(&redis, kills * part..count, pause);
        tokio::join!(moving.read(stream, count - 1), publishing);
    };
    tokio::join!(steady, moves);
    let expected: Vec<u64> = (0..count).collect();
    assert_eq!(staying.gaps, [], "of who stayed");
    assert_eq!(staying.numbers, expected, "of who stayed");
    assert_eq!(moving.gaps, [], "of who came back");
    assert_eq!(moving.numbers, expected, "of who came back");
}

async fn all_are_killed(count: u64, times: u64) {
    let redis = Redis::start().await;
    let mut received = Received::default();
    let mut unheard = Vec::new();
    let pause = Duration::from_millis(5);
    let mut from = 0;
    for time in 0..=times {
        let (one, two) = (start(&redis).await, start(&redis).await);
        let until = from + count;
        let stream = received.open(&one).await;
        tokio::join!(received.read(stream, until - 1), publish(&redis, from..until, pause));
        from = until;
        if time == times {
            break;
        }
        one.signal(Signal::KILL);
        two.signal(Signal::KILL);
        eventually(SOON, "nobody listens", async || redis.listeners("ssegate:recorded").await == 0)
            .await;
        publish(&redis, from..from + 3, Duration::ZERO).await;
        unheard.extend(from..from + 3);
        from += 3;
    }
    // What had not been appended when all were killed may be missing, too: it comes right before what nobody heard.
    let missing = received.missing(from);
    assert!(unheard.iter().all(|number| missing.contains(number)), "{missing:?}");
    assert_eq!(missing, unheard, "only what nobody heard, since the client had the rest");
    let mut sorted = received.numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(received.numbers, sorted, "in order, and once");
    assert_eq!(received.gaps.len() as u64, times, "{:?}", received.gaps);
}

#[tokio::test]
async fn kill_9_of_one_gateway_loses_nothing() {
    Box::pin(one_is_killed(400, 1)).await;
}

#[tokio::test]
async fn kill_9_of_all_gateways_loses_only_what_nobody_heard() {
    all_are_killed(100, 1).await;
}

#[tokio::test]
#[ignore = "about a minute"]
async fn long_kill_9_of_one_gateway_again_and_again_loses_nothing() {
    Box::pin(one_is_killed(6000, 8)).await;
}

#[tokio::test]
#[ignore = "about a minute"]
async fn long_kill_9_of_all_gateways_again_and_again_loses_only_what_nobody_heard() {
    all_are_killed(400, 6).await;
}

#[tokio::test]
async fn a_redis_that_comes_back_with_its_logs_costs_one_gap() {
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let gateway = start(&redis).await;
    let mut stream = gateway.subscribe("/events?channel=kept:storm").await;
    redis.publish("kept:storm", "1").await;
    assert_eq!(stream.next_event().await.data, "1");
    let id = stream.last_id().to_owned();
    super::recorded(&redis, "kept:storm", 1).await;
    redis.kill();
    gateway.becomes(503, SOON).await;
    redis.restart().await;
    gateway.becomes(200, SOON).await;
    redis.publish("kept:storm", "2").await;
    for mut stream in [stream, gateway.resume(Via::Http2, "/events?channel=kept:storm", &id).await]
    {
        let gap = stream.next_event().await;
        assert_eq!((gap.name.as_str(), gap.data.contains("unrecorded")), ("gap", true), "{gap:?}");
        assert_eq!(stream.next_event().await.data, "2");
    }
}
