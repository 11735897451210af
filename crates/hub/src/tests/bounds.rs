//! What happens at the bounds of histories and queues.

use std::time::Duration;

use bytes::Bytes;
use ssegate_sse::Event;
use ssegate_sse::frame::Form;
use tokio::time::Instant;

use super::{TestHub, id_of, read, run, settle};
use crate::{CloseReason, HubSettings, StreamSettings, WhenFull};

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
                test.hub.begin_message(b"a", None);
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
