//! What other gateways call the messages of channels that a pattern feeds.

use std::time::Duration;

use ssegate_format::Format;
use ssegate_sse::Event;
use tokio::time::Instant;

use super::{all, following, read_all, with_whole_ids};
use crate::tests::{TestHub, run, settle};
use crate::{HubSettings, OrderId};

/// The places of the ids in a stream's text: which message of its channel since the mark each is, `-` where it
/// has no name.
fn places(text: &str) -> Vec<String> {
    use crate::EventId;
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    let ids = ids.map(|id| EventId::parse(id.as_bytes()).expect("an id"));
    ids.map(|id| id.place.map_or_else(|| "-".into(), |place| place.name.k.to_string())).collect()
}

#[test]
fn a_channel_that_was_closed_since_the_newest_mark_has_no_names() {
    run(async {
        let settings = HubSettings { max_channels: 2, ..following(&[("a*", Format::Raw)], 9) };
        let test = TestHub::new(1, settings);
        let mark = |mark: u8| {
            test.hub
                .in_order(OrderId::PLAIN)
                .receive_for_all(format!(r#"{{"mark":"{mark:016x}"}}"#).as_bytes())
        };
        test.hub.in_order(OrderId::PLAIN).begin(true);
        test.hub.restored();
        let publish = async |channel, data| {
            test.publish_copies(channel, &["a*"], data).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let names = async |channel| {
            let stream = test.open_with(0, &[channel], None, all());
            settle().await;
            let text = read_all(&stream, with_whole_ids).await;
            let (events, _) = text.rsplit_once("\nid: ").expect("ready has a position");
            drop(stream);
            settle().await;
            places(events)
        };
        assert!(mark(1));
        test.follow().await;
        publish("a1", "1").await;
        assert_eq!(names("a1").await, ["-"], "the mark came before the confirmation");
        assert!(mark(2));
        publish("a1", "2").await;
        publish("a2", "3").await;
        publish("a1", "4").await;
        assert_eq!(names("a1").await, ["-", "1", "2"]);
        // Opened on demand since the mark, it counts from 1.
        assert_eq!(names("a2").await, ["1"]);
        publish("a3", "5").await;
        publish("a1", "6").await;
        publish("a2", "7").await;
        // Both were closed in between: one of them would count from 1 again.
        assert_eq!(names("a2").await, ["-"]);
        assert!(mark(3));
        publish("a2", "8").await;
        publish("a1", "9").await;
        assert_eq!(names("a2").await, ["-", "1"]);
        assert_eq!(names("a1").await.last().map(String::as_str), Some("1"));
    });
}

#[test]
fn a_client_that_was_sent_the_newest_message_is_ready_with_its_name() {
    run(async {
        let test = TestHub::new(1, following(&[("a*", Format::Raw)], 9));
        test.hub.in_order(OrderId::PLAIN).begin(true);
        test.follow().await;
        test.hub.restored();
        assert!(
            test.hub.in_order(OrderId::PLAIN).receive_for_all(br#"{"mark":"0000000000000001"}"#)
        );
        for data in ["1", "2"] {
            test.hub.begin_message(b"a1", Some(data.as_bytes()));
            test.hub.publish(true, "a*", Instant::now(), |_| {
                Some(Event { data: data.as_bytes().into(), ..Event::default() })
            });
        }
        // Another copy of the second message may follow.
        test.hub.flush();
        settle().await;
        assert!(test.hub.settled() < test.hub.newest_number());
        let stream = test.open_with(0, &["a1"], None, all());
        settle().await;
        let text = read_all(&stream, with_whole_ids).await;
        let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(places(&text), ["1", "2", "2"], "{text}");
        assert_eq!(ids[1], ids[2], "{text}");
    });
}
