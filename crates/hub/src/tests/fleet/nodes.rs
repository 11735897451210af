//! Sharded channels: each in the order of the node that owns its slot, whatever is heard in others.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ssegate_sse::Event;
use tokio::time::Instant;

use crate::fleet::name::{EventName, FleetPosition, SubscriptionTag};
use crate::tests::{TestHub, read, run, settle};
use crate::{
    ChannelName, FleetRequest, HubSettings, OrderId, Snapshot, StreamSettings, Subscriber,
    Subscription,
};

/// A gateway, with two nodes at which it hears marks.
struct Nodes {
    test: TestHub,
    orders: [OrderId; 2],
}

fn name(text: &str) -> ChannelName {
    ChannelName::sharded(text).expect("a name")
}

impl Nodes {
    fn new() -> Self {
        let test = TestHub::new(1, HubSettings::default());
        let orders = [test.hub.begin_order(), test.hub.begin_order()];
        orders.iter().for_each(|order| test.hub.in_order(*order).begin(false));
        Self { test, orders }
    }

    fn mark(&self, at: usize, mark: u64) {
        let body = format!(r#"{{"mark":"{mark:016x}"}}"#);
        assert!(self.test.hub.in_order(self.orders[at]).receive_for_all(body.as_bytes()));
    }

    fn confirm(&self, at: usize, channel: &str) {
        self.test.hub.confirm_at(self.orders[at], &name(channel));
        self.test.hub.restored_channels([&name(channel)]);
    }

    /// Its slot has moved to another node.
    fn moves(&self, channel: &str, to: usize) {
        self.test.hub.lose_channels([&name(channel)]);
        self.confirm(to, channel);
    }

    async fn publish(&self, at: usize, channel: &str, data: &'static str) {
        let (hub, name) = (&self.test.hub, name(channel));
        hub.begin_message_at(self.orders[at], name.as_str().as_bytes(), Some(data.as_bytes()));
        hub.publish(false, name.as_str(), Instant::now(), |_| {
            Some(Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() })
        });
        hub.end_message();
        self.settle().await;
    }

    async fn settle(&self) {
        self.test.hub.flush();
        settle().await;
    }

    async fn open(&self, channels: &[&str], id: Option<&str>) -> Subscriber {
        let names: Vec<ChannelName> = channels.iter().map(|channel| name(channel)).collect();
        let names: Vec<&str> = names.iter().map(ChannelName::as_str).collect();
        let stream = self.test.open_with(0, &names, id, StreamSettings::default());
        settle().await;
        stream
    }

    /// What a client of another gateway reads first, which has this id.
    async fn comes(&self, channels: &[&str], id: &str) -> String {
        let stream = self.open(channels, Some(id)).await;
        // The past is requested by whoever reads.
        let mut text = read(&stream);
        // There is no other gateway that would answer.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let mut requests = std::pin::pin!(self.test.hub.node_requests());
            let polled = requests.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(requests) = polled else { continue };
            for (order, request) in requests {
                let order = self.test.hub.in_order(order);
                match request {
                    FleetRequest::Fence(ticket) => order.pass_fence(ticket),
                    FleetRequest::PublishForAll { body, .. } => {
                        assert!(order.receive_for_all(&body))
                    }
                    FleetRequest::PublishForOne { .. } => {}
                }
            }
            self.settle().await;
        }
        text += "\n";
        text += &read(&stream);
        text
    }

    /// The id that a stream was sent last, as one of another gateway.
    async fn foreign_id(&self, stream: &Subscriber) -> String {
        self.settle().await;
        let mut text = String::new();
        let context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(bytes)) =
            stream.poll_next(ssegate_sse::frame::Form::Text, &context)
        {
            text += str::from_utf8(&bytes).expect("text");
        }
        let mut ids = text.lines().rev().filter_map(|line| line.strip_prefix("id: "));
        ids.next().expect("an id").replace(&self.test.hub.run_text(), "zzzzzz")
    }
}

fn data(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

#[test]
fn a_client_resumes_in_the_order_of_the_node_of_its_channel() {
    run(async {
        let nodes = Nodes::new();
        let (a, b) = (nodes.open(&["a"], None).await, nodes.open(&["b"], None).await);
        nodes.confirm(0, "a");
        nodes.confirm(1, "b");
        nodes.mark(0, 1);
        nodes.mark(1, 2);
        for (at, channel) in [(0, "a"), (1, "b"), (0, "a")] {
            nodes.publish(at, channel, "before").await;
        }
        let ids = [nodes.foreign_id(&a).await, nodes.foreign_id(&b).await];
        nodes.publish(0, "a", "after a").await;
        nodes.publish(1, "b", "after b").await;
        assert_eq!(data(&nodes.comes(&["a"], &ids[0]).await), ["after a"]);
        assert_eq!(data(&nodes.comes(&["b"], &ids[1]).await), ["after b"]);
        // One of the other channel says nothing of this.
        for (channel, id) in [("a", &ids[1]), ("b", &ids[0])] {
            let text = nodes.comes(&[channel], id).await;
            assert!(text.contains("unknown_id") && !text.contains("after"), "{text}");
        }
    });
}

#[test]
fn a_stream_of_several_sharded_channels_is_known_on_the_one_that_its_id_names() {
    run(async {
        let nodes = Nodes::new();
        let stream = nodes.open(&["a", "c"], None).await;
        nodes.confirm(0, "a");
        nodes.confirm(0, "c");
        nodes.mark(0, 1);
        nodes.publish(0, "a", "1").await;
        let id = nodes.foreign_id(&stream).await;
        // The same order: but c may be lost elsewhere, and its gap not be told there yet.
        let text = nodes.comes(&["a", "c"], &id).await;
        let channels = format!("\"channels\":[\"{}\"]", name("c"));
        assert!(text.contains("unknown_id") && text.contains(&channels), "{text}");
        // Without an event no place of both can be named.
        let quiet = nodes.open(&["a", "c"], None).await;
        nodes.mark(0, 2);
        let id = nodes.foreign_id(&quiet).await;
        assert_eq!(id.matches('-').count(), 1, "{id}");
    });
}

#[test]
fn a_moved_channel_begins_anew_in_another_order() {
    run(async {
        let nodes = Nodes::new();
        let stream = nodes.open(&["a"], None).await;
        nodes.confirm(0, "a");
        // A mark of the other node, from before the channel came there.
        nodes.mark(0, 1);
        nodes.mark(1, 2);
        nodes.publish(0, "a", "old").await;
        let before = nodes.foreign_id(&stream).await;
        nodes.publish(0, "a", "older than the move").await;
        nodes.moves("a", 1);
        // Nothing has a name until a mark has come behind the confirmation.
        nodes.publish(1, "a", "unnamed").await;
        let unnamed = nodes.foreign_id(&stream).await;
        assert_eq!(unnamed.matches('-').count(), 1, "{unnamed}");
        nodes.mark(1, 3);
        // What the old node had sent, and comes late, is in the gap: it would have a name of the new order.
        nodes.publish(0, "a", "late").await;
        nodes.publish(1, "a", "new").await;
        let after = nodes.foreign_id(&stream).await;
        nodes.publish(1, "a", "newest").await;
        assert_eq!(data(&nodes.comes(&["a"], &after).await), ["newest"]);
        // The message before the move is known here: what follows comes, with the gap, and once.
        let text = nodes.comes(&["a"], &before).await;
        let came = data(&text);
        assert_eq!(came.len(), 5, "{text}");
        assert!(text.contains("redis_away"), "{text}");
        assert!(!text.contains("late"), "{text}");
        // A mark that the new node had sent before says nothing of the channel, whose messages were elsewhere then.
        let place = |mark: u64| {
            let subscription = Subscription { name: name("a"), is_pattern: false };
            let place = FleetPosition::of_mark(mark, SubscriptionTag::of(&subscription)).text();
            format!("zzzzzz-7-{}", str::from_utf8(&place).expect("text"))
        };
        let text = nodes.comes(&["a"], &place(2)).await;
        assert!(text.contains("\"reason\":") && !text.contains("older"), "{text}");
        let text = nodes.comes(&["a"], &place(3)).await;
        assert_eq!(data(&text), ["new", "newest"], "{text}");
        // Those of the old order are forgotten with its connection.
        nodes.test.hub.end_order(nodes.orders[0]);
        let text = nodes.comes(&["a"], &place(1)).await;
        assert!(text.contains("event: gap") && data(&text).len() == 1, "{text}");
    });
}

#[test]
fn whoever_waits_for_a_node_that_is_lost_is_told_a_gap() {
    run(async {
        let nodes = Nodes::new();
        let stream = nodes.open(&["a"], None).await;
        nodes.confirm(0, "a");
        nodes.mark(0, 1);
        nodes.publish(0, "a", "1").await;
        let id = nodes.foreign_id(&stream).await;
        // The place is of a mark that was not heard here.
        let mark = FleetPosition::parse(&id.as_bytes()[id.len() - 23..]).expect("a place");
        let elsewhere = FleetPosition { name: EventName { mark: 7, ..mark.name }, ..mark };
        let elsewhere = elsewhere.text();
        let unknown = id[..id.len() - 23].to_owned() + str::from_utf8(&elsewhere).expect("text");
        let back = nodes.open(&["a"], Some(&unknown)).await;
        assert!(!read(&back).contains("ready"), "the others are asked");
        nodes.test.hub.lose_channels([&name("a")]);
        nodes.test.hub.end_order(nodes.orders[0]);
        nodes.settle().await;
        let text = read(&back);
        assert!(text.contains("event: gap"), "{text}");
        // It goes on elsewhere.
        nodes.confirm(1, "a");
        nodes.publish(1, "a", "2").await;
        nodes.settle().await;
        assert_eq!(data(&read(&back)).last(), Some(&"2"));
    });
}

#[test]
fn the_next_process_can_read_what_this_one_had_of_sharded_channels() {
    run(async {
        let nodes = Nodes::new();
        let _stream = nodes.open(&["a"], None).await;
        nodes.confirm(0, "a");
        nodes.mark(0, 1);
        nodes.publish(0, "a", "kept").await;
        let mut bytes = Vec::new();
        let snapshot = nodes.test.hub.snapshot(usize::MAX);
        snapshot.write(Instant::now(), &mut bytes).expect("a buffer takes all");
        let read = Snapshot::read(&bytes, Instant::now()).expect("written so");
        assert_eq!(read.channels(), 1);
    });
}
