//! The executor of HTTP/2 streams: each can be cut off from outside.
//!
//! While a chunk waits for the window of its HTTP/2 stream, hyper does not poll the body, so a body
//! cannot end its own stream. The future of the stream is dropped instead, and hyper resets the
//! stream with CANCEL; the connection and its other streams go on.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

thread_local! {
    // The stream whose future is being polled on this thread.
    static CURRENT: RefCell<Option<Rc<Switch>>> = const { RefCell::new(None) };
}

/// Spawns each HTTP/2 stream of a connection as a task of its shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamExecutor;

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, stream: F) {
        let switch = Rc::new(Switch::default());
        // Its owner is the connection: the stream ends with it, or earlier.
        drop(tokio::task::spawn_local(Severable { stream, switch }));
    }
}

/// Cuts off the HTTP/2 stream whose future is being polled; `None` outside of one.
pub(super) fn current() -> Option<Rc<Switch>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Ends a stream from outside.
#[derive(Debug, Default)]
pub(super) struct Switch {
    is_cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Switch {
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

pin_project! {
    struct Severable<F> {
        #[pin]
        stream: F,
        switch: Rc<Switch>,
    }
}

impl<F: Future> Future for Severable<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.switch.is_cut.get() {
            return Poll::Ready(());
        }
        this.switch.watch(cx);
        CURRENT.set(Some(Rc::clone(this.switch)));
        let _current = Current;
        this.stream.poll(cx).map(drop)
    }
}

/// While it lives, a stream is being polled. Ends with the poll, also when that panics.
struct Current;

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
