//! How far a request body has got, and from that the deadline for the response.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Failure;
use crate::route::ProxySettings;
use crate::server::interim::Interim;

/// The progress of an upload, shared with the task that waits for the response.
#[derive(Debug)]
pub(super) struct UploadMonitor {
    stage: Cell<UploadStage>,
    last_progress: Cell<Instant>,
    has_response: Cell<bool>,
    idle_timeout: Duration,
    response_timeout: Duration,
    interim: Interim,
}

/// How far a body has got.
#[derive(Clone, Copy, Debug)]
pub(super) enum UploadStage {
    /// Waiting for the client to send more.
    AwaitingClient,
    /// Waiting for the backend to read more.
    AwaitingBackend,
    Complete,
    /// The client's body failed.
    Broken,
    /// The client left in the middle of its body.
    Left,
    /// The client's body is larger than `max_body`.
    TooLarge,
    /// The client sent nothing for `idle_timeout`.
    TimedOut,
}

impl UploadMonitor {
    /// An upload at this stage. Interim responses of the backend go to `interim`.
    pub(super) fn new(stage: UploadStage, interim: Interim, settings: &ProxySettings) -> Self {
        Self {
            stage: Cell::new(stage),
            last_progress: Cell::new(Instant::now()),
            has_response: Cell::new(false),
            idle_timeout: settings.idle_timeout,
            response_timeout: settings.response_timeout,
            interim,
        }
    }

    /// Sets the stage. Not progress: the deadline stays.
    pub(super) fn set_stage(&self, stage: UploadStage) {
        self.stage.set(stage);
    }

    /// Whether the head of the response has arrived.
    pub(super) fn has_response(&self) -> bool {
        self.has_response.get()
    }

    /// Records progress to this stage.
    pub(super) fn advance(&self, stage: UploadStage) {
        self.stage.set(stage);
        self.last_progress.set(Instant::now());
    }

    /// The time at which the backend is considered too slow.
    fn deadline(&self) -> Instant {
        match self.stage.get() {
            // The client's own timeout is enforced where its body is polled.
            UploadStage::AwaitingClient
            | UploadStage::Broken
            | UploadStage::Left
            | UploadStage::TooLarge
            | UploadStage::TimedOut => Instant::now() + self.idle_timeout,
            UploadStage::AwaitingBackend => self.last_progress.get() + self.idle_timeout,
            UploadStage::Complete => self.last_progress.get() + self.response_timeout,
        }
    }

    /// When to check the deadline again. It moves as the upload proceeds; at the end of the upload
    /// it may also move closer.
    fn next_check(&self) -> Instant {
        self.deadline().min(Instant::now() + self.response_timeout)
    }

    /// The failure of the client's body, if it has failed.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.stage.get() {
            UploadStage::Broken => Some(Failure::BrokenRequest),
            UploadStage::Left => Some(Failure::ClientLeft),
            UploadStage::TooLarge => Some(Failure::LargeRequest),
            UploadStage::TimedOut => Some(Failure::SlowRequest),
            UploadStage::AwaitingClient | UploadStage::AwaitingBackend | UploadStage::Complete => {
                None
            }
        }
    }

    /// Where interim responses are sent.
    pub(super) fn interim(&self) -> &Interim {
        &self.interim
    }

    /// Whether the whole body has been handed to the connection.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.stage.get(), UploadStage::Complete)
    }

    /// Waits for the response, until the deadline.
    ///
    /// # Errors
    /// The backend read nothing for `idle_timeout`, or sent no response head within
    /// `response_timeout` of the end of the request.
    pub(super) async fn await_response<T>(
        &self,
        response: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        // The clock starts now, not when the request arrived: waiting for a connection, and earlier
        // attempts of a retried request, do not count.
        self.has_response.set(false);
        self.last_progress.set(Instant::now());
        let mut response = pin!(response);
        let mut timer = pin!(tokio::time::sleep_until(self.next_check()));
        loop {
            tokio::select! {
                biased;
                response = &mut response => {
                    self.has_response.set(true);
                    return Ok(response);
                }
                () = &mut timer => {}
            }
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return Err(match self.stage.get() {
                    UploadStage::Complete => Failure::ResponseTimeout(self.response_timeout),
                    _ => Failure::UploadTimeout(self.idle_timeout),
                });
            }
            timer.as_mut().reset(self.next_check());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::{Instant, advance, sleep};

    use super::{Failure, UploadMonitor, UploadStage};
    use crate::server::interim::Interim;

    #[tokio::test(start_paused = true)]
    async fn the_response_timeout_starts_when_the_request_is_sent() {
        for stage in [UploadStage::Complete, UploadStage::AwaitingBackend] {
            let monitor = UploadMonitor {
                stage: Cell::new(stage),
                last_progress: Cell::new(Instant::now()),
                has_response: Cell::new(false),
                idle_timeout: Duration::from_secs(3),
                response_timeout: Duration::from_secs(3),
                interim: Interim::default(),
            };
            for _ in 0..2 {
                advance(Duration::from_secs(5)).await; // another upstream was unreachable
                let response = monitor.await_response(sleep(Duration::from_secs(2)));
                assert!(response.await.is_ok(), "{stage:?}");
            }
            let began = Instant::now();
            let failure = monitor.await_response(sleep(Duration::from_secs(4))).await.err();
            assert!(
                matches!(failure, Some(Failure::ResponseTimeout(_) | Failure::UploadTimeout(_))),
                "{stage:?}: {failure:?}"
            );
            assert_eq!(began.elapsed().as_secs(), 3, "{stage:?}");
        }
    }
}
