//! The request body on its way to the backend.
//!
//! [`Upload`] streams it, holds it back for `Expect: 100-continue`, bounds its size and its pauses,
//! and keeps a beginning of it for a retry. [`UploadMonitor`] follows its progress, and from that
//! the deadline for the response. Neither knows the connection.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::error::Failure;
use super::expect::ContinueGate;
use super::idle_timeout::IdleTimeout;
use super::trailers;
use crate::route::ProxySettings;
use crate::server::connection::BodyError;
use crate::server::interim::Interim;
use crate::server::request_body::RequestBody;

/// A request body, streamed; `None`: no body. If the client's body fails or times out, the request
/// to the backend fails too: it is never ended as if it were complete.
// Boxed: most requests have no body, and requests are moved often.
#[derive(Debug)]
pub(super) struct Upload(Option<Box<UploadState>>);

#[derive(Debug)]
struct UploadState {
    body: RequestBody,
    continue_gate: Option<ContinueGate>,
    // The client's body failed after the response head had arrived: the request stays unfinished.
    is_abandoned: bool,
    idle_timeout: IdleTimeout,
    // Octets left of max_body.
    remaining: u64,
    // What was read of the body, while the request may have to be retried.
    retry_buffer: Option<ReplayBuffer>,
    // After a rewind: what to send before the rest of the body.
    replay: ReplayBuffer,
    allows_underscores: bool,
    monitor: Rc<UploadMonitor>,
}

/// The beginning of a body, kept to be sent again.
#[derive(Debug, Default)]
struct ReplayBuffer {
    octets: BytesMut,
    // The trailers, if the body was read to its end and has some.
    trailers: Option<HeaderMap>,
    limit: usize,
}

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

#[derive(Clone, Copy, Debug)]
enum UploadStage {
    /// Waiting for the client to send more.
    AwaitingClient,
    /// Waiting for the backend to read more.
    AwaitingBackend,
    Complete,
    /// The client's body failed.
    Broken,
    /// The client's body is larger than `max_body`.
    TooLarge,
    /// The client sent nothing for `idle_timeout`.
    TimedOut,
}

impl Upload {
    pub(super) fn new(
        body: Option<RequestBody>,
        continue_gate: Option<ContinueGate>,
        interim: Interim,
        settings: &ProxySettings,
    ) -> (Self, Rc<UploadMonitor>) {
        let body = body.filter(|body| !body.is_end_stream());
        let stage =
            if body.is_none() { UploadStage::Complete } else { UploadStage::AwaitingBackend };
        let monitor = Rc::new(UploadMonitor {
            stage: Cell::new(stage),
            last_progress: Cell::new(Instant::now()),
            has_response: Cell::new(false),
            idle_timeout: settings.idle_timeout,
            response_timeout: settings.response_timeout,
            interim,
        });
        let state = body.map(|body| {
            let idle_timeout = IdleTimeout::new(settings.idle_timeout);
            let remaining = settings.max_body.unwrap_or(u64::MAX);
            Box::new(UploadState {
                body,
                continue_gate,
                is_abandoned: false,
                idle_timeout,
                remaining,
                retry_buffer: None,
                replay: ReplayBuffer::default(),
                allows_underscores: settings.allows_underscores,
                monitor: Rc::clone(&monitor),
            })
        });
        (Self(state), monitor)
    }

    /// A request without a body.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Whether there is no body.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Keeps up to `limit` octets of what is read from now on, so that the body can be sent again.
    pub(super) fn start_buffering(&mut self, limit: usize) {
        if let Some(state) = &mut self.0 {
            state.retry_buffer = Some(ReplayBuffer { limit, ..ReplayBuffer::default() });
        }
    }

    /// Rewinds to where [`Self::start_buffering`] was called. Returns `false` if more was read than
    /// was kept.
    pub(super) fn rewind(&mut self) -> bool {
        let Some(state) = &mut self.0 else { return true };
        let Some(retry_buffer) = &mut state.retry_buffer else { return false };
        let limit = retry_buffer.limit;
        // What an earlier rewind left unsent comes after it.
        let mut replay =
            std::mem::replace(retry_buffer, ReplayBuffer { limit, ..ReplayBuffer::default() });
        replay.octets.unsplit(std::mem::take(&mut state.replay.octets));
        replay.trailers = replay.trailers.or_else(|| state.replay.trailers.take());
        state.replay = replay;
        state.monitor.advance(UploadStage::AwaitingBackend);
        true
    }

    /// Drops what was kept: the body will not be sent again.
    pub(super) fn stop_buffering(&mut self) {
        if let Some(state) = &mut self.0 {
            state.retry_buffer = None;
        }
    }
}

impl ReplayBuffer {
    fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.trailers.is_none()
    }

    /// Adds a frame. Returns `false` if it does not fit.
    fn add(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            if self.octets.len() + data.len() > self.limit {
                return false;
            }
            self.octets.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }

    /// Takes the next frame to send.
    fn take(&mut self) -> Option<Frame<Bytes>> {
        if !self.octets.is_empty() {
            return Some(Frame::data(self.octets.split().freeze()));
        }
        self.trailers.take().map(Frame::trailers)
    }
}

impl UploadState {
    /// Whether the body is at its end.
    fn is_end(&self) -> bool {
        self.replay.is_empty() && self.body.is_end_stream()
    }

    /// Records a frame that goes to the backend, and returns it.
    fn record_sent(
        &mut self,
        frame: Frame<Bytes>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.retry_buffer.as_mut().is_none_or(|retry_buffer| retry_buffer.add(&frame)) {
            self.retry_buffer = None;
        }
        self.monitor.advance(if self.is_end() {
            UploadStage::Complete
        } else {
            UploadStage::AwaitingBackend
        });
        Poll::Ready(Some(Ok(frame)))
    }

    /// The client's body has failed. If the response head has arrived already, the request just
    /// stays unfinished: an error would make hyper abort the response.
    fn fail(
        &mut self,
        stage: UploadStage,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.monitor.stage.set(stage);
        if self.monitor.has_response.get() {
            self.is_abandoned = true;
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl UploadMonitor {
    fn advance(&self, stage: UploadStage) {
        self.stage.set(stage);
        self.last_progress.set(Instant::now());
    }

    /// The time at which the backend is considered too slow.
    fn deadline(&self) -> Instant {
        match self.stage.get() {
            // The client's own timeout is enforced where its body is polled.
            UploadStage::AwaitingClient
            | UploadStage::Broken
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
                    UploadStage::Complete => Failure::ResponseTimeout,
                    _ => Failure::UploadTimeout,
                });
            }
            timer.as_mut().reset(self.next_check());
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(this) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        if this.is_abandoned {
            return Poll::Pending;
        }
        if let Some(gate) = &mut this.continue_gate {
            ready!(gate.poll(cx));
            if this.monitor.has_response.get() {
                // The final response came without 100 (Continue): the body is not sent.
                return Poll::Pending;
            }
            this.continue_gate = None;
            this.idle_timeout.reset();
        }
        if let Some(frame) = this.replay.take() {
            return this.record_sent(frame);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                this.monitor.stage.set(UploadStage::AwaitingClient);
                if this.monitor.has_response.get() {
                    return Poll::Pending;
                }
                ready!(this.idle_timeout.poll(cx));
                this.body.abandon();
                this.fail(UploadStage::TimedOut, io::Error::from(io::ErrorKind::TimedOut).into())
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                this.idle_timeout.reset();
                if !trailers::filter(&mut frame, this.allows_underscores) {
                    this.monitor.advance(UploadStage::Complete);
                    return Poll::Ready(None);
                }
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(remaining) = this.remaining.checked_sub(length) else {
                    return this.fail(UploadStage::TooLarge, "the body is too large".into());
                };
                this.remaining = remaining;
                this.record_sent(frame)
            }
            Poll::Ready(Some(Err(error))) => this.fail(UploadStage::Broken, error),
            Poll::Ready(None) => {
                this.monitor.advance(UploadStage::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.is_end())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(state) = &self.0 else { return SizeHint::with_exact(0) };
        let replay = state.replay.octets.len() as u64;
        let rest = state.body.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(replay + rest),
            None => SizeHint::default(),
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
                matches!(failure, Some(Failure::ResponseTimeout | Failure::UploadTimeout)),
                "{stage:?}: {failure:?}"
            );
            assert_eq!(began.elapsed().as_secs(), 3, "{stage:?}");
        }
    }
}
