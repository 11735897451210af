//! A queue that keeps the newest value for each key.
//!
//! A channel that is joined, left and joined again before the requests are taken is joined once. So the
//! queue is bounded by the number of keys that are put in between two takes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use tokio::sync::Notify;

/// The newest value for each key, from any thread to one that waits for them.
#[derive(Debug)]
pub(crate) struct CoalescingQueue<K, V> {
    values: Mutex<HashMap<K, V>>,
    changed: Notify,
}

impl<K: Eq + Hash, V> CoalescingQueue<K, V> {
    pub(crate) fn new() -> Self {
        Self { values: Mutex::default(), changed: Notify::new() }
    }

    /// Puts `value` in, in place of an older one for `key`.
    pub(crate) fn put(&self, key: K, value: V) {
        self.lock().insert(key, value);
        self.changed.notify_one();
    }

    /// Removes a value that has not been taken yet.
    pub(crate) fn remove(&self, key: &K) {
        self.lock().remove(key);
    }

    /// Waits until there are values. Cancel safe.
    pub(crate) async fn wait(&self) {
        while self.lock().is_empty() {
            self.changed.notified().await;
        }
    }

    /// Takes all values, without waiting.
    pub(crate) fn take(&self) -> HashMap<K, V> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, V>> {
        self.values.lock().expect("nothing panics while it holds the lock")
    }
}
