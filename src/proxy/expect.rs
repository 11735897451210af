//! `Expect: 100-continue` (RFC 9110, section 10.1.1), forwarded over HTTP/1.1.
//!
//! The server sends 100 (Continue) to the client when the request body is first polled. So the body
//! is not polled before the backend has sent its own 100, or has sent nothing for
//! [`CONTINUE_TIMEOUT`]: it then probably does not implement the expectation.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// How long to wait for 100 (Continue) before the body is sent anyway: as long as curl waits.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Holds a request body back until the backend wants it.
#[derive(Debug)]
pub(super) struct ContinueGate {
    // `None`: the final response came first; the body is never sent.
    continued: Option<oneshot::Receiver<()>>,
    // Started by the first poll, which is after the head of the request was sent.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl ContinueGate {
    /// Ready when the body may be sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(continued) = &mut self.continued else { return Poll::Pending };
        match Pin::new(continued).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_dropped)) => {
                self.continued = None; // a completed receiver panics when it is polled again
                Poll::Pending
            }
            Poll::Pending => {
                let begin = || Box::pin(tokio::time::sleep(CONTINUE_TIMEOUT));
                self.timeout.get_or_insert_with(begin).as_mut().poll(cx)
            }
        }
    }
}

/// Registers for the interim responses to `request`, and returns the hold for its body.
pub(super) fn continue_gate<B>(request: &mut Request<B>) -> ContinueGate {
    let (sender, continued) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(sender) = sender.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // Fails if the request has ended.
            sender.send(()).ok();
        }
    });
    ContinueGate { continued: Some(continued), timeout: None }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use http::Request;

    use super::{CONTINUE_TIMEOUT, continue_gate};

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_100_continue_starts_when_the_request_is_sent() {
        let mut request = Request::new(());
        let mut gate = continue_gate(&mut request);
        tokio::time::advance(2 * CONTINUE_TIMEOUT).await; // connecting takes this long
        let mut context = Context::from_waker(Waker::noop());
        assert!(gate.poll(&mut context).is_pending());
        tokio::time::advance(2 * CONTINUE_TIMEOUT).await;
        assert!(gate.poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn after_a_final_response_the_body_is_held_however_often_it_is_polled() {
        let mut request = Request::new(());
        let mut gate = continue_gate(&mut request);
        drop(request); // as hyper does on a final response
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(gate.poll(&mut context).is_pending());
        }
    }
}
