//! Which parts of a connection have something to do.
//!
//! One task has them all: the socket's two sides and every stream. Each has a waker of its own, which
//! notes who called before it wakes the task, so that an event on one of a hundred streams costs a
//! look at that stream and at nothing else.
// `Waker` is `Send` whatever it wakes, hence the lock; nobody else ever holds it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Who called since the task was polled last.
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

/// A part of a connection that can be woken.
#[derive(Debug)]
pub(crate) struct Caller {
    part: Part,
    has_called: AtomicBool,
    wakes: Arc<Wakes>,
}

/// A part of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// There may be something to read.
    Reader,
    /// There may be room to write again.
    Writer,
    /// A stream, by its number.
    Stream(u32),
    /// A stream that is to end.
    Cut(u32),
}

impl Wakes {
    /// A waker for a part, which has not called.
    pub(crate) fn caller(self: &Arc<Self>, part: Part) -> Waker {
        let has_called = AtomicBool::new(false);
        Arc::new(Caller { part, has_called, wakes: Arc::clone(self) }).into()
    }

    /// Who is to be woken when somebody calls.
    pub(crate) fn set_task(&self, task: &Waker) {
        self.lock().task = Some(task.clone());
    }

    /// Takes those who called, in their order, into an empty list. Who calls again before it is
    /// looked at has been heard already.
    pub(crate) fn take(&self, callers: &mut Vec<Arc<Caller>>) {
        debug_assert!(callers.is_empty(), "what was taken has been dealt with");
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
        // Nothing that is done under it can panic half-way.
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
    fn who_calls_is_heard_once_until_it_calls_again() {
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
