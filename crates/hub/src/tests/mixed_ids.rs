//! Channels whose events may have ids of another server (`Ids::Mixed`): how clients resume, and how such a channel ends.

use std::time::Duration;

use bytes::Bytes;
use ssegate_format::Format;
use ssegate_sse::Event;
use tokio::time::Instant;

use super::{FIRST, TestHub, id_of, read, run, settle};
use crate::{
    ChannelName, CloseReason, GapReason, HistorySettings, HubSettings, Ids, Replay, ResumedFrom,
    SourceKind, SourceRequest, StreamSettings, Subscriber, Subscription, Topic,
};

const NAME: &str = "7:prices";

fn mixed() -> Topic {
    let name = ChannelName::new(NAME).expect("a name");
    let subscription = Subscription { name, is_pattern: false };
    Topic { subscription, format: Format::Raw, ids: Ids::Mixed }
}

fn open(test: &TestHub, shard: usize, id: Option<&str>, replay: Replay) -> Subscriber {
    open_with(test, shard, id, replay, HistorySettings { count: 3, ..HistorySettings::default() })
}

fn open_with(
    test: &TestHub,
    shard: usize,
    id: Option<&str>,
    replay: Replay,
    history: HistorySettings,
) -> Subscriber {
    let linger = Duration::from_secs(10);
    let max_queue_bytes = 64 << 20;
    let settings = StreamSettings { replay, linger, max_queue_bytes, ..StreamSettings::default() };
    test.open_topics(shard, vec![mixed()], id, settings, history)
}

async fn publish(test: &TestHub, events: &[(Option<&str>, &'static str)]) {
    for (id, data) in events {
        test.hub.begin_message(NAME.as_bytes(), None);
        test.hub.publish(false, NAME, Instant::now(), |_| {
            let (id, data) = (id.map(Into::into), Bytes::from_static(data.as_bytes()));
            Some(Event { id, data, ..Event::default() })
        });
        test.hub.end_message();
    }
    test.hub.flush();
    settle().await;
}

/// A hub with the stream, whose first reader is `read`.
async fn begun(shards: usize) -> (TestHub, Subscriber) {
    let test = TestHub::new(shards, HubSettings::default());
    let first = open(&test, 0, None, Replay::None);
    settle().await;
    test.follow().await;
    drop(read(&first));
    (test, first)
}

/// The events and gaps that are queued, each as its data and its id.
fn events(subscriber: &Subscriber) -> Vec<String> {
    let text = read(subscriber);
    let field = |block: &str, name: &str| {
        let mut lines = block.lines().filter_map(|line| line.strip_prefix(name).map(str::to_owned));
        lines.next()
    };
    text.split("\n\n")
        .filter_map(|block| {
            let (data, id) = (field(block, "data: ")?, field(block, "id: "));
            Some(format!("{data}@{}", id.unwrap_or_default()))
        })
        .collect()
}

/// What a client that comes back with this id is sent.
async fn back(test: &TestHub, id: &str) -> (Vec<String>, Option<ResumedFrom>) {
    let back = open(test, 0, Some(id), Replay::All);
    drop(read(&back));
    settle().await;
    let events = events(&back);
    (events, back.resumed_from())
}

#[test]
fn an_event_has_the_id_of_its_publisher_or_else_one_of_ours() {
    run(async {
        let (test, first) = begun(1).await;
        let long = "x".repeat(1025);
        for (id, expected) in [
            (Some("a"), "1@a"),
            (None, "1@R-2"),
            (Some(""), "1@R-3"),
            (Some(&*long), "1@R-4"),
            (Some("a\u{b}b"), "1@R-5"),
            (Some(&long[1..]), &*format!("1@{}", &long[1..])),
        ] {
            publish(&test, &[(id, "1")]).await;
            assert_eq!(events(&first), [expected]);
        }
    });
}

#[test]
fn a_client_resumes_after_an_id_of_either_kind() {
    run(async {
        let (test, _first) = begun(1).await;
        publish(&test, &[(Some("a"), "1"), (None, "2"), (Some("b"), "3")]).await;
        let history = Some(ResumedFrom::History);
        let all = ["2@R-2".to_owned(), "3@b".to_owned()];
        assert_eq!(back(&test, "a").await, (all.to_vec(), history));
        assert_eq!(back(&test, &id_of(&test, 1)).await, (all.to_vec(), history), "ours for it");
        assert_eq!(back(&test, &id_of(&test, 2)).await, (all[1..].to_vec(), history));
        assert_eq!(back(&test, "b").await, (Vec::new(), history));
    });
}

#[test]
fn a_client_whose_id_several_events_have_is_told_so_or_sent_some_again() {
    run(async {
        let (test, _first) = begun(1).await;
        publish(&test, &[(Some("a"), "1"), (Some("a"), "2"), (Some("b"), "3")]).await;
        // It has the first or the second of them.
        let rest = vec!["2@a".to_owned(), "3@b".to_owned()];
        assert_eq!(back(&test, "a").await, (rest, Some(ResumedFrom::History)));
        publish(&test, &[(Some("a"), "4"), (None, "5")]).await;
        // Where it has the older, it has missed the one with another id between them.
        let (events, from) = back(&test, "a").await;
        let [gap, rest] = &events[..] else { panic!("{events:?}") };
        assert!(gap.contains("unknown_id") && gap.ends_with('@'), "without an id: {gap}");
        assert_eq!((&**rest, from), ("5@R-5", Some(ResumedFrom::Gap)));
    });
}

#[test]
fn the_newest_id_that_is_not_kept_is_known_and_others_are_a_gap() {
    run(async {
        let (test, _first) = begun(1).await;
        let events = [(Some("a"), "1"), (Some("b"), "2"), (None, "3"), (Some("d"), "4")];
        publish(&test, &events).await;
        let kept = ["2@b".to_owned(), "3@R-3".to_owned(), "4@d".to_owned()];
        assert_eq!(back(&test, "a").await, (kept.to_vec(), Some(ResumedFrom::History)));
        publish(&test, &[(Some("e"), "5")]).await;
        for id in ["a", "abcdef-1", "strange", &"y".repeat(5000)] {
            let (events, from) = back(&test, id).await;
            assert_eq!(from, Some(ResumedFrom::Gap), "{id}");
            let [gap] = &events[..] else { panic!("{id}: {events:?}") };
            assert!(gap.contains("unknown_id"), "{gap}");
        }
        // One of ours is a number, of which it is known what is missing.
        let (events, from) = back(&test, &id_of(&test, 1)).await;
        assert_eq!((events.len(), from), (4, Some(ResumedFrom::Gap)));
        assert!(events[0].contains("expired"), "{events:?}");
    });
}

#[test]
fn the_whole_of_a_stream_is_told_where_its_beginning_is_not_kept() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        // It waits for the source.
        let waiting = open(&test, 0, None, Replay::Whole);
        drop(read(&waiting));
        settle().await;
        test.follow().await;
        let all = [(Some("a"), "1"), (None, "2"), (Some("c"), "3")];
        publish(&test, &all).await;
        let whole = ["1@a", "2@R-2", "3@c"];
        assert_eq!(events(&waiting), whole);
        let late = open(&test, 0, None, Replay::Whole);
        drop(read(&late));
        settle().await;
        assert_eq!(events(&late), whole);
        publish(&test, &[(None, "4")]).await;
        let late = open(&test, 0, None, Replay::Whole);
        drop(read(&late));
        settle().await;
        let sent = events(&late);
        assert_eq!(
            (sent.len(), &sent[1..]),
            (4, &["2@R-2", "3@c", "4@R-4"].map(str::to_owned)[..])
        );
        assert!(sent[0].contains("expired"), "{sent:?}");
    });
}

#[test]
fn an_id_is_known_when_all_of_the_history_has_expired() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let history =
            HistorySettings { age: Duration::from_secs(5), count: 3, ..HistorySettings::default() };
        let _first = open_with(&test, 0, None, Replay::None, history);
        settle().await;
        test.follow().await;
        publish(&test, &[(Some("a"), "1"), (Some("b"), "2")]).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        for (id, expected) in [("b", ResumedFrom::History), ("a", ResumedFrom::Gap)] {
            let back = open_with(&test, 0, Some(id), Replay::None, history);
            drop(read(&back));
            settle().await;
            let is_gap = !events(&back).is_empty();
            assert_eq!((back.resumed_from(), is_gap), (Some(expected), id == "a"), "{id}");
        }
    });
}

#[test]
fn a_gap_of_the_source_is_told_and_kept() {
    run(async {
        let (test, first) = begun(2).await;
        publish(&test, &[(Some("a"), "1")]).await;
        test.hub.gap(NAME, GapReason::UpstreamAway);
        publish(&test, &[(None, "2")]).await;
        let told = events(&first);
        assert_eq!((told.len(), &*told[0], &*told[2]), (3, "1@a", "2@R-3"));
        assert_eq!(told[1], "{\"reason\":\"upstream_away\",\"channels\":[\"7:prices\"]}@R-2");
        // One on another shard, that has not seen it.
        let other = open(&test, 1, Some("a"), Replay::None);
        drop(read(&other));
        settle().await;
        assert_eq!(events(&other), told[1..]);
        assert_eq!(back(&test, &id_of(&test, 2)).await.0, told[2..]);
    });
}

#[test]
fn a_stream_that_has_ended_ends_its_readers_once_they_have_all() {
    run(async {
        let (test, first) = begun(1).await;
        publish(&test, &[(Some("a"), "1"), (Some("b"), "2")]).await;
        drop(read(&first));
        // Its past is on its way.
        let behind = open(&test, 0, Some("a"), Replay::None);
        publish(&test, &[(Some("c"), "3")]).await;
        test.hub.end_channel(NAME);
        test.hub.flush();
        settle().await;
        assert_eq!(first.close_reason(), Some(CloseReason::SourceEnded));
        let last = read(&first);
        assert!(last.starts_with("data: 3\nid: "), "{last}");
        assert!(last.lines().last().is_some_and(|line| line.starts_with("retry: ")), "{last}");
        drop(read(&behind));
        settle().await;
        assert_eq!(events(&behind), ["2@b", "3@c"].map(str::to_owned));
        assert_eq!(behind.close_reason(), Some(CloseReason::SourceEnded));
        // While others are left, whoever comes is sent what there is.
        let late = open(&test, 0, None, Replay::Newest(1));
        settle().await;
        drop(read(&late));
        settle().await;
        drop(read(&late));
        assert_eq!((late.events_taken(), late.close_reason()), (1, Some(CloseReason::SourceEnded)));
    });
}

#[test]
fn an_ended_channel_is_left_with_its_last_reader_whoever_joined_late() {
    run(async {
        let (test, first) = begun(2).await;
        publish(&test, &[(Some("a"), "1")]).await;
        test.hub.end_channel(NAME);
        let late = open(&test, 1, None, Replay::All);
        settle().await;
        drop(read(&late));
        settle().await;
        drop(read(&late));
        assert_eq!((late.events_taken(), late.close_reason()), (1, Some(CloseReason::SourceEnded)));
        drop((first, late));
        settle().await;
        assert_eq!(test.hub.channels(), 0, "it does not linger");
        let requests = test.hub.source_requests(SourceKind::PubSub).await;
        let left = requests.map(|(_, request)| request).collect::<Vec<_>>();
        assert_eq!(left, [SourceRequest::Leave]);
        assert!(FIRST.get() > 0);
    });
}

#[test]
fn a_shard_that_is_behind_learns_of_the_end_after_the_events() {
    run(async {
        let (test, first) = begun(1).await;
        for _ in 0..200_000 {
            test.hub.begin_message(NAME.as_bytes(), None);
            test.hub.publish(false, NAME, Instant::now(), |_| Some(Event::default()));
            test.hub.end_message();
            // Each fills the inbox a bit more, of which nothing is taken meanwhile.
            test.hub.flush();
        }
        publish_now(&test, "last");
        test.hub.end_channel(NAME);
        test.hub.flush();
        let mut text = String::new();
        while first.close_reason() != Some(CloseReason::SourceEnded) {
            settle().await;
            text += &read(&first);
            assert_ne!(first.close_reason(), Some(CloseReason::Lagged));
        }
        text += &read(&first);
        let events: Vec<_> = text.lines().filter(|line| line.starts_with("data: ")).collect();
        assert_eq!(events.last(), Some(&"data: last"), "{}", events.len());
    });
}

fn publish_now(test: &TestHub, data: &'static str) {
    test.hub.begin_message(NAME.as_bytes(), None);
    test.hub.publish(false, NAME, Instant::now(), |_| {
        Some(Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() })
    });
    test.hub.end_message();
}
