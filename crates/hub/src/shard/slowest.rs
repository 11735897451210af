//! The readers of a shard that are furthest behind, for whoever looks at the gateway.
//!
//! Nothing is kept for this: a stream's queue says it. All streams are gone through in slices, and the shard
//! delivers events between two of them. While no queue holds anything, nothing is gone through.

use std::time::Duration;

use tokio::time::Instant;

use super::Shard;
use super::local_channel::OpenStream;
use crate::Topic;
use crate::top_list::TopList;

/// How many streams are looked at before the shard does something else: some microseconds.
const SLICE: usize = 512;

/// A stream whose client reads slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStream {
    /// The tag with which the stream was opened.
    pub tag: u64,
    /// Bytes of events that wait to be written.
    pub queued_bytes: usize,
    /// The number of its channels.
    pub channels: usize,
    /// How long the first of what waits was received ago.
    pub behind: Duration,
}

impl Shard {
    /// Returns the `max` streams that are furthest behind, the slowest first; of those only that are as far behind
    /// as `at_least`: an event waits in every queue for a moment.
    pub async fn slowest(&self, max: usize, at_least: Duration) -> Vec<SlowStream> {
        let mut top = TopList::new(max);
        let mut next = (self.0.queued_bytes.get() > 0).then_some(0);
        while let Some(first) = next {
            let now = Instant::now();
            next = self.0.streams.visit_slice(first, SLICE, |stream| {
                let slow = SlowStream::of(stream, now);
                if let Some(slow) = slow.filter(|slow| slow.behind >= at_least) {
                    let behind = u64::try_from(slow.behind.as_micros()).unwrap_or(u64::MAX);
                    top.offer(behind, || slow);
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
    /// `None` while nothing waits to be written, and once it is closed.
    fn of(stream: &OpenStream, now: Instant) -> Option<Self> {
        let queue = stream.mailbox.queue();
        let first = queue.first().filter(|_| queue.bytes() > 0)?;
        Some(Self {
            tag: stream.tag,
            queued_bytes: queue.bytes(),
            channels: stream.channel_count(),
            behind: now.saturating_duration_since(first.received),
        })
    }
}
