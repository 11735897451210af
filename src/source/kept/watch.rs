//! What other gateways tell of a stream, or of a request that waits for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

/// Whoever waits for news of a stream, by its id.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptWatches(Arc<WatchesShared>);

#[derive(Debug, Default)]
struct WatchesShared {
    by_id: Mutex<HashMap<Box<str>, Vec<Arc<KeptNews>>>>,
    // Told with the first.
    used: Notify,
}

/// What is new of a stream.
#[derive(Debug, Default)]
struct KeptNews {
    told: Notify,
    stop: OnceLock<String>,
}

/// Waits for news of a stream, until this is dropped.
#[derive(Debug)]
pub struct KeptWatch {
    all: KeptWatches,
    id: Box<str>,
    news: Arc<KeptNews>,
}

impl KeptWatches {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Vec<Arc<KeptNews>>>> {
        self.0.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a stream.
    pub(super) fn watch(&self, id: &str) -> KeptWatch {
        let news = Arc::<KeptNews>::default();
        self.lock().entry(id.into()).or_default().push(Arc::clone(&news));
        self.0.used.notify_one();
        KeptWatch { all: self.clone(), id: id.into(), news }
    }

    /// Waits until somebody watches. Cancel safe.
    pub(super) async fn used(&self) {
        while self.lock().is_empty() {
            self.0.used.notified().await;
        }
    }

    /// Tells what a gateway has published: `w ID`, there is something new; `s ID WHY`, it is to stop.
    pub(super) fn hear(&self, message: &[u8]) {
        let Ok(message) = str::from_utf8(message) else { return };
        let mut words = message.split(' ');
        let (kind, Some(id)) = (words.next(), words.next()) else { return };
        let news = self.lock().get(id).cloned().unwrap_or_default();
        for news in news {
            if let (Some("s"), Some(why)) = (kind, words.clone().next()) {
                news.stop.get_or_init(|| why.to_owned());
            }
            news.told.notify_one();
        }
    }

    /// There may be something new of every stream: what was published meanwhile was not heard.
    pub(super) fn wake_all(&self) {
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        all.iter().for_each(|news| news.told.notify_one());
    }
}

impl KeptWatch {
    /// Waits until there is something new. Cancel safe.
    pub async fn news(&self) {
        self.news.told.notified().await;
    }

    /// Why it is to stop, if another gateway has said so.
    pub fn stop(&self) -> Option<&str> {
        self.news.stop.get().map(String::as_str)
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
        watches.hear(b"w a");
        assert!(has_news(&one).await && has_news(&same).await && !has_news(&other).await);
        for nonsense in [&b""[..], b"w", b"w c", b"s", b"\xff", b"s a"] {
            watches.hear(nonsense);
        }
        assert_eq!(one.stop(), None);
        watches.hear(b"s a deleted");
        watches.hear(b"s a later");
        assert_eq!((one.stop(), other.stop()), (Some("deleted"), None));
        assert!(has_news(&same).await);
        watches.wake_all();
        assert!(has_news(&other).await);
        drop((one, same, other));
        assert!(watches.lock().is_empty());
    }
}
