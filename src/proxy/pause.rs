//! How long a body has been waiting for its next piece.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A limit for the pauses of one body. While pieces come it costs no timer. A pause begins when the next
/// piece is waited for: as long as nobody reads, because the other side takes nothing or there is no
/// connection yet, the sender is not late.
#[derive(Debug)]
pub(super) struct Pause {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// A piece has come.
    pub(super) fn over(&mut self) {
        self.since = None;
    }

    /// Ready when the pause is too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        // It may have been set before the last piece.
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

    use super::Pause;

    #[tokio::test(start_paused = true)]
    async fn a_pause_begins_when_a_piece_is_waited_for() {
        let limit = Duration::from_secs(3);
        let mut pause = Pause::new(limit);
        for _ in 0..2 {
            advance(5 * limit).await; // nobody reads
            let mut context = Context::from_waker(Waker::noop());
            assert!(pause.poll(&mut context).is_pending());
            advance(limit / 2).await;
            assert!(pause.poll(&mut context).is_pending());
            pause.over();
        }
        let began = Instant::now();
        poll_fn(|cx| pause.poll(cx)).await;
        assert_eq!(began.elapsed().as_secs(), limit.as_secs());
    }
}
