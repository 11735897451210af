//! The request body on its way to the backend.
//!
//! [`Upload`] streams it, holds it back for `Expect: 100-continue`, bounds its size and its pauses,
//! and keeps a beginning of it for a retry. [`Watch`] follows its progress, and from that the
//! deadline for the response. Neither knows the connection.

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
use super::expect::Hold;
use super::pause::Pause;
use super::trailers;
use crate::route::ProxySettings;
use crate::server::connection::BodyError;
use crate::server::interim::Interim;
use crate::server::request_body::RequestBody;

/// A request body, streamed; `None`: no body. If the client's body fails or times out, the request
/// to the backend fails too: it is never ended as if it were complete.
// Boxed: most requests have no body, and requests are moved often.
#[derive(Debug)]
pub(super) struct Upload(Option<Box<Sending>>);

#[derive(Debug)]
struct Sending {
    body: RequestBody,
    hold: Option<Hold>,
    // The client's body failed after the response head had arrived: the request stays unfinished.
    is_given_up: bool,
    pause: Pause,
    // Octets left of max_body.
    left: u64,
    // What was read of the body, while the request may have to be sent again.
    kept: Option<Kept>,
    // After a rewind: what to send before the rest of the body.
    again: Kept,
    allows_underscores: bool,
    watch: Rc<Watch>,
}

/// The beginning of a body, kept to be sent again.
#[derive(Debug, Default)]
struct Kept {
    octets: BytesMut,
    // The trailers, if the body was read to its end and has some.
    trailers: Option<HeaderMap>,
    most: usize,
}

/// The progress of an upload, shared with the task that waits for the response.
#[derive(Debug)]
pub(super) struct Watch {
    stage: Cell<Stage>,
    moved: Cell<Instant>,
    is_answered: Cell<bool>,
    idle_timeout: Duration,
    response_timeout: Duration,
    interim: Interim,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Waiting for the client to send more.
    Client,
    /// Waiting for the backend to read more.
    Backend,
    Complete,
    /// The client's body failed.
    Broken,
    /// The client's body is larger than `max_body`.
    Large,
    /// The client sent nothing for `idle_timeout`.
    Slow,
}

impl Upload {
    pub(super) fn new(
        body: Option<RequestBody>,
        hold: Option<Hold>,
        interim: Interim,
        settings: &ProxySettings,
    ) -> (Self, Rc<Watch>) {
        let body = body.filter(|body| !body.is_end_stream());
        let stage = if body.is_none() { Stage::Complete } else { Stage::Backend };
        let watch = Rc::new(Watch {
            stage: Cell::new(stage),
            moved: Cell::new(Instant::now()),
            is_answered: Cell::new(false),
            idle_timeout: settings.idle_timeout,
            response_timeout: settings.response_timeout,
            interim,
        });
        let sending = body.map(|body| {
            let pause = Pause::new(settings.idle_timeout);
            let left = settings.max_body.unwrap_or(u64::MAX);
            Box::new(Sending {
                body,
                hold,
                is_given_up: false,
                pause,
                left,
                kept: None,
                again: Kept::default(),
                allows_underscores: settings.allows_underscores,
                watch: Rc::clone(&watch),
            })
        });
        (Self(sending), watch)
    }

    /// A request without a body.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Whether there is no body.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Keeps up to `most` octets of what is read from now on, so that the body can be sent again.
    pub(super) fn keep(&mut self, most: usize) {
        if let Some(sending) = &mut self.0 {
            sending.kept = Some(Kept { most, ..Kept::default() });
        }
    }

    /// Rewinds to where [`Self::keep`] was called. Returns `false` if more was read than could be
    /// kept.
    pub(super) fn rewind(&mut self) -> bool {
        let Some(sending) = &mut self.0 else { return true };
        let Some(kept) = &mut sending.kept else { return false };
        let most = kept.most;
        // What an earlier rewind left unsent comes after it.
        let mut again = std::mem::replace(kept, Kept { most, ..Kept::default() });
        again.octets.unsplit(std::mem::take(&mut sending.again.octets));
        again.trailers = again.trailers.or_else(|| sending.again.trailers.take());
        sending.again = again;
        sending.watch.moved(Stage::Backend);
        true
    }

    /// Drops what was kept: the body will not be sent again.
    pub(super) fn forget(&mut self) {
        if let Some(sending) = &mut self.0 {
            sending.kept = None;
        }
    }
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.trailers.is_none()
    }

    /// Adds a frame. Returns `false` if it does not fit.
    fn add(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            if self.octets.len() + data.len() > self.most {
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

impl Sending {
    /// Whether the body is at its end.
    fn is_end(&self) -> bool {
        self.again.is_empty() && self.body.is_end_stream()
    }

    /// Records a frame that goes to the backend, and returns it.
    fn sent(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.kept.as_mut().is_none_or(|kept| kept.add(&frame)) {
            self.kept = None;
        }
        self.watch.moved(if self.is_end() { Stage::Complete } else { Stage::Backend });
        Poll::Ready(Some(Ok(frame)))
    }

    /// The client's body has failed. If the response head has arrived already, the request just
    /// stays unfinished: an error would make hyper abort the response.
    fn broke(
        &mut self,
        stage: Stage,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.watch.stage.set(stage);
        if self.watch.is_answered.get() {
            self.is_given_up = true;
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Watch {
    fn moved(&self, stage: Stage) {
        self.stage.set(stage);
        self.moved.set(Instant::now());
    }

    /// The time at which the backend is considered too slow.
    fn deadline(&self) -> Instant {
        match self.stage.get() {
            // The client's own timeout is enforced where its body is polled.
            Stage::Client | Stage::Broken | Stage::Large | Stage::Slow => {
                Instant::now() + self.idle_timeout
            }
            Stage::Backend => self.moved.get() + self.idle_timeout,
            Stage::Complete => self.moved.get() + self.response_timeout,
        }
    }

    /// When to check the deadline again. It moves as the upload proceeds; at the end of the upload
    /// it may also move closer.
    fn next_look(&self) -> Instant {
        self.deadline().min(Instant::now() + self.response_timeout)
    }

    /// The failure of the client's body, if it has failed.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.stage.get() {
            Stage::Broken => Some(Failure::BrokenRequest),
            Stage::Large => Some(Failure::LargeRequest),
            Stage::Slow => Some(Failure::SlowRequest),
            Stage::Client | Stage::Backend | Stage::Complete => None,
        }
    }

    /// Where interim responses are sent.
    pub(super) fn interim(&self) -> &Interim {
        &self.interim
    }

    /// Whether the whole body has been handed to the connection.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.stage.get(), Stage::Complete)
    }

    /// Waits for the response, until the deadline.
    ///
    /// # Errors
    /// The backend read nothing for `idle_timeout`, or sent no response head within
    /// `response_timeout` of the end of the request.
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = T>) -> Result<T, Failure> {
        // The clock starts now, not when the request arrived: waiting for a connection, and earlier
        // attempts of a retried request, do not count.
        self.is_answered.set(false);
        self.moved.set(Instant::now());
        let mut answer = pin!(answer);
        let mut timer = pin!(tokio::time::sleep_until(self.next_look()));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    self.is_answered.set(true);
                    return Ok(answer);
                }
                () = &mut timer => {}
            }
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return Err(match self.stage.get() {
                    Stage::Complete => Failure::ResponseTimeout,
                    _ => Failure::UploadTimeout,
                });
            }
            timer.as_mut().reset(self.next_look());
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
        if this.is_given_up {
            return Poll::Pending;
        }
        if let Some(hold) = &mut this.hold {
            ready!(hold.poll(cx));
            if this.watch.is_answered.get() {
                // The final response came without 100 (Continue): the body is not sent.
                return Poll::Pending;
            }
            this.hold = None;
            this.pause.over();
        }
        if let Some(frame) = this.again.take() {
            return this.sent(frame);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                this.watch.stage.set(Stage::Client);
                if this.watch.is_answered.get() {
                    return Poll::Pending;
                }
                ready!(this.pause.poll(cx));
                this.body.give_up();
                this.broke(Stage::Slow, io::Error::from(io::ErrorKind::TimedOut).into())
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                this.pause.over();
                if !trailers::screen(&mut frame, this.allows_underscores) {
                    this.watch.moved(Stage::Complete);
                    return Poll::Ready(None);
                }
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = this.left.checked_sub(length) else {
                    return this.broke(Stage::Large, "the body is too large".into());
                };
                this.left = left;
                this.sent(frame)
            }
            Poll::Ready(Some(Err(error))) => this.broke(Stage::Broken, error),
            Poll::Ready(None) => {
                this.watch.moved(Stage::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|sending| sending.is_end())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(sending) = &self.0 else { return SizeHint::with_exact(0) };
        let again = sending.again.octets.len() as u64;
        let rest = sending.body.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(again + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::{Instant, advance, sleep};

    use super::{Failure, Stage, Watch};
    use crate::server::interim::Interim;

    #[tokio::test(start_paused = true)]
    async fn the_response_timeout_starts_when_the_request_is_sent() {
        for stage in [Stage::Complete, Stage::Backend] {
            let watch = Watch {
                stage: Cell::new(stage),
                moved: Cell::new(Instant::now()),
                is_answered: Cell::new(false),
                idle_timeout: Duration::from_secs(3),
                response_timeout: Duration::from_secs(3),
                interim: Interim::default(),
            };
            for _ in 0..2 {
                advance(Duration::from_secs(5)).await; // another upstream was unreachable
                let answer = watch.answer(sleep(Duration::from_secs(2)));
                assert!(answer.await.is_ok(), "{stage:?}");
            }
            let began = Instant::now();
            let failure = watch.answer(sleep(Duration::from_secs(4))).await.err();
            assert!(
                matches!(failure, Some(Failure::ResponseTimeout | Failure::UploadTimeout)),
                "{stage:?}: {failure:?}"
            );
            assert_eq!(began.elapsed().as_secs(), 3, "{stage:?}");
        }
    }
}
