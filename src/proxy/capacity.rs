//! Wakes requests that wait for a free stream on the connections of a pool.

use std::cell::Cell;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Wakes the waiting requests of a pool in FIFO order.
///
/// A request may be unable to use the capacity, for example because its body does not fit the
/// window. It then wakes the next one ([`Self::pass_on`]), and so on until each has checked once.
#[derive(Debug, Default)]
pub(super) struct CapacityNotify {
    notify: Notify,
    // Incremented whenever capacity is added.
    version: Cell<u64>,
}

impl CapacityNotify {
    /// One more request may fit: wakes the first in line.
    pub(super) fn notify_one(&self) {
        self.version.set(self.version.get() + 1);
        self.notify.notify_one();
    }

    /// Several requests may fit, or a dial has ended: wakes all.
    pub(super) fn notify_all(&self) {
        self.notify.notify_waiters();
    }

    /// Completes when there may be capacity.
    pub(super) fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// How many times capacity was added so far.
    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    /// Wakes the next request in line, unless the caller has done so since capacity was last added:
    /// `seen` is the caller's last value of [`Self::version`].
    pub(super) fn pass_on(&self, seen: &mut u64) {
        if std::mem::replace(seen, self.version.get()) != self.version.get() {
            self.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::rc::Rc;

    use tokio::task::{LocalSet, yield_now};

    use super::CapacityNotify;

    /// Waits as a request does, until it can take one of `fits`.
    async fn wait(capacity: Rc<CapacityNotify>, fits: Rc<Cell<usize>>, looks: Rc<Cell<usize>>) {
        let mut seen = capacity.version();
        loop {
            let mut notified = pin!(capacity.notified());
            notified.as_mut().enable();
            looks.set(looks.get() + 1);
            if fits.get() > 0 {
                fits.set(fits.get() - 1);
                return;
            }
            capacity.pass_on(&mut seen);
            notified.await;
        }
    }

    #[tokio::test]
    async fn capacity_that_one_request_cannot_use_goes_to_the_next() {
        let local = LocalSet::new();
        let looks = Rc::new(Cell::new(0));
        local
            .run_until(async {
                let (capacity, none, one) =
                    (Rc::new(CapacityNotify::default()), Rc::default(), Rc::default());
                let wait = |fits: &Rc<Cell<usize>>| {
                    tokio::task::spawn_local(wait(
                        Rc::clone(&capacity),
                        Rc::clone(fits),
                        Rc::clone(&looks),
                    ))
                };
                let upload = wait(&none);
                let get = wait(&one);
                yield_now().await;
                one.set(1);
                capacity.notify_one();
                get.await.expect("sent");
                for _ in 0..10 {
                    yield_now().await;
                }
                assert!(!upload.is_finished());
                assert!(looks.get() <= 5, "{} looks", looks.get());
                none.set(1);
                capacity.notify_one();
                upload.await.expect("sent");
            })
            .await;
    }
}
