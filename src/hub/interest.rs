//! From the shards to the hub, and from the hub to the source: who wants what.
//!
//! One wish for each thing, the newest: a channel that is wanted, left and wanted again before
//! anyone looked is wanted. So the box is bounded by the number of things, however fast clients
//! come and go.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use rustc_hash::FxBuildHasher;
use tokio::sync::Notify;

/// The newest wish for each of many things.
#[derive(Debug)]
pub(super) struct Interest<T, W> {
    wishes: Mutex<HashMap<T, W, FxBuildHasher>>,
    changed: Notify,
}

impl<T: Eq + Hash, W> Interest<T, W> {
    pub(super) fn new() -> Self {
        Self { wishes: Mutex::default(), changed: Notify::new() }
    }

    /// Wishes `wish` for `thing`, in place of an older wish.
    pub(super) fn wish(&self, thing: T, wish: W) {
        self.lock().insert(thing, wish);
        self.changed.notify_one();
    }

    /// Waits for wishes, and takes them all. Cancel safe.
    pub(super) async fn take(&self) -> HashMap<T, W, FxBuildHasher> {
        loop {
            let wishes = std::mem::take(&mut *self.lock());
            if !wishes.is_empty() {
                return wishes;
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<T, W, FxBuildHasher>> {
        self.wishes.lock().expect("nothing panics while it holds the lock")
    }
}
