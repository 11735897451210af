//! Detects a dead connection with PING while requests are open.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// While requests are open, a PING is sent when nothing has arrived for this long; without an ACK
/// for as long again, the connection is closed.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The liveness check of one connection. Sets a timer only while requests are open.
#[derive(Debug)]
pub(super) struct Liveness {
    last_arrival: Instant,
    pinged_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What the connection task must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessAction {
    Ping,
    /// Close the connection: no PING ACK arrived.
    Close,
}

impl Liveness {
    pub(super) fn new() -> Self {
        Self { last_arrival: Instant::now(), pinged_at: None, timer: None }
    }

    /// Records that data has arrived.
    pub(super) fn record_arrival(&mut self) {
        (self.last_arrival, self.pinged_at) = (Instant::now(), None);
    }

    /// Starts a check now; returns whether to send a PING. Returns `false` while an earlier PING
    /// awaits its ACK.
    pub(super) fn probe(&mut self) -> bool {
        if self.pinged_at.is_some() {
            return false;
        }
        (self.pinged_at, self.timer) = (Some(Instant::now()), None);
        true
    }

    /// Ready when an action is due. `is_busy`: data is expected from the backend.
    pub(super) fn poll(&mut self, is_busy: bool, cx: &mut Context<'_>) -> Poll<LivenessAction> {
        if !is_busy {
            (self.timer, self.pinged_at) = (None, None);
            return Poll::Pending;
        }
        if self.timer.is_none() {
            // The connection was idle: the time starts now.
            self.last_arrival = Instant::now();
        }
        loop {
            let due = self.pinged_at.unwrap_or(self.last_arrival) + PING_INTERVAL;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() < due {
                // The timer was set before data arrived.
                timer.as_mut().reset(due);
            } else if self.pinged_at.is_some() {
                return Poll::Ready(LivenessAction::Close);
            } else {
                self.pinged_at = Some(Instant::now());
                return Poll::Ready(LivenessAction::Ping);
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

    use super::{Liveness, LivenessAction, PING_INTERVAL};

    #[tokio::test(start_paused = true)]
    async fn a_silent_backend_gets_a_ping_and_then_the_connection_is_closed() {
        let (mut liveness, start) = (Liveness::new(), Instant::now());
        let mut due = async || poll_fn(|cx| liveness.poll(true, cx)).await;
        assert_eq!(due().await, LivenessAction::Ping);
        assert_eq!(start.elapsed().as_secs(), PING_INTERVAL.as_secs());
        assert_eq!(due().await, LivenessAction::Close);
        assert_eq!(start.elapsed().as_secs(), 2 * PING_INTERVAL.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_ack_closes_the_connection() {
        let (mut liveness, start) = (Liveness::new(), Instant::now());
        assert!(liveness.probe() && !liveness.probe());
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, LivenessAction::Close);
        assert_eq!(start.elapsed().as_secs(), PING_INTERVAL.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn any_data_counts_as_a_sign_of_life() {
        let mut liveness = Liveness::new();
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, LivenessAction::Ping);
        advance(PING_INTERVAL / 2).await;
        liveness.record_arrival();
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, LivenessAction::Ping);
        assert_eq!(start.elapsed().as_secs(), PING_INTERVAL.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_gets_no_ping_and_the_next_request_restarts_the_timer() {
        let mut liveness = Liveness::new();
        assert!(
            timeout(Duration::from_secs(1), poll_fn(|cx| liveness.poll(true, cx))).await.is_err()
        );
        assert!(timeout(10 * PING_INTERVAL, poll_fn(|cx| liveness.poll(false, cx))).await.is_err());
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| liveness.poll(true, cx)).await, LivenessAction::Ping);
        assert_eq!(start.elapsed().as_secs(), PING_INTERVAL.as_secs());
        let Poll::Pending = poll_fn(|cx| Poll::Ready(liveness.poll(true, cx))).await else {
            panic!("due twice");
        };
    }
}
