//! How long a channel is followed that has no subscribers.

use std::sync::Arc;
use std::time::Duration;

use ssegate_format::Format;

use super::{TestHub, read, run, settle};
use crate::{
    CloseReason, HubSettings, Ids, NameShape, Retention, RetentionRule, RetentionRules, SourceKind,
    SourceRequest, StreamSettings,
};

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
