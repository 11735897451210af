//! How the request of one HTTP/2 stream is ended from outside, while its connection goes on.
//!
//! While a response waits for the window of its stream, its body is not asked for more, so a body
//! cannot end its own stream.

use std::cell::RefCell;
use std::task::Waker;

thread_local! {
    // That of the request which is being handled on this thread.
    static CURRENT: RefCell<Option<Switch>> = const { RefCell::new(None) };
}

/// Ends a stream from outside.
#[derive(Clone, Debug)]
pub(super) struct Switch(Waker);

impl Switch {
    /// A switch that calls so for the end of its stream.
    pub(super) fn new(end: Waker) -> Self {
        Self(end)
    }

    /// Cuts the stream off.
    pub(super) fn cut(&self) {
        self.0.wake_by_ref();
    }
}

/// The switch of the request that is being handled; `None` over HTTP/1.1.
pub(super) fn current() -> Option<Switch> {
    CURRENT.with_borrow(Clone::clone)
}

/// While the guard lives, the request of this switch is being handled. Ends also in a panic.
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
