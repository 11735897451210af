//! From the shards to the hub, and from the hub to the source: who wants what.
//!
//! One wish for each thing, the newest: a channel that is wanted, left and wanted again before
//! anyone looked is wanted. So the box is bounded by the number of things that are named between two
//! looks, however often clients come and go.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use tokio::sync::Notify;

/// Wishes, by what they are for.
pub(in crate::hub) type Wishes<T, W> = HashMap<T, W>;

/// The newest wish for each of many things.
#[derive(Debug)]
pub(in crate::hub) struct Interest<T, W> {
    wishes: Mutex<Wishes<T, W>>,
    changed: Notify,
}

impl<T: Eq + Hash, W> Interest<T, W> {
    pub(in crate::hub) fn new() -> Self {
        Self { wishes: Mutex::default(), changed: Notify::new() }
    }

    /// Wishes `wish` for `thing`, in place of an older wish.
    pub(in crate::hub) fn wish(&self, thing: T, wish: W) {
        self.lock().insert(thing, wish);
        self.changed.notify_one();
    }

    /// Takes back a wish that nobody has taken yet.
    pub(in crate::hub) fn withdraw(&self, thing: &T) {
        self.lock().remove(thing);
    }

    /// Waits until there are wishes. Cancel safe.
    pub(in crate::hub) async fn wait(&self) {
        while self.lock().is_empty() {
            self.changed.notified().await;
        }
    }

    /// Takes all wishes, without waiting.
    pub(in crate::hub) fn take(&self) -> Wishes<T, W> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wishes<T, W>> {
        self.wishes.lock().expect("nothing panics while it holds the lock")
    }
}
