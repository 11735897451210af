//! Whether the backend is still there while requests wait for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// While requests run, a PING is sent when nothing has arrived for this long; unanswered for as long
/// again, it ends the connection.
pub(super) const PING: Duration = Duration::from_secs(20);

/// Watches one connection. It has a timer only while requests run.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: Instant,
    pinged: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    /// The PING was not answered.
    End,
}

impl Liveness {
    pub(super) fn new() -> Self {
        Self { heard: Instant::now(), pinged: None, timer: None }
    }

    /// Something has arrived.
    pub(super) fn heard(&mut self) {
        (self.heard, self.pinged) = (Instant::now(), None);
    }

    /// Asks now whether the backend is still there; returns whether a PING is to be sent. It is not
    /// while another one waits for its ACK.
    pub(super) fn probe(&mut self) -> bool {
        if self.pinged.is_some() {
            return false;
        }
        (self.pinged, self.timer) = (Some(Instant::now()), None);
        true
    }

    /// Ready when something is due. `is_busy`: requests run.
    pub(super) fn poll(&mut self, is_busy: bool, cx: &mut Context<'_>) -> Poll<Due> {
        if !is_busy {
            (self.timer, self.pinged) = (None, None);
            return Poll::Pending;
        }
        if self.timer.is_none() {
            // Until now nothing was expected.
            self.heard = Instant::now();
        }
        loop {
            let due = self.pinged.unwrap_or(self.heard) + PING;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() < due {
                // It was set before something arrived.
                timer.as_mut().reset(due);
            } else if self.pinged.is_some() {
                return Poll::Ready(Due::End);
            } else {
                self.pinged = Some(Instant::now());
                return Poll::Ready(Due::Ping);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::time::{Instant, advance, timeout};

    use super::{Due, Liveness, PING};

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_says_nothing_is_pinged_and_then_given_up() {
        let (mut liveness, start) = (Liveness::new(), Instant::now());
        let mut due = async || poll_fn(|cx| liveness.poll(true, cx)).await;
        assert_eq!(due().await, Due::Ping);
        assert_eq!(start.elapsed().as_secs(), PING.as_secs());
        assert_eq!(due().await, Due::End);
        assert_eq!(start.elapsed().as_secs(), 2 * PING.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_is_probed_is_given_up_when_it_does_not_answer_that() {
        let (mut liveness, start) = (Liveness::new(), Instant::now());
        assert!(liveness.probe() && !liveness.probe());
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, Due::End);
        assert_eq!(start.elapsed().as_secs(), PING.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_arrives_is_an_answer() {
        let mut liveness = Liveness::new();
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, Due::Ping);
        advance(PING / 2).await;
        liveness.heard();
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, Due::Ping);
        assert_eq!(start.elapsed().as_secs(), PING.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_left_alone_and_the_next_request_has_its_time() {
        let mut liveness = Liveness::new();
        assert!(
            timeout(Duration::from_secs(1), poll_fn(|cx| liveness.poll(true, cx))).await.is_err()
        );
        assert!(timeout(10 * PING, poll_fn(|cx| liveness.poll(false, cx))).await.is_err());
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, Due::Ping);
        assert_eq!(start.elapsed().as_secs(), PING.as_secs());
        let Poll::Pending = poll_fn(|cx| Poll::Ready(liveness.poll(true, cx))).await else {
            panic!("due twice");
        };
    }
}
