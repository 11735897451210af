//! What of the past a client is sent that brings no id, and in which pieces.

use super::{TestHub, id_of, read, run, settle, topic};
use crate::{HistorySettings, HubSettings, Replay, StreamSettings};

fn settings(replay: Replay) -> StreamSettings {
    StreamSettings { replay, ..StreamSettings::default() }
}

#[test]
fn a_client_without_an_id_is_sent_as_much_as_the_route_says() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a", "b"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]).await;
        drop(first);
        for (replay, expected) in [
            (Replay::None, ""),
            (Replay::Newest(1), "data: 2\nid: R-2\n\ndata: 4\nid: R-4\n\n"),
            (Replay::Newest(2), "data: 2\nid: R-2\n\ndata: 3\nid: R-3\n\ndata: 4\nid: R-4\n\n"),
            (
                Replay::All,
                "data: 1\nid: R-1\n\ndata: 2\nid: R-2\n\n\
                 data: 3\nid: R-3\n\ndata: 4\nid: R-4\n\n",
            ),
        ] {
            let stream = test.open_with(0, &["a", "b"], None, settings(replay));
            let mut text = read(&stream) + "\n";
            settle().await;
            text += &read(&stream);
            assert_eq!(text, format!(":\nretry: 3000\n{expected}id: R-4\n: ready\n"), "{replay:?}");
        }
        // An id overrides what the route says.
        let id = id_of(&test, 3);
        let back = test.open_with(0, &["a", "b"], Some(&id), settings(Replay::All));
        drop(read(&back));
        settle().await;
        assert_eq!(read(&back), "data: 4\nid: R-4\n\nid: R-4\n: ready\n");
    });
}

#[test]
fn a_client_without_an_id_gets_no_gap_for_what_was_dropped() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        // Five are kept.
        test.publish_all(&[("a", "x"); 8]).await;
        drop(first);
        for replay in [Replay::All, Replay::Newest(100)] {
            let stream = test.open_with(0, &["a"], None, settings(replay));
            drop(read(&stream));
            settle().await;
            let text = read(&stream);
            assert_eq!(text.matches("data: x").count(), 5, "{text}");
            assert!(!text.contains("gap"), "{text}");
        }
    });
}

#[test]
fn a_channel_that_was_not_followed_has_nothing_to_replay() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_with(0, &["a"], None, settings(Replay::All));
        assert_eq!(read(&stream), ":\nretry: 3000");
        test.follow().await;
        assert_eq!(read(&stream), "id: R-0\n: ready\n");
    });
}

#[test]
fn a_replay_in_pieces_goes_on_where_it_began() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open(0, &["a", "b"]);
        settle().await;
        test.follow().await;
        test.publish_all(&[("b", "0"), ("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")]).await;
        drop(first);
        // One event in each piece.
        let settings = StreamSettings { max_queue_bytes: 2, ..settings(Replay::Newest(2)) };
        let stream = test.open_with(0, &["a", "b"], None, settings);
        drop(read(&stream));
        let mut text = String::new();
        for round in 0..8 {
            settle().await;
            text += &(read(&stream) + "\n");
            if round == 0 {
                // Live events meanwhile displace nothing.
                test.publish_all(&[("a", "5"), ("b", "6")]).await;
            }
        }
        let data: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        assert_eq!(data, ["0", "2", "3", "4", "5", "6"], "{text}");
    });
}

#[test]
fn an_event_that_closed_a_queue_does_not_close_it_again() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let settings = || StreamSettings { max_queue_bytes: 100, ..StreamSettings::default() };
        let large = "x".repeat(150).leak() as &'static str;
        let history = HistorySettings::default();
        let open =
            |id: Option<&str>| test.open_topics(0, vec![topic("a")], id, settings(), history);
        let first = open(None);
        settle().await;
        test.follow().await;
        drop(read(&first));
        test.publish_all(&[("a", "small"), ("a", large)]).await;
        assert!(first.close_reason().is_some(), "both do not fit");
        drop(first);

        // A client that takes long for the large one, while small ones keep coming.
        let back = open(Some(&id_of(&test, 0)));
        drop(read(&back));
        settle().await;
        for _ in 0..20 {
            test.publish("a", "more").await;
        }
        assert_eq!(back.close_reason(), None);
        let mut text = String::new();
        for _ in 0..20 {
            text += &read(&back);
            settle().await;
        }
        assert_eq!(text.matches(large).count(), 1);
        assert_eq!(text.matches("data: more").count(), 20, "{text}");
        assert!(text.ends_with("id: R-22\n: ready\n"), "{text}");
    });
}
