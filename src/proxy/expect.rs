//! `Expect: 100-continue` (RFC 9110, section 10.1.1): the client keeps its body until the backend
//! wants it.
//!
//! hyper asks the client for the body when the body is first read here. So it is not read until the
//! backend has said `100 Continue`, or has been silent for so long that it does not know the word.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// How long a backend may think about it: as long as curl does.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a body back.
#[derive(Debug)]
pub(super) struct Hold {
    // `None`: it has answered, and never wants the body.
    continued: Option<oneshot::Receiver<()>>,
    // Begins when the request has been sent: only then is the body asked for.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Hold {
    /// Ready when the backend wants the body.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(continued) = &mut self.continued else { return Poll::Pending };
        match Pin::new(continued).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_dropped)) => {
                self.continued = None; // such a receiver must not be asked again
                Poll::Pending
            }
            Poll::Pending => {
                let begin = || Box::pin(tokio::time::sleep(PATIENCE));
                self.patience.get_or_insert_with(begin).as_mut().poll(cx)
            }
        }
    }
}

/// Makes `request` hold its body until it is wanted.
pub(super) fn hold<B>(request: &mut Request<B>) -> Hold {
    let (sender, continued) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(sender) = sender.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // Nobody listens any more: the request is over.
            sender.send(()).ok();
        }
    });
    Hold { continued: Some(continued), patience: None }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use http::Request;

    use super::{PATIENCE, hold};

    #[tokio::test(start_paused = true)]
    async fn a_backend_has_its_time_to_continue_from_when_the_request_is_sent() {
        let mut request = Request::new(());
        let mut hold = hold(&mut request);
        tokio::time::advance(2 * PATIENCE).await; // it takes so long to connect
        let mut context = Context::from_waker(Waker::noop());
        assert!(hold.poll(&mut context).is_pending());
        tokio::time::advance(2 * PATIENCE).await;
        assert!(hold.poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn a_body_that_the_answer_did_not_want_is_held_however_often_it_is_asked_for() {
        let mut request = Request::new(());
        let mut hold = hold(&mut request);
        drop(request); // so it is with an answer other than 100
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(hold.poll(&mut context).is_pending());
        }
    }
}
