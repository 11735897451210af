//! Room on the connections of a pool, and the requests that wait for it.

use std::cell::Cell;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Wakes the requests of a pool that wait, the one first that has waited longest.
///
/// It may not be able to use the room, because it has a body that does not fit for example. Then it
/// wakes the next one ([`Self::pass_on`]), and so on until each has looked once.
#[derive(Debug, Default)]
pub(super) struct Room {
    notify: Notify,
    // How often there was more of it.
    growths: Cell<u64>,
}

impl Room {
    /// A request more may fit on one of the connections.
    pub(super) fn grew(&self) {
        self.growths.set(self.growths.get() + 1);
        self.notify.notify_one();
    }

    /// Many requests may fit, or something else has changed that they wait for.
    pub(super) fn changed(&self) {
        self.notify.notify_waiters();
    }

    /// Ready when there may be room.
    pub(super) fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// How often there was more of it so far.
    pub(super) fn growths(&self) -> u64 {
        self.growths.get()
    }

    /// Wakes the next request that waits, unless the caller has done so since there was more of it:
    /// `seen` is up to when.
    pub(super) fn pass_on(&self, seen: &mut u64) {
        if std::mem::replace(seen, self.growths.get()) != self.growths.get() {
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

    use super::Room;

    /// Waits for room as a request does, if only one of `fits` is left for it.
    async fn wait(room: Rc<Room>, fits: Rc<Cell<usize>>, looks: Rc<Cell<usize>>) {
        let mut seen = room.growths();
        loop {
            let mut notified = pin!(room.notified());
            notified.as_mut().enable();
            looks.set(looks.get() + 1);
            if fits.get() > 0 {
                fits.set(fits.get() - 1);
                return;
            }
            room.pass_on(&mut seen);
            notified.await;
        }
    }

    #[tokio::test]
    async fn room_that_one_request_cannot_use_is_used_by_another() {
        let local = LocalSet::new();
        let looks = Rc::new(Cell::new(0));
        local
            .run_until(async {
                let (room, none, one) = (Rc::new(Room::default()), Rc::default(), Rc::default());
                let wait = |fits: &Rc<Cell<usize>>| {
                    tokio::task::spawn_local(wait(
                        Rc::clone(&room),
                        Rc::clone(fits),
                        Rc::clone(&looks),
                    ))
                };
                let upload = wait(&none);
                let get = wait(&one);
                yield_now().await;
                one.set(1);
                room.grew();
                get.await.expect("it is sent");
                for _ in 0..10 {
                    yield_now().await;
                }
                assert!(!upload.is_finished());
                assert!(looks.get() <= 5, "{} looks", looks.get());
                none.set(1);
                room.grew();
                upload.await.expect("it is sent");
            })
            .await;
    }
}
