//! The whole hub on one thread: what subscribers read of what is published.

mod behind;
mod bounds;
mod delivery;
mod fleet;
mod follow;
mod linger;
mod log_oracle;
mod logs;
mod looks;
mod mixed_ids;
mod oracle;
mod replay;
mod resume;
mod snapshot;
mod source_loss;
mod stream_end;

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ssegate_format::Format;
use ssegate_sse::Event;
use ssegate_sse::frame::{Form, Frame};
use tokio::runtime::LocalRuntime;
use tokio::time::Instant;

use super::{
    HistorySettings, Hub, HubSettings, LastSeen, Shard, SourceKind, SourceRequest, StreamOpening,
    StreamRequest, StreamSettings, Subscriber,
};
use crate::Topic;
use crate::{ChannelName, Ids, Subscription};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A hub with its shards, and a source that confirms subscriptions when a test says so.
///
/// Numbers in the tests count from the last [`TestHub::follow`] on: how many numbers confirmations take
/// does not matter to them.
struct TestHub {
    hub: Hub,
    shards: Vec<Shard>,
}

impl TestHub {
    fn new(shards: usize, settings: HubSettings) -> Self {
        let (hub, links) = Hub::new(settings, shards, ());
        let shards = links.into_iter().map(|link| Shard::new(link, WRITE_TIMEOUT, ())).collect();
        let test = Self { hub, shards };
        let hub = test.hub.clone();
        drop(tokio::task::spawn_local(async move { hub.run().await }));
        for shard in &test.shards {
            let shard = shard.clone();
            drop(tokio::task::spawn_local(async move { shard.run().await }));
        }
        test
    }

    fn open(&self, shard: usize, channels: &[&str]) -> Subscriber {
        self.open_with(shard, channels, None, StreamSettings::default())
    }

    fn open_with(
        &self,
        shard: usize,
        channels: &[&str],
        last_event_id: Option<&str>,
        settings: StreamSettings,
    ) -> Subscriber {
        let history = HistorySettings { count: 5, ..HistorySettings::default() };
        let topics = channels.iter().map(|name| topic(name)).collect();
        self.open_topics(shard, topics, last_event_id, settings, history)
    }

    fn open_topics(
        &self,
        shard: usize,
        topics: Vec<Topic>,
        last_event_id: Option<&str>,
        settings: StreamSettings,
        history: HistorySettings,
    ) -> Subscriber {
        self.shards[shard].subscribe(StreamRequest {
            topics,
            settings: Arc::new(settings),
            prefix_bytes: 0,
            history: Some(history),
            last_seen: LastSeen::up_to(last_event_id.map(|id| id.as_bytes().to_vec())),
            opening: WITH_POSITION,
            expires_at: None,
            cut: Box::new(|| {}),
            tag: 0,
        })
    }

    /// Confirms what the hub requests to follow.
    async fn follow(&self) {
        for (subscription, request) in self.hub.source_requests(SourceKind::PubSub).await {
            if request == SourceRequest::Follow {
                self.hub.confirm(subscription.is_pattern, subscription.name.as_str());
            }
        }
        FIRST.set(self.hub.newest_number());
        self.hub.flush();
        settle().await;
    }

    async fn publish(&self, channel: &str, data: &'static str) {
        self.publish_all(&[(channel, data)]).await;
    }

    async fn publish_all(&self, events: &[(&str, &'static str)]) {
        for (channel, data) in events {
            self.hub.begin_message(channel.as_bytes(), None);
            self.hub.publish(false, channel, Instant::now(), |_| {
                Some(Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() })
            });
        }
        self.hub.end_message();
        self.hub.flush();
        settle().await;
    }
}

thread_local! {
    /// The number from which those of a test count.
    static FIRST: Cell<u64> = const { Cell::new(0) };
}

/// A frame of this many bytes.
pub(super) fn frame(bytes: usize) -> Frame {
    Frame::of_text("x".repeat(bytes).as_bytes())
}

fn topic(name: &str) -> Topic {
    let is_pattern = name.contains('*');
    Topic {
        subscription: Subscription { name: ChannelName::new(name).expect("a name"), is_pattern },
        format: Format::Raw,
        ids: Ids::Ours,
    }
}

/// A stream whose `ready` has the client's position.
const WITH_POSITION: StreamOpening =
    StreamOpening { is_continued: false, ready_has_position: true };

/// Lets the tasks run until none has anything to do: the clock is paused, and advances only then.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What is queued for a subscriber, with the run's tag as `R`, numbers from [`FIRST`] on, and without places.
fn read(subscriber: &Subscriber) -> String {
    let mut text = String::new();
    let context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(bytes)) = subscriber.poll_next(Form::Text, &context) {
        text += str::from_utf8(&bytes).expect("text");
    }
    text.lines()
        .map(|line| match line.strip_prefix("id: ").and_then(|id| id.split_once('-')) {
            Some((_, number)) => {
                let number = number.split('-').next().expect("a first part");
                let number: i64 = number.parse().expect("a number");
                format!("id: R-{}", number - FIRST.get().cast_signed())
            }
            None => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn id_of(test: &TestHub, number: u64) -> String {
    test.hub.run_tag().at(FIRST.get() + number).to_string()
}

fn run(test: impl Future<Output = ()>) {
    let runtime: LocalRuntime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(test);
}
