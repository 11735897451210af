//! A panic costs what it happened in, and no more.
//!
//! A bug in the handling of one request must not end a connection with many streams on it, or a
//! thread with many connections. What is polled in here is not polled again after it has panicked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// Something panicked. The panic itself has been told by the hook of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Does something that may panic.
///
/// # Errors
/// It has: what it worked on is to be dropped.
// What it worked on may be half done; as nobody looks at it again, that breaks nothing.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_told| Panicked)
}

pin_project! {
    /// A future that ends when it panics.
    #[derive(Debug)]
    pub struct Contained<F> {
        #[pin]
        future: F,
    }
}

impl<F> Contained<F> {
    /// Contains `future`.
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
    async fn a_future_that_panics_has_ended() {
        let late = async {
            tokio::task::yield_now().await;
            panic!("a bug");
        };
        let ended: Result<(), Panicked> = Contained::new(late).await;
        assert_eq!(ended, Err(Panicked));
        assert_eq!(Contained::new(async { 1 }).await, Ok(1));
    }
}
