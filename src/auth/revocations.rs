//! The revocations that this gateway knows, and how its shards learn of new ones.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use ssegate_auth::Identity;
use ssegate_auth::revocation::{Revocation, RevocationList};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// Revocations that wait for a shard, at most. Adding another waits for room, which is short: a shard takes all that
/// wait at once.
const MAX_WAITING: usize = 256;

/// The revocations that this gateway knows. A cheap handle, shared by all threads.
#[derive(Clone)]
pub struct Revocations(Arc<RevocationState>);

struct RevocationState {
    list: RwLock<RevocationList>,
    // The length of the list, so that nothing locks an empty one.
    remembered: AtomicUsize,
    // How many were ever added.
    revision: AtomicU64,
    shards: Box<[mpsc::Sender<RevocationNotice>]>,
    metrics: Metrics,
}

/// Tells a shard of a revocation.
#[derive(Debug)]
pub struct RevocationNotice {
    /// What is revoked.
    pub revocation: Arc<Revocation>,
    /// Receives the number of streams that the shard has ended for it.
    pub ended: oneshot::Sender<usize>,
}

/// Where a revocation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationOrigin {
    /// A call on the admin listener of this gateway.
    Admin,
    /// A message on the control channel.
    Channel,
    /// What Redis keeps.
    Stored,
}

/// The streams that one revocation ends, on all shards.
#[derive(Debug)]
pub struct EndedStreams(Vec<oneshot::Receiver<usize>>);

impl RevocationOrigin {
    /// All of them, so that the metric has each from the start.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Channel, Self::Stored];

    /// The value of the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Channel => "channel",
            Self::Stored => "stored",
        }
    }
}

impl Revocations {
    /// No revocations yet. Each receiver is for one shard, which has to read it as long as the shard runs.
    pub fn new(shards: usize, metrics: Metrics) -> (Self, Vec<mpsc::Receiver<RevocationNotice>>) {
        let channels = (0..shards).map(|_| mpsc::channel(MAX_WAITING));
        let (senders, receivers): (Vec<_>, Vec<_>) = channels.unzip();
        let state = RevocationState {
            list: RwLock::default(),
            remembered: AtomicUsize::new(0),
            revision: AtomicU64::new(0),
            shards: senders.into(),
            metrics,
        };
        (Self(Arc::new(state)), receivers)
    }

    /// Whether a credential that is presented at `now` has been revoked. Takes no lock while there are no
    /// revocations.
    pub fn refuses(&self, identity: &Identity, now: SystemTime) -> bool {
        // Acquire: pairs with the store of whoever added the first one.
        self.0.remembered.load(Ordering::Acquire) > 0
            && self.0.list.read().unwrap_or_else(PoisonError::into_inner).refuses(identity, now)
    }

    /// A number that grows with each revocation, so that a caller notices one that came while it was waiting.
    pub fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::Acquire)
    }

    /// Remembers a revocation. Returns whether it is new.
    pub(super) fn remember(&self, revocation: &Revocation, origin: RevocationOrigin) -> bool {
        let mut list = self.0.list.write().unwrap_or_else(PoisonError::into_inner);
        list.purge(SystemTime::now());
        let evicted = list.evicted();
        let is_new = list.add(revocation.clone());
        let (remembered, evicted) = (list.len(), list.evicted() - evicted);
        self.0.remembered.store(remembered, Ordering::Release);
        drop(list);
        if is_new {
            self.0.revision.fetch_add(1, Ordering::Release);
            self.0.metrics.revoked(origin.as_str(), remembered, evicted);
        }
        is_new
    }

    /// Tells all shards to end the streams that `revocation` means.
    pub(super) async fn announce(&self, revocation: Revocation) -> EndedStreams {
        let revocation = Arc::new(revocation);
        let mut counts = Vec::with_capacity(self.0.shards.len());
        for shard in &self.0.shards {
            let (ended, count) = oneshot::channel();
            let notice = RevocationNotice { revocation: Arc::clone(&revocation), ended };
            // Fails if the shard has stopped, and with it its streams.
            if shard.send(notice).await.is_ok() {
                counts.push(count);
            }
        }
        EndedStreams(counts)
    }
}

impl EndedStreams {
    /// Waits until each shard has ended its streams. Returns how many there were.
    pub async fn count(self) -> usize {
        let mut all = 0;
        for count in self.0 {
            all += count.await.unwrap_or_default();
        }
        all
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remembered = self.0.remembered.load(Ordering::Relaxed);
        f.debug_struct("Revocations").field("remembered", &remembered).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use ssegate_auth::Identity;
    use ssegate_auth::revocation::{Revocation, RevocationTarget};

    use super::{RevocationNotice, RevocationOrigin, Revocations};
    use crate::metrics::Metrics;

    fn blocked(id: &str) -> Revocation {
        let target = RevocationTarget::Subject { id: id.into(), is_blocked: true };
        let hour = Duration::from_secs(3600);
        Revocation::new(target, SystemTime::now(), hour).expect("well formed")
    }

    #[tokio::test]
    async fn every_shard_is_told_once_and_the_streams_are_added_up() {
        let (revocations, shards) = Revocations::new(3, Metrics::new().expect("metrics"));
        let (revocation, now) = (blocked("42"), SystemTime::now());
        assert!(!revocations.refuses(&Identity::named("42"), now));
        assert!(revocations.remember(&revocation, RevocationOrigin::Admin));
        assert!(!revocations.remember(&revocation, RevocationOrigin::Channel), "a repetition");
        assert!(revocations.refuses(&Identity::named("42"), now));
        assert!(!revocations.refuses(&Identity::named("43"), now));
        let ended = revocations.announce(revocation.clone()).await;
        let mut shards = shards.into_iter().enumerate();
        // A shard that stops ends its streams without counting them.
        drop(shards.next());
        for (number, mut shard) in shards {
            let RevocationNotice { revocation: told, ended } = shard.recv().await.expect("told");
            assert_eq!(*told, revocation);
            ended.send(number).expect("it is waited for");
        }
        assert_eq!(ended.count().await, 3);
    }
}
