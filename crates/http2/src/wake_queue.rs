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
pub struct WakeQueue {
    has_queued: AtomicBool,
    queued: Mutex<QueuedWakes>,
}

#[derive(Debug, Default)]
struct QueuedWakes {
    wakers: Vec<Arc<PartWaker>>,
    task: Option<Waker>,
}

/// The waker of one part.
#[derive(Debug)]
pub struct PartWaker {
    part: ConnectionPart,
    is_queued: AtomicBool,
    queue: Arc<WakeQueue>,
}

/// A part of a connection that can be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPart {
    /// The socket may be readable.
    Reader,
    /// The socket may be writable.
    Writer,
    /// A stream, by its identifier.
    Stream(u32),
    /// A stream that is to be reset.
    Reset(u32),
}

impl WakeQueue {
    /// A waker for a part.
    pub fn waker(self: &Arc<Self>, part: ConnectionPart) -> Waker {
        let is_queued = AtomicBool::new(false);
        Arc::new(PartWaker { part, is_queued, queue: Arc::clone(self) }).into()
    }

    /// Sets the task to wake.
    pub fn set_task(&self, task: &Waker) {
        self.lock().task = Some(task.clone());
    }

    /// Takes the wakers that were woken, in order, into an empty list. A waker that is woken again
    /// before it is taken is listed once.
    pub fn take(&self, wakers: &mut Vec<Arc<PartWaker>>) {
        debug_assert!(wakers.is_empty(), "wakes taken before were not handled");
        if !self.has_queued.load(Ordering::Acquire) {
            return;
        }
        let mut queued = self.lock();
        self.has_queued.store(false, Ordering::Relaxed);
        std::mem::swap(&mut queued.wakers, wakers);
        drop(queued);
        for waker in &*wakers {
            waker.is_queued.store(false, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueuedWakes> {
        // No code that holds the lock panics half-way.
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartWaker {
    /// The part that it wakes.
    pub fn part(&self) -> ConnectionPart {
        self.part
    }
}

impl Wake for PartWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut queued = self.queue.lock();
        queued.wakers.push(Arc::clone(self));
        self.queue.has_queued.store(true, Ordering::Release);
        if let Some(task) = &queued.task {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::{ConnectionPart, WakeQueue};

    #[test]
    fn a_part_that_is_woken_twice_is_taken_once() {
        let wakes = Arc::new(WakeQueue::default());
        wakes.set_task(Waker::noop());
        let (reader, stream) =
            (wakes.waker(ConnectionPart::Reader), wakes.waker(ConnectionPart::Stream(1)));
        let taken = || {
            let mut wakers = Vec::new();
            wakes.take(&mut wakers);
            wakers.iter().map(|waker| waker.part()).collect::<Vec<_>>()
        };
        assert_eq!(taken(), []);
        stream.wake_by_ref();
        reader.wake_by_ref();
        stream.wake_by_ref();
        assert_eq!(taken(), [ConnectionPart::Stream(1), ConnectionPart::Reader]);
        assert_eq!(taken(), []);
        stream.wake();
        assert_eq!(taken(), [ConnectionPart::Stream(1)]);
    }
}
