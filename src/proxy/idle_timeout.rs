//! The idle timeout between two frames of a body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Limits the time that the reader of a body waits for the next frame. While frames arrive it sets
/// no timer. The time starts when the reader polls: as long as nothing polls, because the other
/// side does not read or there is no connection yet, the sender is not late.
#[derive(Debug)]
pub(super) struct IdleTimeout {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleTimeout {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// A frame has arrived.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }

    /// Ready when nothing has arrived for the limit. Poll it while the body is pending.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        // The timer is not reset with each frame: it may fire early, and is set again here.
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::IdleTimeout;

    #[tokio::test(start_paused = true)]
    async fn the_time_starts_when_the_reader_polls() {
        let limit = Duration::from_secs(3);
        let mut timeout = IdleTimeout::new(limit);
        for _ in 0..2 {
            advance(5 * limit).await; // not polled
            let mut context = Context::from_waker(Waker::noop());
            assert!(timeout.poll(&mut context).is_pending());
            advance(limit / 2).await;
            assert!(timeout.poll(&mut context).is_pending());
            timeout.reset();
        }
        let began = Instant::now();
        poll_fn(|cx| timeout.poll(cx)).await;
        assert_eq!(began.elapsed().as_secs(), limit.as_secs());
    }
}
