//! Streams whose reader has all of its response, while the backend has not ended the stream.
//!
//! A response without content is complete with its head, but some backends end the stream in a later
//! frame: a handler in Go that writes its head, flushes it and works on. A RST_STREAM would cancel that
//! work. Such a stream is kept for a short time; one that would never end, such as a HEAD of an event
//! stream, is then cancelled. Does not know frames.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long such a stream is kept.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// The maximum number of such streams on one connection. With [`LINGER_TIME`] it bounds their
/// cancellations to 16 per second: together with the 10 that the
/// [`ResetBucket`](super::reset_bucket::ResetBucket) allows, fewer than the 33 that Node does.
const MAX_LINGERING: usize = 16;
/// At most this part of the backend's concurrent streams may linger: the others are for requests.
const STREAM_SHARE: usize = 4;

/// The lingering streams of one connection, with the times when they are cancelled.
#[derive(Debug, Default)]
pub(super) struct LingeringStreams {
    // In the order in which they are due.
    streams: VecDeque<(u32, Instant)>,
    // Set once, and then moved to the next time: it may wake the task where no stream is due.
    timer: Option<Pin<Box<Sleep>>>,
}

impl LingeringStreams {
    /// Keeps a stream; returns `false` if there are too many. `max_streams`: how many streams the
    /// backend allows.
    pub(super) fn add(&mut self, id: u32, now: Instant, max_streams: usize) -> bool {
        // The new one is cancelled at once, not the oldest: otherwise the rate had no bound.
        let most = MAX_LINGERING.min((max_streams / STREAM_SHARE).max(1));
        if self.streams.len() >= most {
            return false;
        }
        self.streams.push_back((id, now + LINGER_TIME));
        true
    }

    /// Whether this stream is kept.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.streams.iter().any(|(lingering, _)| *lingering == id)
    }

    /// Removes a stream that has ended.
    pub(super) fn remove(&mut self, id: u32) {
        self.streams.retain(|(lingering, _)| *lingering != id);
    }

    /// Ready with a stream that is to be cancelled.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<u32> {
        let Some(&(id, due)) = self.streams.front() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                self.streams.pop_front();
                return Poll::Ready(id);
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, advance};

    use super::{LINGER_TIME, LingeringStreams, MAX_LINGERING};

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_cancelled_after_its_time_and_not_once_it_has_ended() {
        let (mut lingering, start) = (LingeringStreams::default(), Instant::now());
        assert!(lingering.add(1, start, 100) && lingering.add(3, start, 100));
        advance(LINGER_TIME / 2).await;
        assert!(lingering.add(5, Instant::now(), 100));
        lingering.remove(3);
        assert_eq!(poll_fn(|cx| lingering.poll_due(cx)).await, 1);
        assert!(start.elapsed() >= LINGER_TIME && start.elapsed() < LINGER_TIME * 3 / 2);
        assert_eq!(poll_fn(|cx| lingering.poll_due(cx)).await, 5);
        assert!(start.elapsed() >= LINGER_TIME * 3 / 2);
    }

    #[test]
    fn lingering_streams_are_bounded() {
        for (max_streams, most) in [(0, 1), (1, 1), (8, 2), (100, MAX_LINGERING)] {
            let (mut lingering, now) = (LingeringStreams::default(), Instant::now());
            let kept = (0..100).filter(|&id| lingering.add(id, now, max_streams)).count();
            assert_eq!(kept, most, "{max_streams}");
        }
    }
}
