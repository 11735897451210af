//! The readers of a shard that are furthest behind, for operators who inspect the gateway.
//!
//! Nothing is kept for this: the queue of a stream shows it. All streams are examined in slices, and the
//! shard delivers events between two of them. While no queue holds anything, no stream is examined.

use std::time::Duration;

use tokio::time::Instant;

use super::Shard;
use super::local_channel::OpenStream;
use crate::Topic;
use crate::top_list::TopList;

/// How many streams are examined before the shard does something else: some microseconds.
const SLICE: usize = 512;

/// A stream whose client reads slowly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowStream {
    /// The tag with which the stream was opened.
    pub tag: u64,
    /// Bytes of events that wait to be written.
    pub queued_bytes: usize,
    /// Its first channel; `None` where it has none.
    pub channel: Option<Topic>,
    /// The number of its channels.
    pub channels: usize,
    /// How long the first of what waits was received ago.
    pub behind: Duration,
}

impl Shard {
    /// Returns the `max` streams that are furthest behind, the slowest first. Only streams that are at least
    /// `at_least` behind: an event waits in every queue for a moment.
    pub async fn slowest(&self, max: usize, at_least: Duration) -> Vec<SlowStream> {
        let mut top = TopList::new(max);
        let mut next = (self.0.queued_bytes.get() > 0).then_some(0);
        while let Some(first) = next {
            let now = Instant::now();
            next = self.0.streams.visit_slice(first, SLICE, |stream| {
                let behind = behind(stream, now);
                if let Some(behind) = behind.filter(|behind| *behind >= at_least) {
                    let rank = u64::try_from(behind.as_micros()).unwrap_or(u64::MAX);
                    top.offer(rank, || SlowStream::new(stream, behind));
                }
            });
            tokio::task::yield_now().await;
        }
        top.into_items().collect()
    }

    /// How many streams of this shard have the channel.
    pub fn readers(&self, topic: &Topic) -> usize {
        let channels = self.0.channels.borrow();
        channels.get(topic).map_or(0, |channel| channel.subscribers.borrow().len())
    }
}

impl SlowStream {
    fn new(stream: &OpenStream, behind: Duration) -> Self {
        Self {
            tag: stream.tag,
            queued_bytes: stream.mailbox.queue().bytes(),
            channel: stream.first_topic(),
            channels: stream.channel_count(),
            behind,
        }
    }
}

/// How long the first of what waits was received ago; `None` while nothing waits to be written, and once it is closed.
fn behind(stream: &OpenStream, now: Instant) -> Option<Duration> {
    let queue = stream.mailbox.queue();
    let first = queue.first().filter(|_| queue.bytes() > 0)?;
    Some(now.saturating_duration_since(first.received))
}
