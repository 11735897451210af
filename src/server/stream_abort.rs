//! Aborts one HTTP/2 stream from outside, without closing its connection.
//!
//! Needed because a body cannot end its own stream: while the stream's flow-control window is full,
//! the body is not polled.

use std::cell::RefCell;
use std::task::Waker;

thread_local! {
    // The abort handle of the request whose handler is being polled on this thread.
    static CURRENT: RefCell<Option<StreamAbortHandle>> = const { RefCell::new(None) };
}

/// A handle that aborts a stream.
#[derive(Clone, Debug)]
pub(super) struct StreamAbortHandle(Waker);

impl StreamAbortHandle {
    /// `end` is woken to abort the stream.
    pub(super) fn new(end: Waker) -> Self {
        Self(end)
    }

    /// Aborts the stream.
    pub(super) fn abort(&self) {
        self.0.wake_by_ref();
    }
}

/// Returns the abort handle of the request that is being handled; `None` over HTTP/1.1.
pub(super) fn current() -> Option<StreamAbortHandle> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `handle` the current one until the guard is dropped, also by a panic.
pub(super) fn enter(handle: &StreamAbortHandle) -> impl Drop + use<> {
    CURRENT.set(Some(handle.clone()));
    Entered
}

struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
