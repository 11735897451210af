//! Shards that fall behind.

use std::time::Duration;

use bytes::Bytes;
use ssegate_sse::Event;
use tokio::time::Instant;

use super::logs::log;
use super::{TestHub, read, run, settle, topic};
use crate::{EntryId, Subscription};
use crate::{HistorySettings, Hub, HubSettings, Shard, SourceKind, StreamSettings, Subscriber};

/// A queue that takes everything.
fn unbounded() -> StreamSettings {
    StreamSettings { max_queue_bytes: 1 << 30, ..StreamSettings::default() }
}

fn keep(count: usize) -> HistorySettings {
    HistorySettings { count, bytes: 1 << 30, age: Duration::from_secs(3600) }
}

fn publish(hub: &Hub, channel: &str, number: usize) {
    let data = Bytes::from(number.to_string());
    hub.begin_message(channel.as_bytes(), None);
    hub.publish(false, channel, Instant::now(), |_| {
        Some(Event { data: data.clone(), ..Event::default() })
    });
}

/// Checks that the numbers ascend by one, except right after a gap; returns the last, and how many gaps
/// there are.
fn check(text: &str) -> (usize, usize) {
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

/// A stream of two channels with a history of `kept` events, whose shard does not run while 140,000
/// events are published.
async fn fall_behind(kept: usize) -> (TestHub, Subscriber) {
    let test = TestHub::new(1, HubSettings { history_memory: 1 << 30, ..HubSettings::default() });
    let topics = vec![topic("a"), topic("b")];
    let stream = test.open_topics(0, topics, None, unbounded(), keep(kept));
    settle().await;
    test.follow().await;
    drop(read(&stream));
    for number in 0..140_000 {
        publish(&test.hub, ["a", "b"][number % 2], number);
        if number % 500 == 499 {
            test.hub.flush();
        }
    }
    (test, stream)
}

#[test]
fn a_shard_that_fell_behind_catches_up_from_history() {
    run(async {
        let (test, stream) = fall_behind(100_000).await;
        // A stream that opens meanwhile begins where its shard stands.
        let late = test.open_topics(0, vec![topic("a")], None, unbounded(), keep(100_000));
        tokio::time::sleep(Duration::from_secs(10)).await;
        publish(&test.hub, "a", 140_000);
        test.hub.flush();
        settle().await;
        assert_eq!(check(&read(&stream)), (140_000, 0));
        let late = read(&late);
        assert!(late.contains("id: R-0\n: ready") && !late.contains("gap"));
        assert_eq!(late.matches("data: ").count(), 70_001);
    });
}

#[test]
fn a_shard_that_fell_behind_is_sent_one_gap_where_history_is_too_short() {
    run(async {
        let (_test, stream) = fall_behind(1000).await;
        // Nothing more is published meanwhile.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let text = read(&stream);
        assert_eq!(check(&text), (139_999, 1));
        assert!(
            text.contains(r#"{"reason":"overload","channels":["#),
            "{:?}",
            text.lines().filter(|line| line.contains("reason")).collect::<Vec<_>>()
        );
        assert!(text.contains("id: R-140000\n"), "the id is that of the last event");
    });
}

/// A hub, and a stream each of a channel and of a log, which have been sent that they are ready.
async fn news_and_log() -> (TestHub, Subscriber, Subscriber) {
    let test = TestHub::new(1, HubSettings { history_memory: 1 << 30, ..HubSettings::default() });
    let open = |topic| test.open_topics(0, vec![topic], None, unbounded(), keep(200_000));
    let (news, log) = (open(topic("news")), open(log("a")));
    settle().await;
    test.follow().await;
    for (Subscription { name, .. }, _) in test.hub.source_requests(SourceKind::Logs).await {
        test.hub.begin_log((SourceKind::Logs, name.as_str()), EntryId::ZERO);
    }
    test.hub.flush();
    settle().await;
    drop((read(&news), super::logs::read(&log)));
    (test, news, log)
}

#[test]
fn a_message_that_is_too_large_while_a_shard_is_behind_is_a_gap_in_its_place() {
    run(async {
        let (test, news, log) = news_and_log().await;
        for number in 0..100_000 {
            let id = EntryId { milliseconds: number + 1, sequence: 0 };
            let data = Bytes::from(number.to_string());
            if number == 90_000 {
                test.hub.begin_message(b"news", None);
                test.hub.skip(false, "news");
                test.hub.publish_entry((SourceKind::Logs, "a"), id, Instant::now(), |_| None);
            } else {
                let number = usize::try_from(number).expect("it is small");
                publish(&test.hub, "news", number);
                let event = Event { data, ..Event::default() };
                test.hub.publish_entry((SourceKind::Logs, "a"), id, Instant::now(), |_| {
                    Some(event.clone())
                });
            }
            if number % 500 == 0 {
                test.hub.flush();
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        publish(&test.hub, "news", 100_000);
        test.hub.flush();
        settle().await;
        for (text, events) in [(read(&news), 100_001), (super::logs::read(&log), 100_000)] {
            assert_eq!(check(&text), (events - 1, 1));
            assert_eq!(text.matches("data: ").count(), events);
            let at = |part: &str| text.find(part).expect(part);
            let gap = at(r#"{"reason":"too_large""#);
            assert!(at("data: 89999\n") < gap && gap < at("data: 90001\n"));
        }
    });
}

#[test]
fn each_channel_with_a_hole_has_one_gap_wherever_the_hole_is() {
    run(async {
        let test =
            TestHub::new(1, HubSettings { history_memory: 1 << 30, ..HubSettings::default() });
        let open = |name: &str, kept| {
            test.open_topics(0, vec![topic(name)], None, unbounded(), keep(kept))
        };
        let streams = [open("long", 200_000), open("early", 10), open("late", 10)];
        settle().await;
        test.follow().await;
        for stream in &streams {
            drop(read(stream));
        }
        // An inbox that is empty takes any batch.
        publish(&test.hub, "long", 0);
        test.hub.flush();
        // More than one part of the backlog lies between the two holes.
        for (channel, events) in [("early", 1000), ("long", 140_000), ("late", 1000)] {
            for number in 0..events {
                publish(&test.hub, channel, number);
            }
        }
        test.hub.flush();
        tokio::time::sleep(Duration::from_secs(10)).await;
        publish(&test.hub, "long", 140_000);
        test.hub.flush();
        settle().await;
        let counts = streams.each_ref().map(|stream| {
            let text = read(stream);
            (text.matches("event: gap").count(), text.matches("data: ").count())
        });
        assert_eq!(counts, [(0, 140_002), (1, 11), (1, 11)]);
    });
}

#[test]
fn a_shard_that_fell_behind_in_a_log_catches_up_while_a_copy_of_a_message_may_follow() {
    run(async {
        let (test, news, log) = news_and_log().await;
        // Another copy of it may follow.
        publish(&test.hub, "news", 0);
        test.hub.flush();
        for number in 0..140_000 {
            let entry = EntryId { milliseconds: number + 1, sequence: 0 };
            let data = Bytes::from(number.to_string());
            test.hub.publish_entry((SourceKind::Logs, "a"), entry, Instant::now(), |_| {
                Some(Event { data: data.clone(), ..Event::default() })
            });
            if number % 500 == 499 {
                test.hub.flush();
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let text = read(&log);
        assert_eq!(check(&text), (139_999, 0));
        assert_eq!(text.matches("data: ").count(), 140_000);
        assert_eq!(read(&news).matches("data: ").count(), 1);
        publish(&test.hub, "news", 1);
        test.hub.flush();
        settle().await;
        assert_eq!(read(&news).matches("data: ").count(), 1);
    });
}

#[expect(clippy::disallowed_methods, reason = "the thread of the shard is to be blocked")]
fn block_thread() {
    std::thread::sleep(Duration::from_secs(2));
}

#[test]
fn a_shard_whose_thread_is_blocked_for_two_seconds_under_load_misses_nothing() {
    let (hub, links) =
        Hub::new(HubSettings { history_memory: 1 << 30, ..HubSettings::default() }, 1, ());
    let link = links.into_iter().next().expect("one shard");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let runtime = tokio::runtime::LocalRuntime::new().expect("a runtime");
        runtime.block_on(async move {
            let shard = Shard::new(link, Duration::from_secs(30), ());
            let running = shard.clone();
            drop(tokio::task::spawn_local(async move { running.run().await }));
            let stream = shard.subscribe(crate::StreamRequest {
                topics: vec![topic("a")],
                settings: std::sync::Arc::new(unbounded()),
                prefix_bytes: 0,
                history: Some(keep(1_000_000)),
                last_seen: crate::LastSeen::default(),
                opening: super::WITH_POSITION,
                expires_at: None,
                cut: Box::new(|| {}),
                tag: 0,
            });
            let mut text = String::new();
            let mut was_blocked = false;
            while text.rsplit('\n').nth(3) != Some("data: end") {
                let piece =
                    std::future::poll_fn(|cx| stream.poll_next(ssegate_sse::frame::Form::Text, cx));
                text += str::from_utf8(&piece.await.expect("the stream goes on")).expect("text");
                if !was_blocked && text.contains(": ready") {
                    was_blocked = true;
                    ready.send(()).expect("the test waits for it");
                    block_thread();
                }
            }
            text
        })
    });
    let published = tokio::runtime::LocalRuntime::new().expect("a runtime").block_on(async {
        let running = hub.clone();
        drop(tokio::task::spawn_local(async move { running.run().await }));
        for (subscription, _) in hub.source_requests(SourceKind::PubSub).await {
            hub.confirm(false, subscription.name.as_str());
        }
        hub.flush();
        while is_ready.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        // More than fits into an inbox, for longer than the shard is blocked.
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
        hub.begin_message(b"a", None);
        hub.publish(false, "a", Instant::now(), |_| {
            Some(Event { data: Bytes::from_static(b"end"), ..Event::default() })
        });
        hub.flush();
        while !reader.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number
    });
    let text = reader.join().expect("the reader does not panic");
    assert_eq!(check(&text), (published - 1, 0));
}
