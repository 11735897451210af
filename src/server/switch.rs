//! Aborts one HTTP/2 stream from outside, without closing its connection.
//!
//! Needed because a body cannot end its own stream: while the stream's flow-control window is full,
//! the body is not polled.

use std::cell::RefCell;
use std::task::Waker;

thread_local! {
    // The switch of the request whose handler is being polled on this thread.
    static CURRENT: RefCell<Option<Switch>> = const { RefCell::new(None) };
}

/// A handle that aborts a stream.
#[derive(Clone, Debug)]
pub(super) struct Switch(Waker);

impl Switch {
    /// `end` is woken to abort the stream.
    pub(super) fn new(end: Waker) -> Self {
        Self(end)
    }

    /// Aborts the stream.
    pub(super) fn cut(&self) {
        self.0.wake_by_ref();
    }
}

/// Returns the switch of the request that is being handled; `None` over HTTP/1.1.
pub(super) fn current() -> Option<Switch> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `switch` the current one until the guard is dropped, also by a panic.
pub(super) fn enter(switch: &Switch) -> impl Drop + use<> {
    CURRENT.set(Some(switch.clone()));
    Entered
}

struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
