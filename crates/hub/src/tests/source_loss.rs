//! A source that is away: each stream that may have missed something is sent one gap.

use super::{TestHub, id_of, read, run, settle};
use crate::{ChannelName, HubSettings, SourceKind, StreamSettings};

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
fn a_sharded_channel_is_lost_alone() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let [first, second] = ["a", "b"].map(|name| ChannelName::sharded(name).expect("a name"));
        let (one, other, plain) = (
            test.open(0, &[first.as_str(), "plain"]),
            test.open(0, &[second.as_str()]),
            test.open(0, &["plain"]),
        );
        settle().await;
        let requested = test.hub.source_requests(SourceKind::Sharded).await;
        assert_eq!(requested.count(), 2, "the source of the plain one is another");
        let mut followed = test.hub.followed_sharded();
        followed.sort();
        assert_eq!(followed, [first.clone(), second.clone()]);
        assert_eq!(test.hub.followed().len(), 1);
        for name in [first.as_str(), second.as_str(), "plain"] {
            test.hub.confirm(false, name);
        }
        test.hub.flush();
        settle().await;
        [&one, &other, &plain].into_iter().for_each(|stream| drop(read(stream)));

        // Its slot moves.
        test.hub.lose_channels([&first]);
        test.hub.confirm(false, first.as_str());
        test.hub.restored_channels([&first]);
        test.hub.flush();
        settle().await;
        let text = read(&one);
        let gap =
            format!("event: gap\ndata: {{\"reason\":\"redis_away\",\"channels\":[\"{first}\"]}}");
        assert!(text.starts_with(&gap), "{text}");
        assert_eq!((read(&other), read(&plain)), (String::new(), String::new()));

        // The connection for all other channels is lost.
        test.hub.lose();
        test.hub.confirm(false, "plain");
        test.hub.restored();
        test.hub.flush();
        settle().await;
        assert_eq!(read(&other), "");
        for stream in [&one, &plain] {
            let text = read(stream);
            assert!(text.contains("\"channels\":[\"plain\"]"), "{text}");
        }
    });
}
