//! The whole hub on one thread: what subscribers read of what is published.

/// Shards that fall behind.
mod behind;
/// Positions in several logs, against an oracle that has all entries.
mod log_oracle;
/// Channels whose source keeps their entries.
mod logs;
/// Clients that come and go, against an oracle that knows every message.
mod oracle;
/// What of the past a client is sent, and in which pieces.
mod replay;

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ssegate_format::Format;
use ssegate_sse::Event;
use ssegate_sse::frame::{Form, Frame};
use tokio::runtime::LocalRuntime;
use tokio::time::Instant;

use super::{
    CloseReason, HistorySettings, Hub, HubSettings, LastSeen, NameShape, Retention, RetentionRule,
    RetentionRules, Shard, SourceKind, SourceRequest, StreamOpening, StreamRequest, StreamSettings,
    Subscriber, WhenFull,
};
use crate::Topic;
use crate::{ChannelName, Ids, Subscription};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A hub with its shards, and a source that confirms subscriptions when a test says so.
///
/// Numbers in the tests count from the last [`TestHub::follow`] on: how many numbers confirmations take
/// does not matter to them.
struct TestHub {
    hub: Hub,
    shards: Vec<Shard>,
}

impl TestHub {
    fn new(shards: usize, settings: HubSettings) -> Self {
        let (hub, links) = Hub::new(settings, shards, ());
        let shards = links.into_iter().map(|link| Shard::new(link, WRITE_TIMEOUT, ())).collect();
        let test = Self { hub, shards };
        let hub = test.hub.clone();
        drop(tokio::task::spawn_local(async move { hub.run().await }));
        for shard in &test.shards {
            let shard = shard.clone();
            drop(tokio::task::spawn_local(async move { shard.run().await }));
        }
        test
    }

    fn open(&self, shard: usize, channels: &[&str]) -> Subscriber {
        self.open_with(shard, channels, None, StreamSettings::default())
    }

    fn open_with(
        &self,
        shard: usize,
        channels: &[&str],
        last_event_id: Option<&str>,
        settings: StreamSettings,
    ) -> Subscriber {
        let history = HistorySettings { count: 5, ..HistorySettings::default() };
        let topics = channels.iter().map(|name| topic(name)).collect();
        self.open_topics(shard, topics, last_event_id, settings, history)
    }

    fn open_topics(
        &self,
        shard: usize,
        topics: Vec<Topic>,
        last_event_id: Option<&str>,
        settings: StreamSettings,
        history: HistorySettings,
    ) -> Subscriber {
        self.shards[shard].subscribe(StreamRequest {
            topics,
            settings: Arc::new(settings),
            prefix_bytes: 0,
            history: Some(history),
            last_seen: LastSeen::up_to(last_event_id.map(|id| id.as_bytes().to_vec())),
            opening: WITH_POSITION,
            cut: Box::new(|| {}),
        })
    }

    /// Confirms what the hub requests to follow.
    async fn follow(&self) {
        for (subscription, request) in self.hub.source_requests(SourceKind::PubSub).await {
            if request == SourceRequest::Follow {
                self.hub.confirm(subscription.is_pattern, subscription.name.as_str());
            }
        }
        FIRST.set(self.hub.number());
        self.hub.flush();
        settle().await;
    }

    async fn publish(&self, channel: &str, data: &'static str) {
        self.publish_all(&[(channel, data)]).await;
    }

    async fn publish_all(&self, events: &[(&str, &'static str)]) {
        for (channel, data) in events {
            self.hub.begin_message(channel.as_bytes());
            self.hub.publish(false, channel, Instant::now(), |_| {
                Some(Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() })
            });
        }
        self.hub.end_message();
        self.hub.flush();
        settle().await;
    }
}

thread_local! {
    /// The number from which those of a test count.
    static FIRST: Cell<u64> = const { Cell::new(0) };
}

/// A frame of this many bytes.
pub(super) fn frame(bytes: usize) -> Frame {
    Frame::of_text("x".repeat(bytes).as_bytes())
}

fn topic(name: &str) -> Topic {
    let is_pattern = name.contains('*');
    Topic {
        subscription: Subscription { name: ChannelName::new(name).expect("a name"), is_pattern },
        format: Format::Raw,
        ids: Ids::Ours,
    }
}

/// A stream whose `ready` has the client's position.
const WITH_POSITION: StreamOpening =
    StreamOpening { is_continued: false, ready_has_position: true };

/// Lets the tasks run until none has anything to do: the clock is paused, and advances only then.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What is queued for a subscriber, with the run's tag as `R` and numbers from [`FIRST`] on.
fn read(subscriber: &Subscriber) -> String {
    let mut text = String::new();
    let context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(bytes)) = subscriber.poll_next(Form::Text, &context) {
        text += str::from_utf8(&bytes).expect("text");
    }
    text.lines()
        .map(|line| match line.strip_prefix("id: ").and_then(|id| id.split_once('-')) {
            Some((_, number)) => {
                let number: i64 = number.parse().expect("a number");
                format!("id: R-{}", number - FIRST.get().cast_signed())
            }
            None => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn id_of(test: &TestHub, number: u64) -> String {
    test.hub.run_tag().at(FIRST.get() + number).to_string()
}

fn run(test: impl Future<Output = ()>) {
    let runtime: LocalRuntime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(test);
}

#[test]
fn a_stream_is_opened_and_ready_and_gets_events() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["news"]);
        assert_eq!(read(&stream), ":\nretry: 3000");
        test.follow().await;
        assert_eq!(read(&stream), "id: R-0\n: ready\n");
        test.publish_all(&[("news", "a"), ("other", "x"), ("news", "b")]).await;
        assert_eq!(read(&stream), "data: a\nid: R-1\n\ndata: b\nid: R-3\n");
    });
}

#[test]
fn subscribers_on_all_shards_get_the_events_of_their_channels() {
    run(async {
        let test = TestHub::new(3, HubSettings::default());
        let streams = [test.open(0, &["a"]), test.open(1, &["b"]), test.open(2, &["a", "b"])];
        settle().await;
        test.follow().await;
        for stream in &streams {
            assert!(read(stream).ends_with(": ready\n"));
        }
        test.publish_all(&[("a", "1"), ("b", "2")]).await;
        assert_eq!(read(&streams[0]), "data: 1\nid: R-1\n");
        assert_eq!(read(&streams[1]), "data: 2\nid: R-2\n");
        assert_eq!(read(&streams[2]), "data: 1\nid: R-1\n\ndata: 2\nid: R-2\n");
    });
}

/// A hub, a stream of a channel and a pattern that matches it, and a stream of the pattern alone, which have
/// been sent that they are ready.
async fn channel_and_pattern() -> (TestHub, Subscriber, Subscriber) {
    let test = TestHub::new(1, HubSettings::default());
    let both = test.open(0, &["news.a", "news.*"]);
    let pattern = test.open(0, &["news.*"]);
    settle().await;
    test.follow().await;
    drop((read(&both), read(&pattern)));
    (test, both, pattern)
}

#[test]
fn a_message_that_matches_two_subscriptions_of_a_stream_comes_once() {
    run(async {
        let (test, both, pattern) = channel_and_pattern().await;
        test.hub.begin_message(b"a");
        for (is_pattern, name) in [(false, "news.a"), (true, "news.*")] {
            test.hub.publish(is_pattern, name, Instant::now(), |_| Some(Event::default()));
        }
        test.hub.flush();
        settle().await;
        assert_eq!(read(&both), "data: \nid: R-1\n");
        assert_eq!(read(&pattern), "data: \nid: R-1\n");
    });
}

#[test]
fn a_too_large_message_that_matches_two_subscriptions_of_a_stream_is_one_gap() {
    run(async {
        let (test, both, pattern) = channel_and_pattern().await;
        test.hub.begin_message(b"news.a");
        for (is_pattern, name) in [(false, "news.a"), (true, "news.*")] {
            test.hub.skip(is_pattern, name);
            test.hub.flush();
        }
        test.publish("news.a", "next").await;
        let text = |names| {
            format!(
                "event: gap\ndata: {{\"reason\":\"too_large\",\"channels\":[{names}]}}\nid: R-1\n"
            )
        };
        let gap = text("\"news.a\"");
        assert_eq!(read(&both), format!("{gap}\ndata: next\nid: R-2\n"));
        assert_eq!(read(&pattern), text("\"news.*\""));
        // Clients that come back find it in the history, once.
        let back = test.open_with(
            0,
            &["news.a", "news.*"],
            Some(&id_of(&test, 0)),
            StreamSettings::default(),
        );
        drop(read(&back));
        settle().await;
        let text = read(&back);
        assert_eq!(text.matches("event: gap").count(), 1, "{text}");
        assert!(text.ends_with("id: R-1\n\ndata: next\nid: R-2\n\nid: R-2\n: ready\n"), "{text}");
    });
}

#[test]
fn a_too_large_message_before_the_confirmation_is_not_a_gap() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["news"]);
        settle().await;
        // The subscription was left a moment ago, and may still send.
        test.hub.begin_message(b"news");
        test.hub.skip(false, "news");
        test.follow().await;
        assert_eq!(read(&stream), ":\nretry: 3000\nid: R-0\n: ready\n");
        let back = test.open_with(0, &["news"], Some(&id_of(&test, 0)), StreamSettings::default());
        drop(read(&back));
        settle().await;
        assert_eq!(read(&back), "id: R-0\n: ready\n");
    });
}

#[test]
fn a_client_resumes_after_its_last_id() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a", "b"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("a", "1"), ("b", "2"), ("a", "3")]).await;
        drop(first);
        test.publish("b", "4").await;

        let again =
            test.open_with(0, &["a", "b"], Some(&id_of(&test, 1)), StreamSettings::default());
        assert_eq!(read(&again), ":\nretry: 3000");
        // Published while the past is on its way: must come after it, and once.
        test.publish("a", "5").await;
        assert_eq!(
            read(&again),
            "data: 2\nid: R-2\n\ndata: 3\nid: R-3\n\ndata: 4\nid: R-4\n\ndata: 5\nid: R-5\n\nid: R-5\n: ready\n"
        );
        test.publish("a", "6").await;
        assert_eq!(read(&again), "data: 6\nid: R-6\n");
    });
}

#[test]
fn a_client_without_an_event_resumes_at_its_ready() {
    run(async {
        let test = TestHub::new(2, HubSettings::default());
        let first = test.open(0, &["a", "b"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("a", "1"), ("b", "2")]).await;
        drop(read(&first));
        // On the shard that got them, and on one that got nothing.
        for shard in [0, 1] {
            let late = test.open(shard, &["a", "b"]);
            settle().await;
            assert_eq!(read(&late), ":\nretry: 3000\nid: R-2\n: ready\n");
            drop(late);
            let id = id_of(&test, 2);
            let back = test.open_with(shard, &["a", "b"], Some(&id), StreamSettings::default());
            // The past is requested when the stream is read.
            assert_eq!(read(&back), ":\nretry: 3000");
            settle().await;
            assert_eq!(read(&back), "id: R-2\n: ready\n");
        }
        // The position moves on when the source learns that no copy follows, though no shard is sent
        // anything.
        test.hub.begin_message(b"b");
        test.hub.publish(false, "b", Instant::now(), |_| Some(Event::default()));
        test.hub.flush();
        settle().await;
        for (is_ended, expected) in [(false, "id: R-2\n: ready"), (true, "id: R-3\n: ready")] {
            if is_ended {
                test.hub.end_message();
                test.hub.flush();
            }
            let late = test.open(0, &["a"]);
            settle().await;
            assert!(read(&late).contains(expected), "ended: {is_ended}");
        }
    });
}

#[test]
fn a_replay_is_paced_by_the_queue() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("a", "11111"), ("a", "22222"), ("a", "33333")]).await;
        drop(first);
        let settings = StreamSettings { max_queue_bytes: 2, ..StreamSettings::default() };
        let again = test.open_with(0, &["a"], Some(&id_of(&test, 0)), settings);
        drop(read(&again));
        for expected in ["data: 11111\nid: R-1\n", "data: 22222\nid: R-2\n"] {
            settle().await;
            assert_eq!(read(&again), expected);
        }
        settle().await;
        assert_eq!(read(&again), "data: 33333\nid: R-3\n");
        settle().await;
        assert_eq!(read(&again), "id: R-3\n: ready\n", "when all of it was written");
    });
}

#[test]
fn an_id_that_is_unknown_or_too_old_is_a_gap() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("a", "1"); 7]).await;
        drop(first);
        let gap = |reason: &str| {
            format!("event: gap\ndata: {{\"reason\":\"{reason}\",\"channels\":[\"a\"]}}\n")
        };
        for (id, reason, number) in [
            (id_of(&test, 0), "expired", 2),
            (id_of(&test, 99), "unknown_id", 7),
            ("zzzzzz-1".to_owned(), "unknown_id", 7),
            ("nonsense".to_owned(), "unknown_id", 7),
            ("9".repeat(4096), "unknown_id", 7),
        ] {
            let again = test.open_with(0, &["a"], Some(&id), StreamSettings::default());
            drop(read(&again));
            settle().await;
            let text = read(&again);
            assert!(text.starts_with(&format!("{}id: R-{number}\n", gap(reason))), "{id}: {text}");
            assert_eq!(text.matches("event: gap").count(), 1);
            assert!(text.ends_with("id: R-7\n: ready\n"));
        }
        // A channel that is not followed has no past, also for an id of this run.
        let other = test.open_with(0, &["b"], Some(&id_of(&test, 3)), StreamSettings::default());
        drop(read(&other));
        test.follow().await;
        let text = read(&other);
        assert!(text.starts_with("event: gap\ndata: {\"reason\":\"expired\""), "{text}");
        assert!(text.ends_with("id: R-0\n: ready\n"), "{text}");
    });
}

#[test]
fn a_channel_that_was_not_followed_for_a_while_has_a_gap() {
    run(async {
        let settings = HubSettings { max_channels: 2, ..HubSettings::default() };
        let linger = |linger| StreamSettings { linger, ..StreamSettings::default() };
        for is_evicted in [false, true] {
            let test = TestHub::new(1, settings.clone());
            let time = if is_evicted { Duration::from_secs(300) } else { Duration::ZERO };
            let stream = test.open_with(0, &["one"], None, linger(time));
            settle().await;
            test.follow().await;
            test.publish("one", "followed").await;
            let (at_event, at_ready) = (id_of(&test, 1), id_of(&test, 0));
            drop((read(&stream), stream));
            let others = is_evicted.then(|| [test.open(0, &["two"]), test.open(0, &["three"])]);
            settle().await;
            assert!(!test.hub.is_followed(false, "one"));
            drop(others);
            settle().await;
            // What is published now is lost.
            for id in [at_event, at_ready] {
                let back = test.open_with(0, &["one"], Some(&id), linger(Duration::ZERO));
                drop(read(&back));
                settle().await;
                test.follow().await;
                let text = read(&back);
                let gap = "event: gap\ndata: {\"reason\":\"expired\",\"channels\":[\"one\"]}";
                assert_eq!(text.matches(gap).count(), 1, "{id}: {text}");
                assert!(text.ends_with(": ready\n"), "{text}");
                drop(back);
                settle().await;
                test.hub.source_requests(SourceKind::PubSub).await.for_each(drop);
            }
        }
    });
}

#[test]
fn a_denied_subscription_does_not_delay_the_others() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["good"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("good", "1"), ("good", "2")]).await;
        drop(first);
        let id = id_of(&test, 1);
        let back = test.open_with(0, &["good", "bad"], Some(&id), StreamSettings::default());
        drop(read(&back));
        settle().await;
        assert_eq!(read(&back), "", "it may be allowed in a moment");
        test.hub.deny(false, "bad");
        test.hub.flush();
        settle().await;
        let text = read(&back);
        assert!(text.contains("data: 2\n"), "{text}");
        assert_eq!(text.matches("event: gap").count(), 1, "{text}");
        assert!(text.contains("\"channels\":[\"bad\"]") && !text.contains("ready"), "{text}");
        test.hub.confirm(false, "bad");
        test.hub.flush();
        settle().await;
        assert!(read(&back).ends_with(": ready\n"));
    });
}

#[test]
fn a_forged_id_with_a_future_number_is_unknown() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        let forged = id_of(&test, 1000);
        let back = test.open_with(0, &["a"], Some(&forged), StreamSettings::default());
        drop((read(&back), first));
        settle().await;
        assert!(read(&back).contains("unknown_id"));
        test.publish("a", "1").await;
        assert!(read(&back).contains("data: 1\n"));
    });
}

#[test]
fn the_least_recently_used_history_is_evicted() {
    run(async {
        let settings = HubSettings { history_memory: 900, ..HubSettings::default() };
        let test = TestHub::new(1, settings);
        let stream = test.open(0, &["a", "b"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]).await;
        assert!(test.hub.history_bytes() <= 900);
        drop(stream);
        let resume = |channel| {
            let id = id_of(&test, 1);
            test.open_with(0, &[channel], Some(&id), StreamSettings::default())
        };
        let [a, b] = ["a", "b"].map(resume);
        drop((read(&a), read(&b)));
        settle().await;
        assert_eq!(read(&a), "data: 3\nid: R-3\n\ndata: 4\nid: R-4\n\nid: R-4\n: ready\n");
        let text = read(&b);
        assert!(text.contains("\"reason\":\"expired\",\"channels\":[\"b\"]"), "{text}");
    });
}

#[test]
fn a_loss_of_the_source_is_one_gap_for_each_subscriber() {
    run(async {
        let test = TestHub::new(2, HubSettings::default());
        let early = test.open(0, &["a", "b"]);
        settle().await;
        test.follow().await;
        test.publish("a", "1").await;
        drop(read(&early));
        test.hub.lose();
        let late = test.open(1, &["a"]);
        settle().await;
        assert_eq!(read(&late), ":\nretry: 3000");
        for subscription in test.hub.followed() {
            test.hub.confirm(subscription.is_pattern, subscription.name.as_str());
        }
        test.hub.restored();
        test.hub.flush();
        settle().await;
        let text = read(&early);
        assert!(
            text.starts_with("event: gap\ndata: {\"reason\":\"redis_away\"")
                && text.contains("\nid: R-4\n"),
            "{text}"
        );
        assert_eq!(text.matches("event: gap").count(), 1);
        assert!(read(&late).ends_with(": ready\n"));

        // A client that comes back finds the gap in its past.
        let back = test.open_with(0, &["a"], Some(&id_of(&test, 1)), StreamSettings::default());
        drop(read(&back));
        settle().await;
        let text = read(&back);
        assert!(text.starts_with("event: gap\n") && text.contains("\nid: R-4\n"), "{text}");
    });
}

#[test]
fn a_full_queue_is_treated_as_the_route_says() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let settings = |when_full| StreamSettings {
            // Two of the events below.
            max_queue_bytes: 44,
            when_full,
            ..StreamSettings::default()
        };
        let open = |when_full| test.open_with(0, &["a"], None, settings(when_full));
        let slow = [WhenFull::Disconnect, WhenFull::DropOldest, WhenFull::Latest].map(open);
        settle().await;
        test.follow().await;
        for stream in &slow {
            drop(read(stream));
        }
        test.publish_all(&[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")]).await;
        assert_eq!(read(&slow[0]), "");
        assert_eq!(slow[0].close_reason(), Some(CloseReason::Lagged));
        assert_eq!(
            read(&slow[1]),
            "event: gap\ndata: {\"reason\":\"overflow\",\"channels\":[\"a\"]}\nid: R-2\n\n\
             data: 3\nid: R-3\n\ndata: 4\nid: R-4\n"
        );
        assert_eq!(read(&slow[2]), "data: 3\nid: R-3\n\ndata: 4\nid: R-4\n");
    });
}

#[test]
fn the_largest_queue_is_closed_when_all_are_over_the_bound() {
    run(async {
        let test = TestHub::new(1, HubSettings { queue_memory: 500, ..HubSettings::default() });
        let large = test.open(0, &["a", "b"]);
        let small = test.open(0, &["b"]);
        settle().await;
        test.follow().await;
        drop((read(&large), read(&small)));
        // About 20 bytes each: 420 for one and 20 for the other.
        test.publish_all(&[("a", "x"); 20]).await;
        test.publish("b", "y").await;
        assert_eq!((large.close_reason(), small.close_reason()), (None, None));
        test.publish_all(&[("a", "x"); 4]).await;
        assert_eq!(large.close_reason(), Some(CloseReason::QueueMemory));
        assert_eq!(read(&large), "");
        assert_eq!(small.close_reason(), None);
        assert_eq!(read(&small), "data: y\nid: R-21\n");
    });
}

#[test]
fn a_quiet_stream_is_kept_alive_and_a_busy_one_is_not() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let [quiet, busy] = [test.open(0, &["quiet"]), test.open(0, &["busy"])];
        settle().await;
        test.follow().await;
        drop((read(&quiet), read(&busy)));
        let (mut comments, mut busy_comments) = (0, 0);
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            test.publish("busy", "x").await;
            comments += usize::from(read(&quiet) == ":");
            busy_comments += read(&busy).lines().filter(|line| line.starts_with(':')).count();
        }
        assert!((3..=4).contains(&comments), "{comments} in a minute");
        assert_eq!(busy_comments, 0);
    });
}

#[test]
fn a_stream_that_cannot_be_written_to_is_cut_off() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let is_cut = std::rc::Rc::new(Cell::new(false));
        let cut = std::rc::Rc::clone(&is_cut);
        let stream = test.shards[0].subscribe(StreamRequest {
            topics: vec![topic("a")],
            settings: Arc::new(StreamSettings::default()),
            prefix_bytes: 0,
            history: None,
            last_seen: LastSeen::default(),
            opening: WITH_POSITION,
            cut: Box::new(move || cut.set(true)),
        });
        settle().await;
        test.follow().await;
        drop(read(&stream));
        test.publish("a", "1").await;
        tokio::time::sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
        assert!(!is_cut.get());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(is_cut.get());
        assert_eq!(stream.close_reason(), Some(CloseReason::Stalled));
    });
}

#[test]
fn a_channel_is_left_when_its_linger_is_over() {
    run(async {
        let test = TestHub::new(1, HubSettings { max_channels: 2, ..HubSettings::default() });
        let settings =
            || StreamSettings { linger: Duration::from_secs(10), ..StreamSettings::default() };
        let first = test.open_with(0, &["a"], None, settings());
        settle().await;
        test.follow().await;
        drop(first);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(test.hub.is_followed(false, "a"));
        let again = test.open_with(0, &["a"], None, settings());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(test.hub.is_followed(false, "a"), "it has a subscriber again");
        drop(again);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(!test.hub.is_followed(false, "a"));
        let requests: Vec<_> = test.hub.source_requests(SourceKind::PubSub).await.collect();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].1, SourceRequest::Leave);
    });
}

#[test]
fn a_shorter_linger_applies_to_channels_that_linger_already() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let linger = |seconds| {
            let retention = Retention { history: None, linger: Duration::from_secs(seconds) };
            let names = NameShape::new(vec!["a".into()]);
            let rule = RetentionRule { names, format: Format::Raw, ids: Ids::Ours, retention };
            HubSettings {
                retention: Arc::new(RetentionRules::new([rule])),
                ..HubSettings::default()
            }
        };
        test.hub.change(linger(100));
        let stream = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        drop(stream);
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert!(test.hub.is_followed(false, "a"));
        test.hub.change(linger(60));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(test.hub.is_followed(false, "a"));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!test.hub.is_followed(false, "a"));
    });
}

#[test]
fn a_lingering_channel_makes_room_and_one_channel_too_many_is_refused() {
    run(async {
        let test = TestHub::new(1, HubSettings { max_channels: 2, ..HubSettings::default() });
        drop(test.open(0, &["a"]));
        let kept = [test.open(0, &["b"]), test.open(0, &["c"])];
        settle().await;
        test.follow().await;
        assert!(!test.hub.is_followed(false, "a"));
        for stream in &kept {
            assert!(read(stream).ends_with(": ready\n"));
        }
        let refused = test.open(0, &["d"]);
        settle().await;
        let text = read(&refused);
        let reason = ": too many channels are followed at once\nretry: ";
        assert!(text.starts_with(&format!(":\nretry: 3000\n{reason}")), "{text}");
        assert_eq!(refused.close_reason(), Some(CloseReason::Refused));
    });
}

#[test]
fn a_drained_stream_ends_with_retry() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["a"]);
        test.shards[0].drain(Duration::ZERO).await;
        let text = read(&stream);
        let retry: u64 = text
            .strip_prefix(":\nretry: 3000\nretry: ")
            .and_then(|rest| rest.trim().parse().ok())
            .expect("a second retry");
        assert!((3000..=6000).contains(&retry));
        assert_eq!(stream.close_reason(), Some(CloseReason::Drained));
        let context = Context::from_waker(Waker::noop());
        assert_eq!(stream.poll_next(Form::Text, &context), Poll::Ready(None));
    });
}

#[test]
fn a_drained_stream_gets_what_was_published_before_its_retry() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        test.publish("a", "1").await;
        test.publish("b", "2").await;
        test.publish("a", "3").await;
        drop(read(&stream));
        test.publish("a", "4").await;
        test.shards[0].drain(Duration::ZERO).await;
        let text = read(&stream);
        assert!(text.starts_with("data: 4\nid: R-4\n\nretry: "), "{text}");
    });
}

#[test]
fn a_drain_ends_streams_evenly_over_its_time() {
    run(async {
        const STREAMS: usize = 1000;
        let test = TestHub::new(1, HubSettings::default());
        let streams: Vec<_> = (0..STREAMS).map(|_| test.open(0, &["a"])).collect();
        let shard = test.shards[0].clone();
        let drain = async move { shard.drain(Duration::from_secs(10)).await };
        let drain = tokio::task::spawn_local(drain);
        let mut before = 0;
        for second in 1..=10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let closed = streams.iter().filter(|stream| stream.close_reason().is_some()).count();
            assert!((95..=105).contains(&(closed - before)), "{closed} after {second} s");
            before = closed;
        }
        settle().await;
        assert!(drain.is_finished());
        assert!(streams.iter().all(|stream| stream.close_reason().is_some()));
    });
}

#[test]
fn streams_end_at_their_max_age_and_not_all_together() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let max_age = Some(Duration::from_secs(100));
        let settings = || StreamSettings { max_age, ..StreamSettings::default() };
        let streams: Vec<_> =
            (0..200).map(|_| test.open_with(0, &["a"], None, settings())).collect();
        let ageless = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        let mut closed = Vec::new();
        for _ in 0..110 {
            streams.iter().for_each(|stream| drop(read(stream)));
            drop(read(&ageless));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let is_aged = |stream: &&Subscriber| stream.close_reason() == Some(CloseReason::Aged);
            closed.push(streams.iter().filter(is_aged).count());
        }
        assert_eq!(closed[73], 0, "no stream ends more than a quarter early");
        assert!((30..170).contains(&closed[87]), "{closed:?}");
        assert_eq!(closed[101], 200, "no stream ends late");
        assert_eq!(ageless.close_reason(), None);
    });
}

#[test]
fn a_replay_has_a_message_once_that_matches_two_subscriptions() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["ab", "a*"]);
        settle().await;
        test.follow().await;
        test.hub.begin_message(b"a");
        for (is_pattern, name) in [(false, "ab"), (true, "a*")] {
            test.hub.publish(is_pattern, name, Instant::now(), |_| {
                Some(Event { data: Bytes::from_static(b"1"), ..Event::default() })
            });
        }
        test.hub.flush();
        settle().await;
        assert_eq!(read(&first).matches("data: 1").count(), 1);
        let back =
            test.open_with(0, &["ab", "a*"], Some(&id_of(&test, 0)), StreamSettings::default());
        drop(read(&back));
        settle().await;
        let text = read(&back);
        assert_eq!(text.matches("data: 1").count(), 1, "{text}");
    });
}

#[test]
fn a_client_that_resumes_between_confirmation_and_gap_is_sent_the_gap() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stays = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        test.publish("a", "1").await;
        drop(read(&stays));
        test.hub.lose();
        settle().await;
        // `a` is confirmed, other channels are not yet.
        test.hub.confirm(false, "a");
        test.hub.flush();
        settle().await;
        let back = test.open_with(0, &["a"], Some(&id_of(&test, 1)), StreamSettings::default());
        drop(read(&back));
        settle().await;
        let mut text = read(&back);
        test.hub.restored();
        test.hub.flush();
        settle().await;
        text += &read(&back);
        assert!(text.contains("redis_away"), "{text}");
    });
}

#[test]
fn a_fast_client_is_not_closed_by_a_burst() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = std::rc::Rc::new(test.open(0, &["a"]));
        settle().await;
        test.follow().await;
        let reader = std::rc::Rc::clone(&stream);
        let reads = tokio::task::spawn_local(async move {
            let mut bytes = 0;
            while let Some(piece) =
                std::future::poll_fn(|cx| reader.poll_next(Form::Text, cx)).await
            {
                bytes += piece.len();
            }
            bytes
        });
        settle().await;
        let data = "x".repeat(1024).leak() as &'static str;
        for _ in 0..40 {
            for _ in 0..60 {
                test.hub.begin_message(b"a");
                test.hub.publish(false, "a", Instant::now(), |_| {
                    Some(Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() })
                });
            }
            test.hub.flush();
        }
        settle().await;
        assert_eq!(stream.close_reason(), None);
        drop(reads);
    });
}

#[test]
fn a_stream_with_a_queue_of_one_byte_replays() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        test.publish("a", "1").await;
        drop(first);
        let settings = StreamSettings { max_queue_bytes: 1, ..StreamSettings::default() };
        let back = test.open_with(0, &["a"], Some(&id_of(&test, 0)), settings);
        let mut text = String::new();
        for _ in 0..10 {
            text += &read(&back);
            settle().await;
        }
        assert!(text.contains("data: 1"), "{text}");
    });
}

#[test]
fn closed_channels_leave_no_memory_behind() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let settings = || StreamSettings { linger: Duration::ZERO, ..StreamSettings::default() };
        for n in 0..1000 {
            let name = format!("c{n}");
            let stream = test.open_with(0, &[&name], None, settings());
            settle().await;
            test.follow().await;
            test.publish(&name, "1").await;
            drop(stream);
            settle().await;
        }
        assert_eq!(test.hub.history_bytes(), 0);
        assert!(
            test.hub.budgeted_channels() < 100,
            "{} in the queue",
            test.hub.budgeted_channels()
        );
    });
}

#[test]
fn clients_that_leave_before_their_past_has_come_leave_no_requests() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        for _ in 0..100 {
            let back = StreamSettings::default();
            drop(test.open_with(0, &["a"], Some(&id_of(&test, 0)), back));
            settle().await;
        }
        // Without a source of logs, nothing takes such requests.
        assert_eq!(test.hub.untaken_log_reads(), 0);
        drop(stream);
    });
}
