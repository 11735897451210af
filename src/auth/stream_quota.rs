//! How many streams each identity has open, over all shards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the open streams of each identity. A cheap handle, shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct StreamQuota(Arc<Mutex<HashMap<Arc<str>, usize>>>);

/// One open stream of an identity; dropping it makes room for another.
#[derive(Debug)]
#[must_use]
pub struct QuotaGuard {
    quota: StreamQuota,
    id: Arc<str>,
}

impl StreamQuota {
    /// Counts one more stream of `id`, an [`account`](ssegate_auth::Identity::account); `None` if it has `most`
    /// already.
    pub fn admit(&self, id: &str, most: usize) -> Option<QuotaGuard> {
        let mut counts = self.lock();
        let id = counts.get_key_value(id).map_or_else(|| Arc::from(id), |(id, _)| Arc::clone(id));
        let count = counts.entry(Arc::clone(&id)).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(QuotaGuard { quota: self.clone(), id })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QuotaGuard {
    fn drop(&mut self) {
        let mut counts = self.quota.lock();
        if let Some(count) = counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StreamQuota;

    #[test]
    fn a_stream_that_ends_makes_room_for_another() {
        let quota = StreamQuota::default();
        let first = quota.admit("42", 2).expect("room");
        let _second = quota.admit("42", 2).expect("room");
        assert!(quota.admit("42", 2).is_none());
        assert!(quota.admit("43", 2).is_some());
        drop(first);
        assert!(quota.admit("42", 2).is_some());
        assert_eq!(quota.lock().len(), 1, "nobody else is remembered");
    }
}
