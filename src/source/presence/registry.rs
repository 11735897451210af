//! The table of this gateway, shared by the streams on all threads and the task that writes to the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ssegate_hub::ChannelName;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::change::{ChangeOutcome, ChannelChange};
use super::local::LocalTable;
use super::lookup::{ChannelPresence, PresenceAway, PresenceLookup};
use super::watched::{WatchedRoute, WatchedRoutes};
use crate::metrics::Metrics;
use crate::route::{PresenceSettings, Router};

/// Requests that wait, at most.
const MAX_LOOKUPS: usize = 256;

/// How long a request may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The members of all channels at this gateway. A cheap handle for any thread.
#[derive(Clone)]
pub struct Presence(Arc<PresenceShared>);

struct PresenceShared {
    table: Mutex<LocalTable>,
    // Notified when the table has a change for the store, or will have one at another time than before.
    news: Notify,
    lookups: mpsc::Sender<PresenceLookup>,
    // The requests, until the task takes the receiver.
    asked: Mutex<Option<PresenceLookups>>,
    metrics: Metrics,
}

/// The table, for the task that writes to the store.
pub(crate) struct PresenceWork(Presence);

/// The requests for what the store has.
pub(crate) type PresenceLookups = mpsc::Receiver<PresenceLookup>;

/// An open stream of a member. It leaves its channels when it is dropped.
pub struct PresentStream {
    presence: Presence,
    channels: Box<[ChannelName]>,
    member: Arc<str>,
}

impl Presence {
    /// Creates a table without members. `router` has the routes of the start.
    pub(crate) fn new(router: &Router, metrics: Metrics) -> Self {
        let (lookups, asked) = mpsc::channel(MAX_LOOKUPS);
        Self(Arc::new(PresenceShared {
            table: Mutex::new(LocalTable::new(WatchedRoutes::of(router))),
            news: Notify::new(),
            lookups,
            asked: Mutex::new(Some(asked)),
            metrics,
        }))
    }

    /// Returns what the task of the store works on; `None` the second time. `renews`: the store forgets leases that are
    /// not renewed.
    pub(crate) fn work(&self, renews: bool) -> Option<(PresenceWork, PresenceLookups)> {
        if renews {
            self.lock().renew();
        }
        let asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        asked.map(|lookups| (PresenceWork(self.clone()), lookups))
    }

    /// Applies the routes of a reload.
    pub(crate) fn change_routes(&self, router: &Router) {
        self.change(|table| table.change_routes(WatchedRoutes::of(router)));
    }

    /// Records that a stream of `member` is open, on these channels of a route that matches `scope`. `prefix_bytes` is
    /// the length of the prefix of their names that clients do not see.
    pub fn join(
        &self,
        channels: Box<[ChannelName]>,
        member: &str,
        (scope, settings, prefix_bytes): (&Arc<str>, &Arc<PresenceSettings>, usize),
    ) -> PresentStream {
        let (now, member) = (Instant::now(), Arc::from(member));
        let route = WatchedRoute { settings: Arc::clone(settings), prefix_bytes };
        self.change(|table| {
            for channel in &channels {
                table.join(channel, &member, (scope, &route), now);
            }
        });
        PresentStream { presence: self.clone(), channels, member }
    }

    /// Returns the members of each of these channels, or only their number.
    ///
    /// # Errors
    /// The members cannot be known now.
    pub async fn look_up(
        &self,
        channels: Vec<ChannelName>,
        is_count: bool,
    ) -> Result<Vec<ChannelPresence>, PresenceAway> {
        let (reply, result) = oneshot::channel();
        let lookup = PresenceLookup { channels, is_count, reply };
        self.0.lookups.try_send(lookup).map_err(|_full| PresenceAway::Busy)?;
        match timeout(LOOKUP_TIMEOUT, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(PresenceAway::Away),
        }
    }

    /// Changes the table, and wakes the task if there is a new change for the store, or one that is due at another
    /// time.
    fn change(&self, change: impl FnOnce(&mut LocalTable)) {
        let (has_news, members) = {
            let mut table = self.lock();
            let before = table.wakes_at();
            change(&mut table);
            (table.wakes_at() != before, table.members())
        };
        self.0.metrics.presence_members(members);
        if has_news {
            self.0.news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LocalTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PresentStream {
    fn drop(&mut self) {
        let now = Instant::now();
        self.presence.change(|table| {
            for channel in &self.channels {
                table.leave(channel, &self.member, now);
            }
        });
    }
}

impl PresenceWork {
    /// Waits until the table has changes for the store. Cancel safe.
    pub(crate) async fn news(&self) {
        loop {
            let wakes_at = self.0.lock().wakes_at();
            let due = async {
                match wakes_at {
                    Some(Some(at)) => tokio::time::sleep_until(at).await,
                    Some(None) => {}
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => return,
                () = self.0.0.news.notified() => {}
            }
        }
    }

    /// Whether there are no members, and no channels are watched.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.lock().is_empty() && !self.is_watching()
    }

    /// Whether channels are watched for gateways that have died.
    pub(crate) fn is_watching(&self) -> bool {
        !self.0.lock().routes().watched().is_empty()
    }

    /// The routes whose channels are watched.
    pub(crate) fn watched(&self) -> Vec<WatchedRoute> {
        self.0.lock().routes().watched().to_vec()
    }

    /// Takes changes for the store, for at most this many channels and members. Each has to be [settled](Self::settle).
    pub(crate) fn take(&self, most: usize) -> Vec<ChannelChange> {
        let now = Instant::now();
        let mut table = self.0.lock();
        table.end_graces(now);
        table.take(most, now)
    }

    /// Records the result of a change at the store.
    pub(crate) fn settle(&self, change: &ChannelChange, outcome: &ChangeOutcome) {
        if let ChangeOutcome::Known(refused) = outcome
            && !refused.is_empty()
        {
            self.0.0.metrics.presence_refused("full", refused.len());
        }
        let mut table = self.0.lock();
        table.settle(change, outcome, Instant::now());
        let members = table.members();
        drop(table);
        self.0.0.metrics.presence_members(members);
    }

    /// Writes everything to the store again: it is not certain what the store has.
    pub(crate) fn begin_anew(&self) {
        self.0.lock().begin_anew();
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PresenceWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresenceWork").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PresentStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresentStream").field("channels", &self.channels).finish_non_exhaustive()
    }
}
