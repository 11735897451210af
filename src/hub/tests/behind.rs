use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::logs::log;
use super::{TestHub, read, run, settle, topic};
use crate::event::{EntryId, Event};
use crate::hub::{HistorySettings, Hub, HubSettings, Shard, StreamSettings, Subscriber};
use crate::metrics::Metrics;

/// A queue that takes everything.
fn wide() -> StreamSettings {
    StreamSettings { max_queue_bytes: 1 << 30, ..StreamSettings::default() }
}

fn keep(count: usize) -> HistorySettings {
    HistorySettings { count, bytes: 1 << 30, age: Duration::from_secs(3600) }
}

fn publish(hub: &Hub, channel: &str, number: usize) {
    let data = Bytes::from(number.to_string());
    hub.begin_message(channel.as_bytes());
    hub.publish(false, channel, Instant::now(), |_| {
        Some(Event { data: data.clone(), ..Event::default() })
    });
}

/// Checks that the numbers ascend by one, but right after a gap; answers the last and the gaps.
fn checked(text: &str) -> (usize, usize) {
    let (mut last, mut gaps, mut after_gap) = (None, 0, false);
    for line in text.lines() {
        if line == "event: gap" {
            gaps += 1;
            after_gap = true;
        }
        let Some(Ok(number)) = line.strip_prefix("data: ").map(str::parse::<usize>) else {
            continue;
        };
        let is_next = last.is_none_or(|last| number == last + 1);
        assert!(is_next || after_gap && last < Some(number), "{number} after {last:?}");
        (last, after_gap) = (Some(number), false);
    }
    (last.expect("there are events"), gaps)
}

/// One who reads, on a channel of which so much is kept, while the shard does not run for 140,000
/// events on this and another channel.
async fn miss(kept: usize) -> (TestHub, Subscriber) {
    let house = TestHub::new(1, HubSettings { history_memory: 1 << 30, ..HubSettings::default() });
    let topics = vec![topic("a"), topic("b")];
    let stream = house.open_topics(0, topics, None, wide(), keep(kept));
    settle().await;
    house.follow().await;
    drop(read(&stream));
    for number in 0..140_000 {
        publish(&house.hub, ["a", "b"][number % 2], number);
        if number % 500 == 499 {
            house.hub.flush();
        }
    }
    (house, stream)
}

#[test]
fn a_shard_that_fell_behind_catches_up_from_history() {
    run(async {
        let (house, stream) = miss(100_000).await;
        // A stream that opens meanwhile begins where its shard is.
        let late = house.open_topics(0, vec![topic("a")], None, wide(), keep(100_000));
        tokio::time::sleep(Duration::from_secs(10)).await;
        publish(&house.hub, "a", 140_000);
        house.hub.flush();
        settle().await;
        assert_eq!(checked(&read(&stream)), (140_000, 0));
        let late = read(&late);
        assert!(late.contains("id: R-0\n: ready") && !late.contains("gap"));
        assert_eq!(late.matches("data: ").count(), 70_001);
    });
}

#[test]
fn a_shard_that_fell_behind_is_told_once_where_history_is_too_short() {
    run(async {
        let (_house, stream) = miss(1000).await;
        // Nothing more is published.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let text = read(&stream);
        assert_eq!(checked(&text), (139_999, 1));
        assert!(
            text.contains(r#"{"reason":"overload","channels":["#),
            "{:?}",
            text.lines().filter(|line| line.contains("reason")).collect::<Vec<_>>()
        );
        assert!(text.contains("id: R-140000\n"), "the id goes on");
    });
}

#[test]
fn every_channel_that_was_lost_to_a_shard_is_told_of_wherever_its_hole_is() {
    run(async {
        let house =
            TestHub::new(1, HubSettings { history_memory: 1 << 30, ..HubSettings::default() });
        let open =
            |name: &str, kept| house.open_topics(0, vec![topic(name)], None, wide(), keep(kept));
        let streams = [open("long", 200_000), open("early", 10), open("late", 10)];
        settle().await;
        house.follow().await;
        for stream in &streams {
            drop(read(stream));
        }
        // An inbox that is empty takes any batch.
        publish(&house.hub, "long", 0);
        house.hub.flush();
        // More than is handed over together lies between the two holes.
        for (channel, events) in [("early", 1000), ("long", 140_000), ("late", 1000)] {
            for number in 0..events {
                publish(&house.hub, channel, number);
            }
        }
        house.hub.flush();
        tokio::time::sleep(Duration::from_secs(10)).await;
        publish(&house.hub, "long", 140_000);
        house.hub.flush();
        settle().await;
        let told = streams.each_ref().map(|stream| {
            let text = read(stream);
            (text.matches("event: gap").count(), text.matches("data: ").count())
        });
        assert_eq!(told, [(0, 140_002), (1, 11), (1, 11)]);
    });
}

#[test]
fn a_shard_that_fell_behind_in_a_log_catches_up_while_a_message_is_still_being_heard() {
    run(async {
        let house =
            TestHub::new(1, HubSettings { history_memory: 1 << 30, ..HubSettings::default() });
        let open = |topic| house.open_topics(0, vec![topic], None, wide(), keep(200_000));
        let (news, log) = (open(topic("news")), open(log("a")));
        settle().await;
        house.follow().await;
        for (name, _) in house.hub.log_wishes().await {
            house.hub.begin_log(name.as_str(), EntryId::ZERO);
        }
        house.hub.flush();
        settle().await;
        drop((read(&news), read(&log)));
        // Another copy of it may follow.
        publish(&house.hub, "news", 0);
        house.hub.flush();
        for number in 0..140_000 {
            let entry = EntryId { milliseconds: number + 1, sequence: 0 };
            let data = Bytes::from(number.to_string());
            house.hub.entry("a", entry, Instant::now(), |_| {
                Some(Event { data: data.clone(), ..Event::default() })
            });
            if number % 500 == 499 {
                house.hub.flush();
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let text = read(&log);
        assert_eq!(checked(&text), (139_999, 0));
        assert_eq!(text.matches("data: ").count(), 140_000);
        assert_eq!(read(&news).matches("data: ").count(), 1);
        publish(&house.hub, "news", 1);
        house.hub.flush();
        settle().await;
        assert_eq!(read(&news).matches("data: ").count(), 1);
    });
}

#[expect(clippy::disallowed_methods, reason = "the shard is to be blocked")]
fn stand_still() {
    std::thread::sleep(Duration::from_secs(2));
}

#[test]
fn a_shard_whose_thread_stands_still_for_two_seconds_under_load_misses_nothing() {
    let metrics = Metrics::new().expect("metrics");
    let (hub, links) = Hub::new(
        HubSettings { history_memory: 1 << 30, ..HubSettings::default() },
        1,
        metrics.clone(),
    );
    let link = links.into_iter().next().expect("one was asked for");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let runtime = tokio::runtime::LocalRuntime::new().expect("a runtime");
        runtime.block_on(async move {
            let shard = Shard::new(link, Duration::from_secs(30), metrics.for_shard());
            let running = shard.clone();
            drop(tokio::task::spawn_local(async move { running.run().await }));
            let stream = shard.subscribe(crate::hub::StreamRequest {
                topics: vec![topic("a")],
                settings: std::sync::Arc::new(wide()),
                prefix_bytes: 0,
                history: Some(keep(1_000_000)),
                last_seen: crate::hub::LastSeen::default(),
                begins: super::TOLD,
                cut: Box::new(|| {}),
            });
            let mut text = String::new();
            let mut has_stood_still = false;
            while text.rsplit('\n').nth(3) != Some("data: end") {
                let piece =
                    std::future::poll_fn(|cx| stream.poll_next(crate::sse::frame::Form::Text, cx));
                text += str::from_utf8(&piece.await.expect("it goes on")).expect("text");
                if !has_stood_still && text.contains(": ready") {
                    has_stood_still = true;
                    ready.send(()).expect("it is waited for");
                    stand_still();
                }
            }
            text
        })
    });
    let published = tokio::runtime::LocalRuntime::new().expect("a runtime").block_on(async {
        let running = hub.clone();
        drop(tokio::task::spawn_local(async move { running.run().await }));
        for (subscription, _) in hub.wishes().await {
            hub.confirm(false, subscription.name.as_str());
        }
        hub.flush();
        while is_ready.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        // More than fits into an inbox, for longer than the shard stands still.
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < Duration::from_millis(2500) || number < 150_000 {
            for _ in 0..100 {
                publish(&hub, "a", number);
                number += 1;
            }
            hub.flush();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        hub.begin_message(b"a");
        hub.publish(false, "a", Instant::now(), |_| {
            Some(Event { data: Bytes::from_static(b"end"), ..Event::default() })
        });
        hub.flush();
        while !reader.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number
    });
    let text = reader.join().expect("the reader read");
    assert_eq!(checked(&text), (published - 1, 0));
}
