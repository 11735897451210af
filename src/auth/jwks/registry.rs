//! The sets of keys of all URLs that the configuration names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::fetch::JwksFetcher;
use super::location::JwksLocation;
use super::refresh::{FetchReport, keep_fresh};
use super::remote_keys::RemoteKeys;
use crate::health::Health;
use crate::metrics::Metrics;

/// The sets of keys of all URLs that the configuration names. A cheap handle, shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct RemoteKeySets(Arc<RegistryState>);

#[derive(Debug, Default)]
struct RegistryState {
    sets: Mutex<KeySets>,
    added: Notify,
}

#[derive(Debug, Default)]
struct KeySets {
    known: Vec<(JwksLocation, Weak<UsedKeys>)>,
    /// Sets whose fetches have not begun.
    new: Vec<(JwksLocation, Arc<RemoteKeys>, CancellationToken)>,
}

/// A set of keys that a route uses. Its fetches end when the last handle is dropped.
#[derive(Debug)]
pub struct UsedKeys {
    keys: Arc<RemoteKeys>,
    _fetches: DropGuard,
}

impl UsedKeys {
    /// The keys.
    pub fn keys(&self) -> &RemoteKeys {
        &self.keys
    }
}

impl RemoteKeySets {
    /// The keys of a location, which are fetched from now on. Routes with the same location share them, also across a
    /// reload.
    pub fn of(&self, location: &JwksLocation) -> Arc<UsedKeys> {
        let mut sets = self.lock();
        sets.known.retain(|(_, keys)| keys.strong_count() > 0);
        let known = sets.known.iter().find(|(known, _)| known == location);
        if let Some(keys) = known.and_then(|(_, keys)| keys.upgrade()) {
            return keys;
        }
        let (keys, stop) = (Arc::new(RemoteKeys::new()), CancellationToken::new());
        sets.new.push((location.clone(), Arc::clone(&keys), stop.clone()));
        let used = Arc::new(UsedKeys { keys, _fetches: stop.drop_guard() });
        sets.known.push((location.clone(), Arc::downgrade(&used)));
        drop(sets);
        self.0.added.notify_one();
        used
    }

    fn lock(&self) -> MutexGuard<'_, KeySets> {
        self.0.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches the sets: a task of the gateway.
#[derive(Debug)]
pub struct KeySetRunner {
    /// The sets.
    pub sets: RemoteKeySets,
    /// Shows the problem of each set.
    pub health: Health,
    /// Count the fetches.
    pub metrics: Metrics,
}

impl KeySetRunner {
    /// Runs as long as the gateway. Spawns a task for each set, which ends with the last user of the set.
    pub async fn run(self) {
        let mut fetching = JoinSet::new();
        loop {
            for (location, keys, stop) in std::mem::take(&mut self.sets.lock().new) {
                let report = FetchReport {
                    url: location.to_string(),
                    health: self.health.clone(),
                    metrics: self.metrics.clone(),
                    failing: Vec::new(),
                };
                let fetcher = JwksFetcher::new(location);
                fetching.spawn_local(async move {
                    // Boxed: the state of a TLS handshake is large, and most of the time there is none.
                    let fetch = async || Box::pin(fetcher.fetch()).await;
                    stop.run_until_cancelled(keep_fresh(&keys, fetch, report)).await;
                });
            }
            tokio::select! {
                () = self.sets.0.added.notified() => {}
                Some(ended) = fetching.join_next() => {
                    // A panic ends the gateway, rather than leaving it with keys that grow old.
                    if let Err(error) = ended {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    }
}
