//! What a client is sent that comes back with an id.

use std::time::Duration;

use bytes::Bytes;
use ssegate_sse::Event;
use tokio::time::Instant;

use super::{TestHub, id_of, read, run, settle};
use crate::{HubSettings, Replay, ResumedFrom, SourceKind, StreamSettings};

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
fn a_stream_says_where_its_past_came_from_and_what_was_taken() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let live = test.open(0, &["a", "b"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("a", "1"), ("a", "2"), ("a", "3")]).await;
        let text = read(&live);
        assert_eq!((live.events_taken(), live.channels(), live.resumed_from()), (3, 2, None));
        assert!(live.bytes_taken() > text.matches("data").count() as u64, "{}", live.bytes_taken());

        // The history has five events: one more is missing, or not.
        test.publish_all(&[("a", "4"), ("a", "5"), ("a", "6"), ("a", "7")]).await;
        let (known, expired) = (id_of(&test, 3), id_of(&test, 1));
        for (id, events, from) in [
            (&*known, 4, ResumedFrom::History),
            (&*expired, 5, ResumedFrom::Gap),
            ("zzzzzz-1", 0, ResumedFrom::Gap),
            ("strange", 0, ResumedFrom::Gap),
        ] {
            let back = test.open_with(0, &["a"], Some(id), StreamSettings::default());
            drop(read(&back));
            assert_eq!(back.resumed_from(), None, "{id}: nothing was sent yet");
            settle().await;
            drop(read(&back));
            assert_eq!((back.events_taken(), back.resumed_from()), (events, Some(from)), "{id}");
        }
        // A part of the past without an id is no resuming, and a gap of later is not one of the past.
        let settings = StreamSettings { replay: Replay::Newest(2), ..StreamSettings::default() };
        let new = test.open_with(0, &["a"], None, settings);
        drop(read(&new));
        settle().await;
        drop(read(&new));
        assert_eq!((new.events_taken(), new.resumed_from()), (2, None));
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
        test.hub.begin_message(b"b", None);
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
fn a_replay_has_a_message_once_that_matches_two_subscriptions() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["ab", "a*"]);
        settle().await;
        test.follow().await;
        test.hub.begin_message(b"a", None);
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
