//! The pieces of an event's way, set up so that a bench can run one of them alone.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ssegate::metrics::Metrics;
use ssegate_format::Format;
use ssegate_hub::Topic;
use ssegate_hub::{ChannelName, Ids, Subscription};
use ssegate_hub::{
    HistorySettings, Hub, HubSettings, LastSeen, OrderId, Shard, StreamOpening, StreamRequest,
    StreamSettings, Subscriber,
};
use ssegate_resp::{Limits, Value, ValueDecoder};
use ssegate_sse::frame::Form;
use tokio::runtime::LocalRuntime;
use tokio::time::Instant;

const CHANNEL: &str = "news";
const PAYLOAD: &[u8; 100] = &[b'x'; 100];

/// `messages` pushes of a payload of 100 bytes, as Redis writes them after `HELLO 3`.
pub fn pushes(messages: usize) -> BytesMut {
    let mut push = b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$100\r\n".to_vec();
    push.extend_from_slice(PAYLOAD);
    push.extend_from_slice(b"\r\n");
    push.repeat(messages).as_slice().into()
}

/// Decodes all of them, and returns how many.
pub fn decode_pushes(mut input: BytesMut) -> usize {
    let mut decoder = ValueDecoder::new(Limits::default());
    let mut messages = 0;
    while let Some(value) = decoder.decode(&mut input).expect("it is RESP") {
        messages += usize::from(matches!(black_box(value), Value::Push(_)));
    }
    messages
}

/// A hub with one shard and subscribers of one channel, on one thread and without sockets.
#[derive(Debug)]
pub struct FanOut {
    runtime: LocalRuntime,
    hub: Hub,
    shard: Shard,
    history: Option<HistorySettings>,
    subscribers: Vec<Subscriber>,
    payload: Bytes,
    received: Cell<usize>,
}

impl FanOut {
    /// A hub with this many subscribers, and the default history.
    pub fn new(subscribers: usize) -> Self {
        Self::keeping(Some(HistorySettings::default()), subscribers)
    }

    /// The same as one gateway of a fleet: events have names for other gateways.
    pub fn in_a_fleet(subscribers: usize) -> Self {
        let hub = Self::new(subscribers);
        let order = hub.hub.in_order(OrderId::PLAIN);
        order.begin(true);
        hub.hub.restored();
        assert!(order.receive_for_all(br#"{"mark":"0123456789abcdef"}"#));
        hub.hub.flush();
        hub.runtime.block_on(turns());
        // The position, which now has a name.
        hub.take();
        hub
    }

    /// The same with `history: off`: nothing is kept, and events carry no id of ours.
    pub fn without_history(subscribers: usize) -> Self {
        Self::keeping(None, subscribers)
    }

    /// One subscriber, and this many events in the history of the channel.
    pub fn with_history(events: usize) -> Self {
        const TOGETHER: usize = 100;
        let bytes = HubSettings::default().history_memory;
        let history = HistorySettings { count: events, bytes, age: Duration::from_secs(3600) };
        let hub = Self::keeping(Some(history), 1);
        for _ in 0..events / TOGETHER {
            hub.publish(TOGETHER);
        }
        hub
    }

    fn keeping(history: Option<HistorySettings>, subscribers: usize) -> Self {
        let runtime = LocalRuntime::new().expect("the system gives an event loop");
        let metrics = Metrics::new().expect("names are unique");
        let (hub, links) = Hub::new(HubSettings::default(), 1, metrics.clone());
        let (shard, subscribers) = runtime.block_on(async {
            let link = links.into_iter().next().expect("one was asked for");
            let shard = Shard::new(link, Duration::from_secs(30), metrics.for_shard());
            let (hub, running) = (hub.clone(), shard.clone());
            tokio::task::spawn_local({
                let hub = hub.clone();
                async move { hub.run().await }
            });
            tokio::task::spawn_local(async move { running.run().await });
            let ask = |_| shard.subscribe(request(history, None));
            let subscribers: Vec<Subscriber> = (0..subscribers).map(ask).collect();
            turns().await;
            hub.confirm(false, CHANNEL);
            hub.flush();
            turns().await;
            (shard, subscribers)
        });
        let payload = Bytes::from_static(PAYLOAD);
        let received = Cell::new(0);
        let fan_out = Self { runtime, hub, shard, history, subscribers, payload, received };
        // `retry` and `ready`.
        fan_out.take();
        fan_out
    }

    /// Publishes this many events together; the shard delivers them, and every subscriber takes them. Returns
    /// the bytes that they took.
    pub fn publish(&self, events: usize) -> usize {
        let received = Instant::now();
        self.runtime.block_on(async {
            for _ in 0..events {
                self.hub.begin_message(CHANNEL.as_bytes(), Some(&self.payload));
                self.hub.publish(false, CHANNEL, received, |format| {
                    Some(format.decode(&self.payload).event)
                });
            }
            self.hub.end_message();
            self.hub.flush();
            turns().await;
        });
        self.take()
    }

    /// A client comes back with the id before the newest, and is sent the newest event. Returns the bytes of that.
    pub fn come_back(&self, last: &[u8]) -> usize {
        let request = request(self.history, Some(last.to_vec()));
        let subscriber = self.shard.subscribe(request);
        self.runtime.block_on(async {
            // `retry`; then it asks for its past.
            assert!(text(&subscriber).starts_with(":\nretry"));
            turns().await;
        });
        let missed = text(&subscriber);
        assert_eq!(missed.matches("data: ").count(), 1, "{missed}");
        missed.len()
    }

    /// The id before the newest.
    pub fn last_but_one(&self) -> Vec<u8> {
        let newest = self.shard.subscribe(request(self.history, None));
        let text = text(&newest);
        let id = text.lines().find_map(|line| line.strip_prefix("id: ")).expect("it is ready");
        let (run, number) = id.split_once('-').expect("an id");
        let number: u64 = number.parse().expect("a number");
        format!("{run}-{}", number - 1).into_bytes()
    }

    fn take(&self) -> usize {
        self.received.set(0);
        let context = Context::from_waker(Waker::noop());
        for subscriber in &self.subscribers {
            while let Poll::Ready(Some(bytes)) = subscriber.poll_next(Form::Chunk, &context) {
                self.received.set(self.received.get() + bytes.len());
            }
        }
        assert!(self.received.get() > 0, "everybody listens");
        self.received.get()
    }
}

fn text(subscriber: &Subscriber) -> String {
    let context = Context::from_waker(Waker::noop());
    let mut text = Vec::new();
    while let Poll::Ready(Some(bytes)) = subscriber.poll_next(Form::Text, &context) {
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).expect("a stream is UTF-8")
}

fn request(history: Option<HistorySettings>, last_event_id: Option<Vec<u8>>) -> StreamRequest {
    let name = ChannelName::new(CHANNEL).expect("a valid name");
    let subscription = Subscription { name, is_pattern: false };
    let ids = if history.is_some() { Ids::Ours } else { Ids::Publisher };
    StreamRequest {
        topics: vec![Topic { subscription, format: Format::Raw, ids }],
        settings: Arc::new(StreamSettings::default()),
        history,
        last_seen: LastSeen::up_to(last_event_id),
        opening: StreamOpening { is_continued: false, ready_has_position: true },
        prefix_bytes: 0,
        expires_at: None,
        cut: Box::new(|| {}),
        tag: 0,
    }
}

/// Yields a few times, so that the hub and the shard finish their work.
async fn turns() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}
