//! Which parts of a connection were woken.
//!
//! One task polls the reader, the writer and all streams of a connection. Each of them has a waker
//! of its own, which notes its part before it wakes the task. So an event on one of a hundred
//! streams polls that stream and nothing else.
// A `Waker` is `Send` whatever it wakes, hence the lock. It is held for a few instructions only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The parts that were woken since the task last looked.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    has_calls: AtomicBool,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    callers: Vec<Arc<Caller>>,
    task: Option<Waker>,
}

/// The waker of one part.
#[derive(Debug)]
pub(crate) struct Caller {
    part: Part,
    has_called: AtomicBool,
    wakes: Arc<Wakes>,
}

/// A part of a connection that can be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The socket may be readable.
    Reader,
    /// The socket may be writable.
    Writer,
    /// A stream, by its identifier.
    Stream(u32),
    /// A stream that is to be reset.
    Cut(u32),
}

impl Wakes {
    /// A waker for a part.
    pub(crate) fn caller(self: &Arc<Self>, part: Part) -> Waker {
        let has_called = AtomicBool::new(false);
        Arc::new(Caller { part, has_called, wakes: Arc::clone(self) }).into()
    }

    /// Sets the task to wake.
    pub(crate) fn set_task(&self, task: &Waker) {
        self.lock().task = Some(task.clone());
    }

    /// Takes the wakers that were woken, in order, into an empty list. A waker that is woken again
    /// before it is taken stands there once.
    pub(crate) fn take(&self, callers: &mut Vec<Arc<Caller>>) {
        debug_assert!(callers.is_empty(), "the last wakes have been handled");
        if !self.has_calls.load(Ordering::Acquire) {
            return;
        }
        let mut calls = self.lock();
        self.has_calls.store(false, Ordering::Relaxed);
        std::mem::swap(&mut calls.callers, callers);
        drop(calls);
        for caller in &*callers {
            caller.has_called.store(false, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        // No code that holds the lock panics half-way.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller {
    pub(crate) fn part(&self) -> Part {
        self.part
    }
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.has_called.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut calls = self.wakes.lock();
        calls.callers.push(Arc::clone(self));
        self.wakes.has_calls.store(true, Ordering::Release);
        if let Some(task) = &calls.task {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::{Part, Wakes};

    #[test]
    fn a_part_that_is_woken_twice_is_taken_once() {
        let wakes = Arc::new(Wakes::default());
        wakes.set_task(Waker::noop());
        let (reader, stream) = (wakes.caller(Part::Reader), wakes.caller(Part::Stream(1)));
        let heard = || {
            let mut callers = Vec::new();
            wakes.take(&mut callers);
            callers.iter().map(|caller| caller.part()).collect::<Vec<_>>()
        };
        assert_eq!(heard(), []);
        stream.wake_by_ref();
        reader.wake_by_ref();
        stream.wake_by_ref();
        assert_eq!(heard(), [Part::Stream(1), Part::Reader]);
        assert_eq!(heard(), []);
        stream.wake();
        assert_eq!(heard(), [Part::Stream(1)]);
    }
}
