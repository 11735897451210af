//! Patterns that are followed before anybody asks.

mod names;
mod reloads;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ssegate_format::Format;
use ssegate_sse::Event;
use ssegate_sse::frame::Form;
use tokio::time::Instant;

use super::{TestHub, id_of, read, run, settle, topic};
use crate::{
    ChannelName, FollowedPattern, HistorySettings, HubSettings, Ids, NameShape, Replay, Retention,
    RetentionRule, RetentionRules, SourceKind, SourceRequest, StreamSettings, Subscriber, Topic,
};

const LINGER: Duration = Duration::from_secs(10);

/// Settings that keep `count` messages of every channel, and follow these patterns.
pub(super) fn following(patterns: &[(&str, Format)], count: usize) -> HubSettings {
    let history = HistorySettings { count, ..HistorySettings::default() };
    let retention = Retention { history: Some(history), linger: LINGER };
    let rule = |format| {
        let names = NameShape::new(vec![String::new(), String::new()]);
        RetentionRule { names, format, ids: Ids::Ours, retention }
    };
    let pattern = |&(pattern, format): &(&str, Format)| FollowedPattern {
        pattern: ChannelName::new(pattern).expect("a name"),
        format,
    };
    HubSettings {
        retention: Arc::new(RetentionRules::new([rule(Format::Raw), rule(Format::Envelope)])),
        followed: patterns.iter().map(pattern).collect(),
        ..HubSettings::default()
    }
}

pub(super) fn all() -> StreamSettings {
    StreamSettings { replay: Replay::All, linger: LINGER, ..StreamSettings::default() }
}

impl TestHub {
    /// A message on `channel` comes through each of these subscriptions, in this order.
    pub(super) async fn publish_copies(&self, channel: &str, names: &[&str], data: &'static str) {
        self.hub.begin_message(channel.as_bytes(), Some(data.as_bytes()));
        for name in names {
            self.copy(name, data);
        }
        self.hub.end_message();
        self.hub.flush();
        settle().await;
    }

    /// A copy of the newest message comes through this subscription.
    pub(super) fn copy(&self, name: &str, data: &'static str) {
        self.hub.publish(is_pattern(name), name, Instant::now(), |format| {
            let event = Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() };
            Some(match format {
                Format::Raw => event,
                _ => Event { name: Some("other".into()), ..event },
            })
        });
        self.hub.flush();
    }

    /// What the hub has requested since, as `+name` and `-name`.
    fn requested(&self) -> BTreeSet<String> {
        let requests = pin!(self.hub.source_requests(SourceKind::PubSub));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(requests) = requests.poll(&mut context) else { return BTreeSet::new() };
        let sign = |request| if request == SourceRequest::Follow { '+' } else { '-' };
        requests
            .map(|(subscription, request)| format!("{}{}", sign(request), subscription.name))
            .collect()
    }

    fn confirm_all(&self, names: &[&str]) {
        for name in names {
            self.hub.confirm(is_pattern(name), name);
        }
        self.hub.flush();
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Reads a stream until nothing more comes: the past comes after what was queued has been read.
pub(super) async fn read_all(stream: &Subscriber, read: fn(&Subscriber) -> String) -> String {
    let mut text = String::new();
    for _ in 0..3 {
        text = text + &read(stream) + "\n";
        settle().await;
    }
    text
}

/// The data of the events, and the reasons of gaps.
pub(super) async fn told(stream: &Subscriber) -> Vec<String> {
    let text = read_all(stream, read).await;
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let reason =
        |data: &str| Some(data.split_once("\"reason\":\"")?.1.split_once('"')?.0.to_owned());
    data.map(|data| reason(data).unwrap_or_else(|| data.to_owned())).collect()
}

#[test]
fn what_was_published_to_nobody_is_there_for_who_comes_later() {
    run(async {
        let test = TestHub::new(2, following(&[("a*", Format::Raw)], 9));
        assert!(test.hub.is_followed(true, "a*"));
        test.follow().await;
        for (channel, data) in [("a1", "1"), ("a2", "2"), ("a1", "3")] {
            test.publish_copies(channel, &["a*"], data).await;
        }
        let late = test.open_with(0, &["a1"], None, all());
        let resumed =
            test.open_with(1, &["a2", "a3"], Some(&id_of(&test, 0)), StreamSettings::default());
        settle().await;
        assert_eq!(told(&late).await, ["1", "3"]);
        assert_eq!(told(&resumed).await, ["2"]);
        assert_eq!(test.requested(), BTreeSet::new(), "the pattern feeds them");
        assert!(!test.hub.is_followed(false, "a1"));
        test.publish_copies("a1", &["a*"], "4").await;
        test.publish_copies("a3", &["a*"], "5").await;
        assert_eq!((told(&late).await, told(&resumed).await), (vec!["4".into()], vec!["5".into()]));
        // It does not linger.
        drop((late, resumed));
        tokio::time::sleep(10 * LINGER).await;
        test.publish_copies("a1", &["a*"], "6").await;
        let again = test.open_with(0, &["a1"], Some(&id_of(&test, 4)), all());
        settle().await;
        assert_eq!(told(&again).await, ["6"]);
    });
}

#[test]
fn a_channel_is_kept_once_for_each_format_and_gets_each_message_once() {
    run(async {
        let patterns = [
            ("a*", Format::Raw),
            ("a?", Format::Raw),
            ("a*", Format::Envelope),
            ("b", Format::Raw),
        ];
        let test = TestHub::new(1, following(&patterns, 9));
        test.follow().await;
        test.publish_copies("a1", &["a*", "a?"], "1").await;
        let envelope = Topic { format: Format::Envelope, ..topic("a1") };
        for (topic, named) in [(topic("a1"), false), (envelope, true)] {
            let stream = test.open_topics(0, vec![topic], None, all(), HistorySettings::default());
            settle().await;
            let text = read_all(&stream, read).await;
            assert_eq!(text.matches("data: 1").count(), 1, "{text}");
            assert_eq!(text.contains("event: other"), named, "{text}");
        }
        // A client that has the pattern, too, gets it once, with the id of the channel.
        let both = test.open(0, &["a1", "a*"]);
        settle().await;
        assert_eq!(test.requested(), ["+a*".to_owned()].into());
        test.confirm_all(&["a*"]);
        settle().await;
        drop(told(&both).await);
        test.publish_copies("a1", &["a*", "a?"], "2").await;
        assert_eq!(told(&both).await, ["2"]);
        drop(both);
        tokio::time::sleep(40 * LINGER).await;
        assert!(test.hub.is_followed(true, "a*"), "the hub itself follows it");
    });
}

#[test]
fn names_that_are_not_for_clients_are_not_kept() {
    run(async {
        let test = TestHub::new(1, following(&[("*", Format::Raw)], 9));
        test.follow().await;
        for channel in ["ssegate:mark", "__keyspace@0__:x", "__sentinel__:hello", "a\nb", ""] {
            test.publish_copies(channel, &["*"], "1").await;
            assert_eq!(test.hub.channels(), 0, "{channel:?}");
        }
        test.hub.begin_message(b"\xff", None);
        test.hub.publish(true, "*", Instant::now(), |_| Some(Event::default()));
        assert_eq!(test.hub.channels(), 0);
    });
}

/// What a client is told that comes back to `channel` with the id `number`, where there was room for three
/// channels, of which one has a subscriber.
async fn told_after_eviction(channel: &str, number: u64) -> Vec<String> {
    let settings = HubSettings { max_channels: 3, ..following(&[("a*", Format::Raw)], 9) };
    let test = TestHub::new(1, settings);
    test.follow().await;
    let held = test.open_with(0, &["a0"], None, all());
    settle().await;
    for (channel, data) in [("a1", "1"), ("a2", "2"), ("a1", "3"), ("a3", "4"), ("a0", "5")] {
        test.publish_copies(channel, &["a*"], data).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((test.hub.channels(), told(&held).await), (3, vec!["5".into()]));
    let id = id_of(&test, number);
    let stream = test.open_with(0, &[channel], Some(&id), StreamSettings::default());
    told(&stream).await
}

#[test]
fn the_longest_unused_channel_makes_room_and_its_client_is_told() {
    // The newest message of the channel that was closed has the number 2.
    for (channel, number, expected) in [
        ("a1", 0, &["1", "3"][..]),
        ("a3", 1, &["4"]),
        ("a2", 1, &["expired"]),
        ("a2", 2, &[]),
        // They were never published to, which is not known for certain of the first.
        ("a4", 1, &["expired"]),
        ("a4", 2, &[]),
    ] {
        run(async move {
            let told = told_after_eviction(channel, number).await;
            assert_eq!(told, expected, "{channel} after {number}");
        });
    }
}

#[test]
fn a_channel_without_room_is_a_gap_later() {
    run(async {
        let settings = HubSettings { max_channels: 2, ..following(&[("a*", Format::Raw)], 9) };
        let test = TestHub::new(1, settings);
        test.follow().await;
        let full = test.open(0, &["a1", "a2"]);
        settle().await;
        test.publish_copies("a3", &["a*"], "1").await;
        test.publish_copies("a1", &["a*"], "2").await;
        assert_eq!(told(&full).await, ["2"]);
        drop(full);
        settle().await;
        for (number, expected) in [(0, &["expired"][..]), (1, &[])] {
            let id = id_of(&test, number);
            let stream = test.open_with(0, &["a3"], Some(&id), StreamSettings::default());
            assert_eq!(told(&stream).await, expected, "after {number}");
        }
    });
}

#[test]
fn a_loss_of_the_source_is_one_gap_on_each_channel() {
    run(async {
        let test = TestHub::new(1, following(&[("a*", Format::Raw)], 9));
        test.follow().await;
        test.publish_copies("a1", &["a*"], "1").await;
        let stream = test.open_with(0, &["a1", "a2"], None, all());
        settle().await;
        drop(told(&stream).await);
        test.hub.lose();
        let late = test.open(0, &["a3"]);
        settle().await;
        let followed = test.hub.followed();
        assert_eq!(followed, [topic("a*").subscription], "the others are fed");
        test.confirm_all(&["a*"]);
        // A channel that is opened before the gap is sent has it, too.
        test.publish_copies("a4", &["a*"], "2").await;
        test.hub.restored();
        test.hub.flush();
        settle().await;
        assert_eq!(told(&stream).await, ["redis_away"]);
        assert_eq!(told(&late).await, Vec::<String>::new());
        for (channel, number, expected) in [
            ("a1", 0, &["1", "redis_away"][..]),
            ("a4", 0, &["expired", "2", "redis_away"]),
            ("a5", 3, &["expired"]),
            ("a5", 4, &[]),
        ] {
            let id = id_of(&test, number);
            let stream = test.open_with(0, &[channel], Some(&id), StreamSettings::default());
            settle().await;
            assert_eq!(told(&stream).await, expected, "{channel} after {number}");
        }
    });
}

#[test]
fn channels_of_a_pattern_that_is_denied_get_subscriptions_of_their_own() {
    run(async {
        let test = TestHub::new(1, following(&[("a*", Format::Raw)], 9));
        let stream = test.open(0, &["a1"]);
        settle().await;
        assert_eq!(test.requested(), ["+a*".to_owned()].into());
        test.hub.deny(true, "a*");
        assert_eq!(test.requested(), ["+a1".to_owned()].into());
        let late = test.open(0, &["a2"]);
        settle().await;
        assert_eq!(test.requested(), ["+a2".to_owned()].into());
        test.confirm_all(&["a1", "a2"]);
        test.publish_copies("a1", &["a1"], "1").await;
        // It is allowed after all.
        test.confirm_all(&["a*"]);
        assert_eq!(test.requested(), ["-a1".to_owned(), "-a2".to_owned()].into());
        test.publish_copies("a1", &["a*"], "2").await;
        test.publish_copies("a2", &["a*"], "3").await;
        assert_eq!(
            (told(&stream).await, told(&late).await),
            (vec!["1".into(), "2".into()], vec!["3".into()])
        );
    });
}

pub(super) fn with_whole_ids(stream: &Subscriber) -> String {
    let mut text = String::new();
    let context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(bytes)) = stream.poll_next(Form::Text, &context) {
        text += str::from_utf8(&bytes).expect("text");
    }
    text
}
