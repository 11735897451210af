//! Notifications of other gateways about a stream, or about a request that waits for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The watches of all streams, by the ids of the streams.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptWatches(Arc<WatchesShared>);

#[derive(Debug, Default)]
struct WatchesShared {
    by_id: Mutex<HashMap<Box<str>, Vec<Arc<Notify>>>>,
    // Notified of each new watch.
    used: Notify,
}

/// Waits for news of a stream, until this is dropped.
#[derive(Debug)]
pub struct KeptWatch {
    all: KeptWatches,
    id: Box<str>,
    news: Arc<Notify>,
}

impl KeptWatches {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Vec<Arc<Notify>>>> {
        self.0.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a stream.
    pub(super) fn watch(&self, id: &str) -> KeptWatch {
        let news = Arc::<Notify>::default();
        self.lock().entry(id.into()).or_default().push(Arc::clone(&news));
        self.0.used.notify_one();
        KeptWatch { all: self.clone(), id: id.into(), news }
    }

    /// Waits until there is a watch. Cancel safe.
    pub(super) async fn used(&self) {
        while self.lock().is_empty() {
            self.0.used.notified().await;
        }
    }

    /// Handles a message: `w ID`, a stream has something new, or `s ID WHY`, it is to stop. The message only wakes the
    /// watches, which read in Redis what it is: everybody who may publish could have sent the message.
    pub(super) fn receive(&self, message: &[u8]) {
        let Ok(message) = str::from_utf8(message) else { return };
        let Some(id) = message.split(' ').nth(1) else { return };
        let news = self.lock().get(id).cloned().unwrap_or_default();
        news.iter().for_each(|news| news.notify_one());
    }

    /// Wakes all watches: messages may have been missed.
    pub(super) fn wake_all(&self) {
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        all.iter().for_each(|news| news.notify_one());
    }
}

impl KeptWatch {
    /// Waits until there is something new. Cancel safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for KeptWatch {
    fn drop(&mut self) {
        let mut by_id = self.all.lock();
        if let Some(all) = by_id.get_mut(&self.id) {
            all.retain(|news| !Arc::ptr_eq(news, &self.news));
            if all.is_empty() {
                by_id.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{KeptWatch, KeptWatches};

    async fn has_news(watch: &KeptWatch) -> bool {
        timeout(Duration::from_millis(1), watch.news()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_watches_a_stream_hears_of_it_and_of_no_other() {
        let watches = KeptWatches::default();
        assert!(timeout(Duration::from_secs(9), watches.used()).await.is_err());
        let (one, same, other) = (watches.watch("a"), watches.watch("a"), watches.watch("b"));
        watches.used().await;
        watches.receive(b"w a");
        assert!(has_news(&one).await && has_news(&same).await && !has_news(&other).await);
        for nonsense in [&b""[..], b"w", b"w c", b"s", b"\xff"] {
            watches.receive(nonsense);
        }
        assert!(!has_news(&one).await && !has_news(&other).await);
        watches.receive(b"s a deleted");
        assert!(has_news(&same).await && !has_news(&other).await);
        watches.wake_all();
        assert!(has_news(&other).await);
        drop((one, same, other));
        assert!(watches.lock().is_empty());
    }
}
