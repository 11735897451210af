//! What the subscribers of a channel and of patterns are sent of each message: once, in order.

use ssegate_sse::Event;
use tokio::time::Instant;

use super::{TestHub, id_of, read, run, settle};
use crate::{HubSettings, StreamSettings, Subscriber};

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
        test.hub.begin_message(b"a", None);
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
        test.hub.begin_message(b"news.a", None);
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
        test.hub.begin_message(b"news", None);
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
fn a_channel_that_the_source_keeps_for_itself_is_confirmed_between_two_copies_of_a_message() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let (both, pattern) = (test.open(0, &["news", "n*"]), test.open(0, &["n*"]));
        settle().await;
        test.follow().await;
        drop((read(&both), read(&pattern)));
        let silent = test.open(0, &["silent"]);
        settle().await;
        let copy = |is_pattern, name| {
            test.hub.publish(is_pattern, name, Instant::now(), |_| {
                Some(Event { data: "1".into(), ..Event::default() })
            });
        };
        test.hub.begin_message(b"news", None);
        copy(false, "news");
        test.hub.flush();
        settle().await;
        test.hub.confirm_silent(false, "silent");
        test.hub.flush();
        settle().await;
        assert_eq!(read(&silent), ":\nretry: 3000\nid: R-0\n: ready\n");
        assert!(test.hub.is_message_open());
        copy(true, "n*");
        test.hub.flush();
        settle().await;
        for stream in [both, pattern] {
            assert_eq!(read(&stream), "data: 1\nid: R-1\n");
        }
        test.hub.confirm(true, "unknown*");
        assert!(!test.hub.is_message_open(), "the server has sent something else");
    });
}
