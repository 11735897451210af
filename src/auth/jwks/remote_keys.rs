//! What the gateway knows of one set of keys: the newest keys, and whether they are being fetched.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ssegate_auth::jwt::KeySet;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// An unknown key causes a fetch at most this often, so that made-up keys cause no more.
pub(super) const DEMAND_INTERVAL: Duration = Duration::from_secs(60);
/// How long a request waits for a fetch.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);

/// A set of keys at one moment.
#[derive(Clone, Debug)]
pub struct KeysSnapshot {
    /// The keys; `None` before the first success.
    pub keys: Option<Arc<KeySet>>,
    /// When they were fetched.
    fetched_at: Option<SystemTime>,
    /// The number of fetches that have ended.
    ended: u64,
    is_fetching: bool,
    has_failed: bool,
    /// When a fetch was last demanded by a request.
    demanded: Option<Instant>,
}

impl KeysSnapshot {
    fn is_newer_than(&self, other: &Self) -> bool {
        self.ended > other.ended && !self.has_failed
    }
}

/// The result of looking for keys newer than those that lack a request's key.
#[derive(Clone, Debug)]
pub enum NewerKeys {
    /// Keys that were fetched since.
    Fetched(KeysSnapshot),
    /// There are none. The keys that were seen are from this time, and it is too early to fetch them again.
    Unchanged(SystemTime),
    /// Unknown, because the server is unreachable or slow.
    Unknown,
}

/// One set of keys, shared by all threads.
#[derive(Debug)]
pub struct RemoteKeys {
    newest: watch::Sender<KeysSnapshot>,
    wanted: Notify,
}

impl RemoteKeys {
    pub(super) fn new() -> Self {
        let newest = KeysSnapshot {
            keys: None,
            fetched_at: None,
            ended: 0,
            // The first fetch begins as soon as the task runs.
            is_fetching: true,
            has_failed: false,
            demanded: None,
        };
        Self { newest: watch::Sender::new(newest), wanted: Notify::new() }
    }

    /// The newest keys.
    pub fn newest(&self) -> KeysSnapshot {
        self.newest.borrow().clone()
    }

    /// Returns newer keys than `seen`, in which a key was missing. Waits for a fetch, for 2 seconds at the most.
    /// Demands one if none is under way, at most once a minute.
    pub async fn newer_than(&self, seen: &KeysSnapshot) -> NewerKeys {
        let now = self.newest_or_demand(seen);
        if now.is_newer_than(seen) {
            return NewerKeys::Fetched(now);
        }
        if !now.is_fetching {
            return match now.fetched_at {
                Some(at) if !now.has_failed => NewerKeys::Unchanged(at),
                _ => NewerKeys::Unknown,
            };
        }
        let mut changes = self.newest.subscribe();
        let ended = changes.wait_for(|newest| newest.ended > now.ended);
        match timeout(MAX_WAIT, ended).await {
            Ok(Ok(newest)) if !newest.has_failed => NewerKeys::Fetched(newest.clone()),
            _ => NewerKeys::Unknown,
        }
    }

    /// The newest keys. If they are those that were seen, demands a fetch, unless one was demanded a moment ago. One
    /// atomic step: of many requests at the same time one demands a fetch, and all wait for it.
    fn newest_or_demand(&self, seen: &KeysSnapshot) -> KeysSnapshot {
        let mut now = seen.clone();
        self.newest.send_if_modified(|newest| {
            let is_due = newest.demanded.is_none_or(|at| at.elapsed() >= DEMAND_INTERVAL);
            // Before the first success the pauses between the fetches are short anyway.
            let may_demand = newest.keys.is_some() && !newest.is_fetching && is_due;
            if may_demand && !newest.is_newer_than(seen) {
                newest.demanded = Some(Instant::now());
                newest.is_fetching = true;
                self.wanted.notify_one();
            }
            now = newest.clone();
            false
        });
        now
    }

    /// Waits until a request demands a fetch.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Records that a fetch begins.
    pub(super) fn fetch_begun(&self) {
        self.newest.send_modify(|newest| newest.is_fetching = true);
    }

    /// Records the end of a fetch. Without `keys` the old ones stay.
    pub(super) fn fetch_ended(&self, keys: Option<KeySet>) {
        self.newest.send_modify(|newest| {
            newest.ended += 1;
            newest.is_fetching = false;
            newest.has_failed = keys.is_none();
            if let Some(keys) = keys {
                newest.keys = Some(Arc::new(keys));
                newest.fetched_at = Some(SystemTime::now());
            }
        });
    }
}
