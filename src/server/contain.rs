//! Contains panics: a bug in one request must not end a connection with many streams, or a thread
//! with many connections.
//!
//! A future that has panicked must not be polled again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// A panic was caught. The process's panic hook has logged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs a closure that may panic.
///
/// # Errors
/// It panicked: the caller must drop what it worked on.
// Unwind safety: the closure's data may be inconsistent, but it is dropped unread.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_logged| Panicked)
}

pin_project! {
    /// A future that resolves to an error if the inner future panics.
    #[derive(Debug)]
    pub struct Contained<F> {
        #[pin]
        future: F,
    }
}

impl<F> Contained<F> {
    /// Wraps `future`.
    pub fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match contain(|| self.project().future.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Contained, Panicked};

    #[tokio::test]
    async fn a_panicking_future_resolves_to_an_error() {
        let late = async {
            tokio::task::yield_now().await;
            panic!("a bug");
        };
        let ended: Result<(), Panicked> = Contained::new(late).await;
        assert_eq!(ended, Err(Panicked));
        assert_eq!(Contained::new(async { 1 }).await, Ok(1));
    }
}
