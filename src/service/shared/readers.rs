//! How many readers a shared stream has, and since when it has none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// The readers of one stream, and the requests that wait for it.
#[derive(Debug)]
pub(super) struct SharedReaders {
    count: Mutex<ReaderCount>,
    changed: Notify,
    // Notified when the first reader comes.
    came: Notify,
    metrics: Metrics,
}

#[derive(Debug)]
struct ReaderCount {
    readers: usize,
    // Since when there are no readers.
    since: Instant,
    // Whether no more readers may come.
    is_closed: bool,
}

/// A reader of a shared stream, or a request that waits for one. The stream is open as long as there are any.
#[derive(Debug)]
pub(in crate::service) struct SharedReader(Arc<SharedReaders>);

impl SharedReaders {
    /// Starts without readers.
    pub(super) fn new(metrics: Metrics) -> Arc<Self> {
        let count = ReaderCount { readers: 0, since: Instant::now(), is_closed: false };
        let (changed, came) = (Notify::new(), Notify::new());
        Arc::new(Self { count: Mutex::new(count), changed, came, metrics })
    }

    fn lock(&self) -> MutexGuard<'_, ReaderCount> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a reader; `None` if the stream is closed.
    pub(super) fn add(self: &Arc<Self>) -> Option<SharedReader> {
        let mut count = self.lock();
        if count.is_closed {
            return None;
        }
        count.readers += 1;
        drop(count);
        self.came.notify_one();
        self.metrics.shared_readers(1);
        Some(SharedReader(Arc::clone(self)))
    }

    /// Closes the stream to new readers.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Since when there are no readers; `None` while there are any, and for a closed stream.
    pub(super) fn unread_since(&self) -> Option<Instant> {
        let count = self.lock();
        (count.readers == 0 && !count.is_closed).then_some(count.since)
    }

    /// Waits until there is a reader. For one task.
    pub(super) async fn read(&self) {
        while self.lock().readers == 0 {
            self.came.notified().await;
        }
    }

    /// What [`Self::unread`] waits for may have changed.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    /// Waits until there were no readers for the time that `leave` returns, which may change. Then the stream is
    /// closed to new readers. For one task.
    pub(super) async fn unread(&self, leave: impl Fn() -> Duration) {
        loop {
            let due = match self.close_if_unread(leave()) {
                Ok(()) => return,
                Err(due) => due,
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Closes the stream if it had no reader for `leave`.
    ///
    /// # Errors
    /// It had a reader more recently: when to check again, or `None` while there is a reader.
    fn close_if_unread(&self, leave: Duration) -> Result<(), Option<Instant>> {
        let mut count = self.lock();
        let due = count.since + leave;
        if count.is_closed {
            Ok(())
        } else if count.readers > 0 {
            Err(None)
        } else if Instant::now() < due {
            Err(Some(due))
        } else {
            count.is_closed = true;
            Ok(())
        }
    }
}

impl Drop for SharedReader {
    fn drop(&mut self) {
        let Self(readers) = self;
        readers.metrics.shared_readers(-1);
        let mut count = readers.lock();
        count.readers -= 1;
        if count.readers == 0 {
            count.since = Instant::now();
            drop(count);
            readers.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::SharedReaders;
    use crate::metrics::Metrics;

    const LEAVE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_left_some_time_after_its_last_reader() {
        let readers = SharedReaders::new(Metrics::new().expect("metrics"));
        let (first, second) = (readers.add(), readers.add());
        let unread = || readers.unread(|| LEAVE);
        drop(first);
        assert!(timeout(2 * LEAVE, unread()).await.is_err(), "one is left");
        drop(second);
        assert!(timeout(LEAVE / 2, unread()).await.is_err());
        // A reader that comes in time begins it anew.
        drop(readers.add().expect("it is open"));
        let begun = Instant::now();
        unread().await;
        assert_eq!(begun.elapsed(), LEAVE);
        assert!(readers.add().is_none(), "it is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_since_when_nobody_reads() {
        let readers = SharedReaders::new(Metrics::new().expect("metrics"));
        let begun = Instant::now();
        assert_eq!(readers.unread_since(), Some(begun));
        assert!(timeout(LEAVE, readers.read()).await.is_err());
        let reader = readers.add();
        readers.read().await;
        assert_eq!(readers.unread_since(), None);
        drop(reader);
        assert_eq!(readers.unread_since(), Some(begun + LEAVE));
        assert!(timeout(LEAVE, readers.read()).await.is_err(), "the one before has left");
        readers.close();
        assert_eq!(readers.unread_since(), None, "it is closed");
    }
}
