//! Each subscriber gets every message from its `ready` to its leaving, in order, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::{EventStream, Gateway, Http2, Redis, Request, Via, within};

/// What is published on each channel: its numbers, from 0.
struct Publisher {
    /// The number that comes next on each channel; raised before it is sent.
    next: Vec<AtomicUsize>,
    per_channel: usize,
}

impl Publisher {
    fn new(channels: usize, per_channel: usize) -> Arc<Self> {
        Arc::new(Self { next: (0..channels).map(|_| AtomicUsize::new(0)).collect(), per_channel })
    }

    /// Publishes everything, some on each channel in turn, at the pace at which `witness`, who
    /// follows all channels, gets it.
    async fn publish(&self, redis: &Redis, mut witness: EventStream) {
        const BATCH: usize = 5;
        for _ in 0..self.per_channel / BATCH {
            for (channel, next) in self.next.iter().enumerate() {
                let first = next.fetch_add(BATCH, Ordering::SeqCst);
                let numbers = (first..first + BATCH).map(|number| format!("{channel}:{number}"));
                redis.publish_all(&format!("c{channel}"), numbers).await;
            }
            for _ in 0..BATCH * self.next.len() {
                witness.next_event().await;
            }
        }
    }

    /// Follows `channels` from `ready` on for up to `stay` events, and checks each of them.
    async fn follow(&self, mut stream: EventStream, channels: &[usize], stay: usize) -> usize {
        stream.ready().await;
        // What is published from now on arrives; what was sent before may.
        let soonest: Vec<_> = self.next.iter().map(|next| next.load(Ordering::SeqCst)).collect();
        let mut expected: Vec<Option<usize>> = vec![None; self.next.len()];
        let mut seen = 0;
        while seen < stay && !self.is_complete(channels, &expected, &soonest) {
            let event = stream.next_event().await;
            assert_eq!(event.name, "message", "{}", event.data);
            let (channel, number) = event.data.split_once(':').unwrap();
            let (channel, number): (usize, usize) =
                (channel.parse().unwrap(), number.parse().unwrap());
            assert!(channels.contains(&channel), "{channel} was not asked for");
            match expected[channel] {
                Some(expected) => assert_eq!(number, expected, "on channel {channel}"),
                None => assert!(number <= soonest[channel], "{number} came first on {channel}"),
            }
            expected[channel] = Some(number + 1);
            seen += 1;
        }
        seen
    }

    /// Whether everything that will ever come on `channels` has been seen.
    fn is_complete(
        &self,
        channels: &[usize],
        expected: &[Option<usize>],
        soonest: &[usize],
    ) -> bool {
        let next = |channel: usize| expected[channel].unwrap_or(soonest[channel]);
        channels.iter().all(|&channel| next(channel) >= self.per_channel)
    }
}

/// Which channels a subscriber asks for: one, and some a second one.
fn channels_of(subscriber: usize, channels: usize) -> Vec<usize> {
    let first = subscriber % channels;
    let second = (subscriber / channels) % channels;
    if subscriber.is_multiple_of(4) && first != second { vec![first, second] } else { vec![first] }
}

fn target(channels: &[usize]) -> String {
    let names: Vec<_> = channels.iter().map(|channel| format!("channel=c{channel}")).collect();
    format!("/events?{}", names.join("&"))
}

/// So many subscribers at any time, over HTTP/1.1 and HTTP/2, who come and go while the publisher
/// publishes, and those who stay to the end.
async fn every_message_once(subscribers: usize, channels: usize, per_channel: usize) {
    let redis = Redis::start().await;
    let gateway = Arc::new(Gateway::start(&redis).await);
    let publisher = Publisher::new(channels, per_channel);

    let mut connections = Vec::new();
    for _ in 0..subscribers.div_ceil(200) {
        connections.push(Http2::connect(Via::Http2, gateway.address("https")).await);
    }
    let first_ready = Arc::new(tokio::sync::Semaphore::new(0));
    let mut tasks = JoinSet::new();
    for subscriber in 0..subscribers {
        let (gateway, publisher) = (Arc::clone(&gateway), Arc::clone(&publisher));
        let connection = connections[subscriber / 2 % connections.len()].clone();
        let first_ready = Arc::clone(&first_ready);
        tasks.spawn(async move {
            let channels = channels_of(subscriber, publisher.next.len());
            let request = Request::events(&target(&channels));
            let mut seen = 0;
            loop {
                let stream = if subscriber % 2 == 0 {
                    connection.send(request.clone()).await.stream()
                } else {
                    gateway.send(Via::Http1, request.clone()).await.stream()
                };
                // Half of them stay, half come and go.
                let stays = subscriber % 4 < 2;
                let stay = if stays { usize::MAX } else { fastrand::usize(20..300) };
                first_ready.add_permits(1);
                seen += publisher.follow(stream, &channels, stay).await;
                let next = &publisher.next;
                let is_over = |channel: &usize| {
                    next[*channel].load(Ordering::SeqCst) >= publisher.per_channel
                };
                if stays || channels.iter().all(is_over) {
                    return (stays, seen);
                }
            }
        });
    }

    // It is a minute of work on a machine of two processors that has nothing else to do.
    let limit = Duration::from_secs(900);
    let all = u32::try_from(subscribers).unwrap();
    drop(within(limit, "all streams are open", first_ready.acquire_many(all)).await.unwrap());
    let witness = gateway.subscribe(&target(&(0..channels).collect::<Vec<_>>())).await;
    within(limit, "all is published", publisher.publish(&redis, witness)).await;
    let mut delivered = 0;
    within(limit, "everybody has seen everything", async {
        while let Some(result) = tasks.join_next().await {
            delivered += result.unwrap().1;
        }
    })
    .await;
    assert!(delivered >= subscribers / 2 * per_channel * 9 / 10, "{delivered} deliveries");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 0.0);
    assert_eq!(metrics.sum("ssegate_events_dropped_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribers_come_and_go_and_miss_nothing() {
    every_message_once(1000, 10, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a minute or two: run by tests/run"]
async fn a_thousand_subscribers_of_one_channel_miss_none_of_ten_thousand_messages() {
    every_message_once(1000, 1, 10_000).await;
}
