//! The request body on its way to the backend.
//!
//! [`Upload`] streams it, holds it back for `Expect: 100-continue`, bounds its size and its pauses,
//! and keeps a beginning of it for a retry. Does not know the connection.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::expect::ContinueGate;
use super::idle_timeout::IdleTimeout;
use super::replay_buffer::ReplayBuffer;
use super::trailers;
use super::upload_monitor::{UploadMonitor, UploadStage};
use crate::route::{ProxySettings, ReservedHeaders};
use crate::server::connection::{BodyError, has_client_left};
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
    // Fields that only the gateway may send.
    reserved: ReservedHeaders,
    monitor: Rc<UploadMonitor>,
}

impl Upload {
    pub(super) fn new(
        body: Option<(RequestBody, &ReservedHeaders)>,
        continue_gate: Option<ContinueGate>,
        interim: Interim,
        settings: &ProxySettings,
    ) -> (Self, Rc<UploadMonitor>) {
        let body = body.filter(|(body, _)| !body.is_end_stream());
        let stage =
            if body.is_none() { UploadStage::Complete } else { UploadStage::AwaitingBackend };
        let monitor = Rc::new(UploadMonitor::new(stage, interim, settings));
        let state = body.map(|(body, reserved)| {
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
                reserved: reserved.clone(),
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
            state.retry_buffer = Some(ReplayBuffer::new(limit));
        }
    }

    /// Rewinds to where [`Self::start_buffering`] was called. Returns `false` if more was read than
    /// was kept.
    pub(super) fn rewind(&mut self) -> bool {
        let Some(state) = &mut self.0 else { return true };
        let Some(retry_buffer) = &mut state.retry_buffer else { return false };
        // What an earlier rewind left unsent comes after it.
        state.replay = retry_buffer.rewind(&mut state.replay);
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
        // Trailers are the last frame: hyper does not poll behind them.
        self.monitor.advance(if frame.is_trailers() || self.is_end() {
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
        self.monitor.set_stage(stage);
        if self.monitor.has_response() {
            self.is_abandoned = true;
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(error)))
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
            if this.monitor.has_response() {
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
                this.monitor.set_stage(UploadStage::AwaitingClient);
                if this.monitor.has_response() {
                    return Poll::Pending;
                }
                ready!(this.idle_timeout.poll(cx));
                this.body.abandon();
                this.fail(UploadStage::TimedOut, io::Error::from(io::ErrorKind::TimedOut).into())
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                this.idle_timeout.reset();
                if let Some(trailers) = frame.trailers_mut() {
                    this.reserved.strip(trailers);
                }
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
            Poll::Ready(Some(Err(error))) => {
                let is_left = has_client_left(&*error);
                this.fail(if is_left { UploadStage::Left } else { UploadStage::Broken }, error)
            }
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
        let replay = state.replay.len() as u64;
        let rest = state.body.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(replay + rest),
            None => SizeHint::default(),
        }
    }
}
