//! Aborts one stream from outside, without closing its connection.
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
pub struct StreamAbortHandle(Waker);

impl StreamAbortHandle {
    /// `end` is woken to abort the stream.
    pub(crate) fn new(end: Waker) -> Self {
        Self(end)
    }

    /// Returns the handle of the stream whose request is being handled; `None` outside of
    /// [`Http2Server::handle`](super::Http2Server::handle).
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Aborts the stream: it is reset with CANCEL. Without effect once it is closed.
    pub fn abort(&self) {
        self.0.wake_by_ref();
    }

    /// Makes this the current handle until the guard is dropped, also by a panic.
    pub(crate) fn enter(&self) -> impl Drop + use<> {
        CURRENT.set(Some(self.clone()));
        EnteredStream
    }
}

struct EnteredStream;

impl Drop for EnteredStream {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
