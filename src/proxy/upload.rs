//! The body of a request on its way to the backend.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::error::Failure;
use super::expect::Hold;
use super::pause::Pause;
use crate::route::ProxySettings;
use crate::server::connection::BodyError;
use crate::server::request_body::RequestBody;

/// What the client sends, as it comes; `None`: nothing. Where it breaks, or does not come, the
/// request to the backend breaks too: it is never ended as if it were complete.
// Boxed: most requests have no body, and are moved often.
#[derive(Debug)]
pub(super) struct Upload(Option<Box<Sending>>);

#[derive(Debug)]
struct Sending {
    body: RequestBody,
    hold: Option<Hold>,
    pause: Pause,
    // Bytes that may still come.
    left: u64,
    watch: Rc<Watch>,
}

/// How far an upload has come, for the one who waits for the answer.
#[derive(Debug)]
pub(super) struct Watch {
    stage: Cell<Stage>,
    moved: Cell<Instant>,
    is_answered: Cell<bool>,
    idle_timeout: Duration,
    response_timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The client is to send more.
    Client,
    /// The backend is to take more.
    Backend,
    Complete,
    /// The client's body broke.
    Broken,
    /// The client's body is too large.
    Large,
    /// The client's body did not come.
    Slow,
}

impl Upload {
    pub(super) fn new(
        body: Option<RequestBody>,
        hold: Option<Hold>,
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
        });
        let sending = body.map(|body| {
            let pause = Pause::new(settings.idle_timeout);
            let left = settings.max_body.unwrap_or(u64::MAX);
            Box::new(Sending { body, hold, pause, left, watch: Rc::clone(&watch) })
        });
        (Self(sending), watch)
    }
}

impl Sending {
    fn broke(
        &self,
        stage: Stage,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.watch.stage.set(stage);
        Poll::Ready(Some(Err(error)))
    }
}

impl Watch {
    fn moved(&self, stage: Stage) {
        self.stage.set(stage);
        self.moved.set(Instant::now());
    }

    /// Until when the backend may keep us waiting.
    fn deadline(&self) -> Instant {
        match self.stage.get() {
            // The client's own time is looked after where its body is read.
            Stage::Client | Stage::Broken | Stage::Large | Stage::Slow => {
                Instant::now() + self.idle_timeout
            }
            Stage::Backend => self.moved.get() + self.idle_timeout,
            Stage::Complete => self.moved.get() + self.response_timeout,
        }
    }

    /// When the deadline may have passed. It moves as the upload goes on, at its end also nearer.
    fn next_look(&self) -> Instant {
        self.deadline().min(Instant::now() + self.response_timeout)
    }

    /// What has failed, when the client's body is at fault.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.stage.get() {
            Stage::Broken => Some(Failure::BrokenRequest),
            Stage::Large => Some(Failure::LargeRequest),
            Stage::Slow => Some(Failure::SlowRequest),
            Stage::Client | Stage::Backend | Stage::Complete => None,
        }
    }

    /// Whether all of it is on its way.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.stage.get(), Stage::Complete)
    }

    /// Waits for the answer to this request, for as long as it may take.
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = T>) -> Result<T, Failure> {
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
        if let Some(hold) = &mut this.hold {
            ready!(hold.poll(cx));
            if this.watch.is_answered.get() {
                // The backend did not want it.
                return Poll::Pending;
            }
            this.hold = None;
            this.pause.over();
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                this.watch.stage.set(Stage::Client);
                ready!(this.pause.poll(cx));
                this.broke(Stage::Slow, io::Error::from(io::ErrorKind::TimedOut).into())
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.pause.over();
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = this.left.checked_sub(length) else {
                    return this.broke(Stage::Large, "the body is too large".into());
                };
                this.left = left;
                let is_end = this.body.is_end_stream();
                this.watch.moved(if is_end { Stage::Complete } else { Stage::Backend });
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.broke(Stage::Broken, error),
            Poll::Ready(None) => {
                this.watch.moved(Stage::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|sending| sending.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let sending = self.0.as_ref();
        sending.map_or_else(|| SizeHint::with_exact(0), |sending| sending.body.size_hint())
    }
}
