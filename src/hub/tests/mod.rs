//! The hub whole, on one thread: what subscribers read of what is published.

/// Shards that do not keep up.
mod behind;
/// Several logs, and positions in them, against one who has all entries.
mod log_oracle;
/// Channels whose source keeps their entries.
mod logs;
/// Clients that come and go, against one who knows every message.
mod oracle;
/// What a client without an id is sent, and how fast.
mod replay;

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::LocalRuntime;
use tokio::time::Instant;

use super::{
    CloseReason, HistorySettings, Hub, HubSettings, LastSeen, NameShape, Retention, RetentionRule,
    RetentionRules, Shard, StreamOpening, StreamRequest, StreamSettings, Subscriber, WhenFull,
    Wish,
};
use crate::event::{ChannelName, Event, Format, Ids, Subscription, Topic};
use crate::metrics::Metrics;
use crate::sse::frame::{Form, Frame};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A hub with its shards, and a source that confirms when it is told to.
///
/// Numbers in its tests count from the newest confirmation of [`House::follow`] on: how many numbers
/// confirmations take is not their business.
struct TestHub {
    hub: Hub,
    shards: Vec<Shard>,
}

impl TestHub {
    fn new(shards: usize, settings: HubSettings) -> Self {
        let metrics = Metrics::new().expect("metrics");
        let (hub, links) = Hub::new(settings, shards, metrics.clone());
        let shards = links
            .into_iter()
            .map(|link| Shard::new(link, WRITE_TIMEOUT, metrics.for_shard()))
            .collect();
        let house = Self { hub, shards };
        let hub = house.hub.clone();
        drop(tokio::task::spawn_local(async move { hub.run().await }));
        for shard in &house.shards {
            let shard = shard.clone();
            drop(tokio::task::spawn_local(async move { shard.run().await }));
        }
        house
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
            begins: TOLD,
            cut: Box::new(|| {}),
        })
    }

    /// Does what the hub wishes.
    async fn follow(&self) {
        for (subscription, wish) in self.hub.wishes().await {
            if wish == Wish::Follow {
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
    /// The number from which those in the tests count.
    static FIRST: Cell<u64> = const { Cell::new(0) };
}

/// A frame of so many bytes.
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

/// A stream of its own, whose client is told where it stands.
const TOLD: StreamOpening = StreamOpening { is_continued: false, is_told_position: true };

/// Lets the tasks run until none has anything to do: time stands still, and moves on only then.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What waits for a subscriber, with the run's tag as `R` and numbers from [`FIRST`] on.
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

fn id_of(house: &TestHub, number: u64) -> String {
    house.shards[0].run_tag().at(FIRST.get() + number).to_string()
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
fn a_stream_is_opened_made_ready_and_served() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let stream = house.open(0, &["news"]);
        assert_eq!(read(&stream), ":\nretry: 3000");
        house.follow().await;
        assert_eq!(read(&stream), "id: R-0\n: ready\n");
        house.publish_all(&[("news", "a"), ("other", "x"), ("news", "b")]).await;
        assert_eq!(read(&stream), "data: a\nid: R-1\n\ndata: b\nid: R-3\n");
    });
}

#[test]
fn every_shard_has_its_own_subscribers() {
    run(async {
        let house = TestHub::new(3, HubSettings::default());
        let streams = [house.open(0, &["a"]), house.open(1, &["b"]), house.open(2, &["a", "b"])];
        settle().await;
        house.follow().await;
        for stream in &streams {
            assert!(read(stream).ends_with(": ready\n"));
        }
        house.publish_all(&[("a", "1"), ("b", "2")]).await;
        assert_eq!(read(&streams[0]), "data: 1\nid: R-1\n");
        assert_eq!(read(&streams[1]), "data: 2\nid: R-2\n");
        assert_eq!(read(&streams[2]), "data: 1\nid: R-1\n\ndata: 2\nid: R-2\n");
    });
}

#[test]
fn a_message_heard_twice_comes_once() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let both = house.open(0, &["news.a", "news.*"]);
        let pattern = house.open(0, &["news.*"]);
        settle().await;
        house.follow().await;
        drop((read(&both), read(&pattern)));
        house.hub.begin_message(b"a");
        for (is_pattern, name) in [(false, "news.a"), (true, "news.*")] {
            house.hub.publish(is_pattern, name, Instant::now(), |_| Some(Event::default()));
        }
        house.hub.flush();
        settle().await;
        assert_eq!(read(&both), "data: \nid: R-1\n");
        assert_eq!(read(&pattern), "data: \nid: R-1\n");
    });
}

#[test]
fn a_client_resumes_after_its_last_id() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let first = house.open(0, &["a", "b"]);
        settle().await;
        house.follow().await;
        house.publish_all(&[("a", "1"), ("b", "2"), ("a", "3")]).await;
        drop(first);
        house.publish("b", "4").await;

        let again =
            house.open_with(0, &["a", "b"], Some(&id_of(&house, 1)), StreamSettings::default());
        assert_eq!(read(&again), ":\nretry: 3000");
        // Published while the past is on its way: it must come after it, and once.
        house.publish("a", "5").await;
        assert_eq!(
            read(&again),
            "data: 2\nid: R-2\n\ndata: 3\nid: R-3\n\ndata: 4\nid: R-4\n\ndata: 5\nid: R-5\n\nid: R-5\n: ready\n"
        );
        house.publish("a", "6").await;
        assert_eq!(read(&again), "data: 6\nid: R-6\n");
    });
}

#[test]
fn a_client_that_saw_no_event_is_sent_none_from_before_it_came() {
    run(async {
        let house = TestHub::new(2, HubSettings::default());
        let first = house.open(0, &["a", "b"]);
        settle().await;
        house.follow().await;
        house.publish_all(&[("a", "1"), ("b", "2")]).await;
        drop(read(&first));
        // On the shard that was dealt them, and on one that was dealt nothing.
        for shard in [0, 1] {
            let late = house.open(shard, &["a", "b"]);
            settle().await;
            assert_eq!(read(&late), ":\nretry: 3000\nid: R-2\n: ready\n");
            drop(late);
            let id = id_of(&house, 2);
            let back = house.open_with(shard, &["a", "b"], Some(&id), StreamSettings::default());
            // It asks for its past when it is read.
            assert_eq!(read(&back), ":\nretry: 3000");
            settle().await;
            assert_eq!(read(&back), "id: R-2\n: ready\n");
        }
        // It goes on when the source knows later that no copy follows, and nothing is dealt.
        house.hub.begin_message(b"b");
        house.hub.publish(false, "b", Instant::now(), |_| Some(Event::default()));
        house.hub.flush();
        settle().await;
        for (is_ended, expected) in [(false, "id: R-2\n: ready"), (true, "id: R-3\n: ready")] {
            if is_ended {
                house.hub.end_message();
                house.hub.flush();
            }
            let late = house.open(0, &["a"]);
            settle().await;
            assert!(read(&late).contains(expected), "ended: {is_ended}");
        }
    });
}

#[test]
fn a_replay_is_paced_by_the_queue() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let first = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        house.publish_all(&[("a", "11111"), ("a", "22222"), ("a", "33333")]).await;
        drop(first);
        let settings = StreamSettings { max_queue_bytes: 2, ..StreamSettings::default() };
        let again = house.open_with(0, &["a"], Some(&id_of(&house, 0)), settings);
        drop(read(&again));
        for expected in ["data: 11111\nid: R-1\n", "data: 22222\nid: R-2\n"] {
            settle().await;
            assert_eq!(read(&again), expected);
        }
        settle().await;
        assert_eq!(read(&again), "data: 33333\nid: R-3\n");
        settle().await;
        assert_eq!(read(&again), "id: R-3\n: ready\n", "when all of it has been written");
    });
}

#[test]
fn what_cannot_be_promised_is_told() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let first = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        house.publish_all(&[("a", "1"); 7]).await;
        drop(first);
        let gap = |reason: &str| {
            format!("event: gap\ndata: {{\"reason\":\"{reason}\",\"channels\":[\"a\"]}}\n")
        };
        for (id, reason, number) in [
            (id_of(&house, 0), "expired", 2),
            (id_of(&house, 99), "unknown_id", 7),
            ("zzzzzz-1".to_owned(), "unknown_id", 7),
            ("nonsense".to_owned(), "unknown_id", 7),
            ("9".repeat(4096), "unknown_id", 7),
        ] {
            let again = house.open_with(0, &["a"], Some(&id), StreamSettings::default());
            drop(read(&again));
            settle().await;
            let text = read(&again);
            assert!(text.starts_with(&format!("{}id: R-{number}\n", gap(reason))), "{id}: {text}");
            assert_eq!(text.matches("event: gap").count(), 1);
            assert!(text.ends_with("id: R-7\n: ready\n"));
        }
        // A channel that nobody follows has no past, also for an id that is ours.
        let other = house.open_with(0, &["b"], Some(&id_of(&house, 3)), StreamSettings::default());
        drop(read(&other));
        house.follow().await;
        let text = read(&other);
        assert!(text.starts_with("event: gap\ndata: {\"reason\":\"expired\""), "{text}");
        assert!(text.ends_with("id: R-0\n: ready\n"), "{text}");
    });
}

#[test]
fn a_channel_that_was_left_for_a_while_is_told_as_a_gap() {
    run(async {
        let settings = HubSettings { max_channels: 2, ..HubSettings::default() };
        let linger = |linger| StreamSettings { linger, ..StreamSettings::default() };
        for is_evicted in [false, true] {
            let house = TestHub::new(1, settings.clone());
            let time = if is_evicted { Duration::from_secs(300) } else { Duration::ZERO };
            let stream = house.open_with(0, &["one"], None, linger(time));
            settle().await;
            house.follow().await;
            house.publish("one", "heard").await;
            let (at_event, at_ready) = (id_of(&house, 1), id_of(&house, 0));
            drop((read(&stream), stream));
            let others = is_evicted.then(|| [house.open(0, &["two"]), house.open(0, &["three"])]);
            settle().await;
            assert!(!house.hub.is_followed(false, "one"));
            drop(others);
            settle().await;
            // Somebody publishes, and nobody hears it.
            for id in [at_event, at_ready] {
                let back = house.open_with(0, &["one"], Some(&id), linger(Duration::ZERO));
                drop(read(&back));
                settle().await;
                house.follow().await;
                let text = read(&back);
                let gap = "event: gap\ndata: {\"reason\":\"expired\",\"channels\":[\"one\"]}";
                assert_eq!(text.matches(gap).count(), 1, "{id}: {text}");
                assert!(text.ends_with(": ready\n"), "{text}");
                drop(back);
                settle().await;
                house.hub.wishes().await.for_each(drop);
            }
        }
    });
}

#[test]
fn a_subscription_that_is_denied_holds_back_no_other() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let first = house.open(0, &["good"]);
        settle().await;
        house.follow().await;
        house.publish_all(&[("good", "1"), ("good", "2")]).await;
        drop(first);
        let id = id_of(&house, 1);
        let back = house.open_with(0, &["good", "bad"], Some(&id), StreamSettings::default());
        drop(read(&back));
        settle().await;
        assert_eq!(read(&back), "", "it may be allowed in a moment");
        house.hub.deny(false, "bad");
        house.hub.flush();
        settle().await;
        let text = read(&back);
        assert!(text.contains("data: 2\n"), "{text}");
        assert_eq!(text.matches("event: gap").count(), 1, "{text}");
        assert!(text.contains("\"channels\":[\"bad\"]") && !text.contains("ready"), "{text}");
        house.hub.confirm(false, "bad");
        house.hub.flush();
        settle().await;
        assert!(read(&back).ends_with(": ready\n"));
    });
}

#[test]
fn an_id_of_our_own_future_holds_back_nothing() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let first = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        let forged = id_of(&house, 1000);
        let back = house.open_with(0, &["a"], Some(&forged), StreamSettings::default());
        drop((read(&back), first));
        settle().await;
        assert!(read(&back).contains("unknown_id"));
        house.publish("a", "1").await;
        assert!(read(&back).contains("data: 1\n"));
    });
}

#[test]
fn the_least_recently_used_history_makes_room() {
    run(async {
        let settings = HubSettings { history_memory: 900, ..HubSettings::default() };
        let house = TestHub::new(1, settings);
        let stream = house.open(0, &["a", "b"]);
        settle().await;
        house.follow().await;
        house.publish_all(&[("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]).await;
        assert!(house.hub.history_bytes() <= 900);
        drop(stream);
        let resume = |channel| {
            let id = id_of(&house, 1);
            house.open_with(0, &[channel], Some(&id), StreamSettings::default())
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
fn a_lost_source_is_told_once_to_those_who_listened() {
    run(async {
        let house = TestHub::new(2, HubSettings::default());
        let early = house.open(0, &["a", "b"]);
        settle().await;
        house.follow().await;
        house.publish("a", "1").await;
        drop(read(&early));
        house.hub.lose();
        let late = house.open(1, &["a"]);
        settle().await;
        assert_eq!(read(&late), ":\nretry: 3000");
        for subscription in house.hub.followed() {
            house.hub.confirm(subscription.is_pattern, subscription.name.as_str());
        }
        house.hub.restored();
        house.hub.flush();
        settle().await;
        let text = read(&early);
        assert!(
            text.starts_with("event: gap\ndata: {\"reason\":\"redis_away\"")
                && text.contains("\nid: R-4\n"),
            "{text}"
        );
        assert_eq!(text.matches("event: gap").count(), 1);
        assert!(read(&late).ends_with(": ready\n"));

        // Whoever comes back finds the gap in the past.
        let back = house.open_with(0, &["a"], Some(&id_of(&house, 1)), StreamSettings::default());
        drop(read(&back));
        settle().await;
        let text = read(&back);
        assert!(text.starts_with("event: gap\n") && text.contains("\nid: R-4\n"), "{text}");
    });
}

#[test]
fn a_full_queue_is_dealt_with_as_the_route_says() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let settings = |when_full| StreamSettings {
            // Two of the events below.
            max_queue_bytes: 44,
            when_full,
            ..StreamSettings::default()
        };
        let open = |when_full| house.open_with(0, &["a"], None, settings(when_full));
        let slow = [WhenFull::Disconnect, WhenFull::DropOldest, WhenFull::Latest].map(open);
        settle().await;
        house.follow().await;
        for stream in &slow {
            drop(read(stream));
        }
        house.publish_all(&[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")]).await;
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
fn the_fattest_queue_goes_when_all_hold_too_much() {
    run(async {
        let house = TestHub::new(1, HubSettings { queue_memory: 500, ..HubSettings::default() });
        let fat = house.open(0, &["a", "b"]);
        let lean = house.open(0, &["b"]);
        settle().await;
        house.follow().await;
        drop((read(&fat), read(&lean)));
        // Some 20 bytes each: 420 for one and 20 for the other.
        house.publish_all(&[("a", "x"); 20]).await;
        house.publish("b", "y").await;
        assert_eq!((fat.close_reason(), lean.close_reason()), (None, None));
        house.publish_all(&[("a", "x"); 4]).await;
        assert_eq!(fat.close_reason(), Some(CloseReason::QueueMemory));
        assert_eq!(read(&fat), "");
        assert_eq!(lean.close_reason(), None);
        assert_eq!(read(&lean), "data: y\nid: R-21\n");
    });
}

#[test]
fn a_quiet_stream_is_kept_alive_and_a_busy_one_is_not() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let [quiet, busy] = [house.open(0, &["quiet"]), house.open(0, &["busy"])];
        settle().await;
        house.follow().await;
        drop((read(&quiet), read(&busy)));
        let (mut comments, mut busy_comments) = (0, 0);
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            house.publish("busy", "x").await;
            comments += usize::from(read(&quiet) == ":");
            busy_comments += read(&busy).lines().filter(|line| line.starts_with(':')).count();
        }
        assert!((3..=4).contains(&comments), "{comments} in a minute");
        assert_eq!(busy_comments, 0);
    });
}

#[test]
fn a_stream_that_takes_nothing_is_cut_off() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let is_cut = std::rc::Rc::new(Cell::new(false));
        let cut = std::rc::Rc::clone(&is_cut);
        let stream = house.shards[0].subscribe(StreamRequest {
            topics: vec![topic("a")],
            settings: Arc::new(StreamSettings::default()),
            prefix_bytes: 0,
            history: None,
            last_seen: LastSeen::default(),
            begins: TOLD,
            cut: Box::new(move || cut.set(true)),
        });
        settle().await;
        house.follow().await;
        drop(read(&stream));
        house.publish("a", "1").await;
        tokio::time::sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
        assert!(!is_cut.get());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(is_cut.get());
        assert_eq!(stream.close_reason(), Some(CloseReason::Stalled));
    });
}

#[test]
fn a_channel_lingers_and_is_then_left() {
    run(async {
        let house = TestHub::new(1, HubSettings { max_channels: 2, ..HubSettings::default() });
        let settings =
            || StreamSettings { linger: Duration::from_secs(10), ..StreamSettings::default() };
        let first = house.open_with(0, &["a"], None, settings());
        settle().await;
        house.follow().await;
        drop(first);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(house.hub.is_followed(false, "a"));
        let again = house.open_with(0, &["a"], None, settings());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(house.hub.is_followed(false, "a"), "somebody listens again");
        drop(again);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(!house.hub.is_followed(false, "a"));
        let wishes: Vec<_> = house.hub.wishes().await.collect();
        assert_eq!(wishes.len(), 1);
        assert_eq!(wishes[0].1, Wish::Leave);
    });
}

#[test]
fn a_shorter_linger_holds_for_channels_that_linger_already() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let linger = |seconds| {
            let retention = Retention { history: None, linger: Duration::from_secs(seconds) };
            let names = NameShape::new(vec!["a".into()]);
            let rule = RetentionRule { names, format: Format::Raw, ids: Ids::Ours, retention };
            HubSettings {
                retention: Arc::new(RetentionRules::new([rule])),
                ..HubSettings::default()
            }
        };
        house.hub.change(linger(100));
        let stream = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        drop(stream);
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert!(house.hub.is_followed(false, "a"));
        house.hub.change(linger(60));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(house.hub.is_followed(false, "a"));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!house.hub.is_followed(false, "a"));
    });
}

#[test]
fn names_that_only_linger_make_room_and_one_too_many_is_sent_away() {
    run(async {
        let house = TestHub::new(1, HubSettings { max_channels: 2, ..HubSettings::default() });
        drop(house.open(0, &["a"]));
        let kept = [house.open(0, &["b"]), house.open(0, &["c"])];
        settle().await;
        house.follow().await;
        assert!(!house.hub.is_followed(false, "a"));
        for stream in &kept {
            assert!(read(stream).ends_with(": ready\n"));
        }
        let refused = house.open(0, &["d"]);
        settle().await;
        let text = read(&refused);
        let told = ": too many channels are followed at once\nretry: ";
        assert!(text.starts_with(&format!(":\nretry: 3000\n{told}")), "{text}");
        assert_eq!(refused.close_reason(), Some(CloseReason::Refused));
    });
}

#[test]
fn a_drain_tells_every_stream_when_to_come_back() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let stream = house.open(0, &["a"]);
        house.shards[0].drain(Duration::ZERO).await;
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
fn a_drain_sends_what_was_published_and_then_when_to_come_back() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let stream = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        house.publish("a", "1").await;
        house.publish("b", "2").await;
        house.publish("a", "3").await;
        drop(read(&stream));
        house.publish("a", "4").await;
        house.shards[0].drain(Duration::ZERO).await;
        let text = read(&stream);
        assert!(text.starts_with("data: 4\nid: R-4\n\nretry: "), "{text}");
    });
}

#[test]
fn streams_end_evenly() {
    run(async {
        const STREAMS: usize = 1000;
        let house = TestHub::new(1, HubSettings::default());
        let streams: Vec<_> = (0..STREAMS).map(|_| house.open(0, &["a"])).collect();
        let shard = house.shards[0].clone();
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
fn a_stream_ends_when_it_is_old_and_not_with_all_others() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let max_age = Some(Duration::from_secs(100));
        let settings = || StreamSettings { max_age, ..StreamSettings::default() };
        let streams: Vec<_> =
            (0..200).map(|_| house.open_with(0, &["a"], None, settings())).collect();
        let for_ever = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        let mut closed = Vec::new();
        for _ in 0..110 {
            streams.iter().for_each(|stream| drop(read(stream)));
            drop(read(&for_ever));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let is_aged = |stream: &&Subscriber| stream.close_reason() == Some(CloseReason::Aged);
            closed.push(streams.iter().filter(is_aged).count());
        }
        assert_eq!(closed[73], 0, "none is much too early");
        assert!((30..170).contains(&closed[87]), "{closed:?}");
        assert_eq!(closed[101], 200, "and none is late");
        assert_eq!(for_ever.close_reason(), None);
    });
}

#[test]
fn a_replay_gives_once_what_was_heard_twice() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let first = house.open(0, &["ab", "a*"]);
        settle().await;
        house.follow().await;
        house.hub.begin_message(b"a");
        for (is_pattern, name) in [(false, "ab"), (true, "a*")] {
            house.hub.publish(is_pattern, name, Instant::now(), |_| {
                Some(Event { data: Bytes::from_static(b"1"), ..Event::default() })
            });
        }
        house.hub.flush();
        settle().await;
        assert_eq!(read(&first).matches("data: 1").count(), 1);
        let back =
            house.open_with(0, &["ab", "a*"], Some(&id_of(&house, 0)), StreamSettings::default());
        drop(read(&back));
        settle().await;
        let text = read(&back);
        assert_eq!(text.matches("data: 1").count(), 1, "{text}");
    });
}

#[test]
fn who_resumes_between_confirmation_and_gap_is_told() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let stays = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        house.publish("a", "1").await;
        drop(read(&stays));
        house.hub.lose();
        settle().await;
        // The answer for `a` has come, those for other channels have not.
        house.hub.confirm(false, "a");
        house.hub.flush();
        settle().await;
        let back = house.open_with(0, &["a"], Some(&id_of(&house, 1)), StreamSettings::default());
        drop(read(&back));
        settle().await;
        let mut text = read(&back);
        house.hub.restored();
        house.hub.flush();
        settle().await;
        text += &read(&back);
        assert!(text.contains("redis_away"), "{text}");
    });
}

#[test]
fn a_fast_reader_survives_a_burst() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let stream = std::rc::Rc::new(house.open(0, &["a"]));
        settle().await;
        house.follow().await;
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
                house.hub.begin_message(b"a");
                house.hub.publish(false, "a", Instant::now(), |_| {
                    Some(Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() })
                });
            }
            house.hub.flush();
        }
        settle().await;
        assert_eq!(stream.close_reason(), None);
        drop(reads);
    });
}

#[test]
fn a_queue_of_one_byte_replays() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let first = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        house.publish("a", "1").await;
        drop(first);
        let settings = StreamSettings { max_queue_bytes: 1, ..StreamSettings::default() };
        let back = house.open_with(0, &["a"], Some(&id_of(&house, 0)), settings);
        let mut text = String::new();
        for _ in 0..10 {
            text += &read(&back);
            settle().await;
        }
        assert!(text.contains("data: 1"), "{text}");
    });
}

#[test]
fn channels_that_come_and_go_leave_nothing() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let settings = || StreamSettings { linger: Duration::ZERO, ..StreamSettings::default() };
        for n in 0..1000 {
            let name = format!("c{n}");
            let stream = house.open_with(0, &[&name], None, settings());
            settle().await;
            house.follow().await;
            house.publish(&name, "1").await;
            drop(stream);
            settle().await;
        }
        assert_eq!(house.hub.history_bytes(), 0);
        assert!(house.hub.line() < 100, "{} in the line", house.hub.line());
    });
}

#[test]
fn clients_that_leave_before_their_past_has_come_leave_nothing() {
    run(async {
        let house = TestHub::new(1, HubSettings::default());
        let stream = house.open(0, &["a"]);
        settle().await;
        house.follow().await;
        for _ in 0..100 {
            let back = StreamSettings::default();
            drop(house.open_with(0, &["a"], Some(&id_of(&house, 0)), back));
            settle().await;
        }
        // Where no source keeps logs, nobody takes what is asked of them.
        assert_eq!(house.hub.untaken_past_calls(), 0);
        drop(stream);
    });
}
