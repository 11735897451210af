//! The table of this gateway, as the streams on all threads share it with the task that tells the store.

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

/// Questions that wait, at most.
const MAX_LOOKUPS: usize = 256;

/// How long a question may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Who listens to which channel. A cheap handle for any thread.
#[derive(Clone)]
pub struct Presence(Arc<PresenceShared>);

struct PresenceShared {
    table: Mutex<LocalTable>,
    // The table has something to tell, or will have at another time than before.
    news: Notify,
    lookups: mpsc::Sender<PresenceLookup>,
    // Until the task takes it.
    asked: Mutex<Option<PresenceLookups>>,
    metrics: Metrics,
}

/// The table, for the task that tells the store.
pub(crate) struct PresenceWork(Presence);

/// What requests want to know of the store.
pub(crate) type PresenceLookups = mpsc::Receiver<PresenceLookup>;

/// An open stream of a member. It leaves its channels when it is dropped.
pub struct PresentStream {
    presence: Presence,
    channels: Box<[ChannelName]>,
    member: Arc<str>,
}

impl Presence {
    /// Nobody is there. `router` has the routes of the start.
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

    /// What the task of the store works on; `None` the second time. `renews`: the store forgets what is not said again.
    pub(crate) fn work(&self, renews: bool) -> Option<(PresenceWork, PresenceLookups)> {
        if renews {
            self.lock().renew();
        }
        let asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        asked.map(|lookups| (PresenceWork(self.clone()), lookups))
    }

    /// After a reload: what counts now.
    pub(crate) fn change_routes(&self, router: &Router) {
        self.change(|table| table.change_routes(WatchedRoutes::of(router)));
    }

    /// A stream of `member` is open, on these channels of a route that matches `scope`. `prefix_bytes` is the length of
    /// what clients do not see of their names.
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

    /// Who listens to each of these channels, or only how many.
    ///
    /// # Errors
    /// That cannot be known now.
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

    /// Changes the table, and wakes the task if there is something to tell, or to wait for, that was not there before.
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
    /// Waits until the table has something to tell. Cancel safe.
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

    /// Whether nobody is there, and nobody is waited for.
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

    /// What the store has to be told now, for at most so many channels and members. Each has to be
    /// [settled](Self::settle).
    pub(crate) fn take(&self, most: usize) -> Vec<ChannelChange> {
        let now = Instant::now();
        let mut table = self.0.lock();
        table.end_graces(now);
        table.take(most, now)
    }

    /// The store has taken a change.
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

    /// What the store knows is not certain: all of it has to be said again.
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
