//! All kept streams of this process: found by address, by request and by name, and bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method};
use ssegate_auth::Identity;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::about::{KeptAbout, KeptHead, KeptRequest};
use super::copies::KeptCopies;
use super::grant::{KeptGrant, KeptMemory, STEP};
use super::owner::{Owner, OwnerKey, OwnerTag};
use super::stream::{CancelReason, KeptHome, KeptStream, LostReason, ResumedBy};
use super::stream_id::new_id;
use super::waiting::{WaitingRequest, WaitingRequests};
use crate::metrics::Metrics;
use crate::route::{KeepSettings, KeepStore, SameKey};
use crate::source::SourceLocation;
use crate::source::kept::{KeptLink, KeptStore};

/// All kept streams. A cheap handle, for all threads; it survives reloads.
#[derive(Clone)]
pub struct KeptStreams(pub(super) Arc<KeptShared>);

pub(super) struct KeptShared {
    key: OwnerKey,
    // With a key of its own.
    hasher: RandomState,
    metrics: Metrics,
    // The store that gateways share, if there is a Redis.
    pub(super) store: Option<KeptStore>,
    pub(super) link: Mutex<Option<KeptLink>>,
    pub(super) copies: KeptCopies,
    // Cancelled once all running streams were broken off.
    pub(super) stopping: CancellationToken,
    // The number of losses of Redis after which ended streams were written again.
    pub(super) rewritten: AtomicU64,
    state: Mutex<KeptState>,
}

#[derive(Default)]
struct KeptState {
    streams: HashMap<Box<str>, Arc<KeptStream>>,
    by_name: HashMap<OwnerTag, Vec<Arc<KeptStream>>>,
    // The oldest first.
    by_owner: HashMap<OwnerTag, VecDeque<Arc<KeptStream>>>,
    // When to remove those that have ended.
    ended: BTreeMap<(Instant, u64), Box<str>>,
    due: HashMap<Box<str>, (Instant, u64)>,
    ends: u64,
    // By route.
    memory: HashMap<Arc<str>, Arc<KeptMemory>>,
    waiting: WaitingRequests,
}

/// Why a response is not kept on a route with `keep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum NotKept {
    /// Its owner has the maximum number of streams.
    Owner,
    /// The memory of its route is used up.
    Total,
    /// A stream of its name runs.
    SameName,
    /// Its request was cancelled.
    Cancelled,
}

impl KeptStreams {
    /// How clients come back to a stream, as the metrics name it.
    pub const RESUMED_BY: [&str; 3] = ResumedBy::ALL;
    /// Why streams are cancelled, as the metrics name it.
    pub const CANCELLED_FOR: [&str; 4] = CancelReason::ALL;

    /// Creates an empty registry. If there is a Redis, other gateways can share the streams.
    pub fn new(metrics: Metrics, source: &SourceLocation) -> Self {
        let (store, link) = match source {
            SourceLocation::Embedded(_) => (None, None),
            SourceLocation::Redis(_) => {
                let (store, calls) = KeptStore::new();
                (Some(store.clone()), Some((store, calls)))
            }
        };
        Self(Arc::new(KeptShared {
            key: OwnerKey::generate(),
            hasher: RandomState::new(),
            metrics,
            store,
            link: Mutex::new(link),
            copies: KeptCopies::default(),
            stopping: CancellationToken::new(),
            rewritten: AtomicU64::new(0),
            state: Mutex::default(),
        }))
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The key of a route.
    pub(in crate::service) fn key_of(&self, keep: &KeepSettings) -> OwnerKey {
        match &keep.store {
            KeepStore::Memory => self.0.key.clone(),
            KeepStore::Redis(secret) => OwnerKey::shared(secret),
        }
    }

    fn lock(&self) -> MutexGuard<'_, KeptState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of a request: see [`OwnerKey::owner_of`].
    pub(in crate::service) fn owner_of(
        &self,
        place: (&str, &str),
        keep: &KeepSettings,
        request: (&HeaderMap, Option<&Identity>),
    ) -> Option<Owner> {
        self.key_of(keep).owner_of(place, keep, request)
    }

    /// The stream with this id, of any owner.
    pub(in crate::service) fn get(&self, id: &str) -> Option<Arc<KeptStream>> {
        self.lock().streams.get(id).cloned()
    }

    /// A number below `among` (0 if that is 0) that is always the same for the same id, and that only this process can
    /// compute.
    pub(in crate::service) fn draw(&self, id: &str, among: usize) -> usize {
        let hash = self.0.hasher.hash_one(id);
        usize::try_from(hash % (among.max(1) as u64)).unwrap_or_default()
    }

    /// The streams of an owner, the newest first.
    pub(in crate::service) fn of_owner(&self, owner: &OwnerTag) -> Vec<Arc<KeptStream>> {
        self.lock().by_owner.get(owner).into_iter().flatten().rev().cloned().collect()
    }

    /// The streams of this name, the newest first.
    pub(in crate::service) fn named(&self, name: &OwnerTag) -> Vec<Arc<KeptStream>> {
        self.lock().by_name.get(name).into_iter().flatten().rev().cloned().collect()
    }

    /// The name of a stream, with its owner (and so host and route) and the method.
    pub(in crate::service) fn name(
        &self,
        keep: &KeepSettings,
        owner: &OwnerTag,
        (method, key): (&Method, &str),
    ) -> OwnerTag {
        let parts = [owner.as_bytes(), method.as_str().as_bytes(), key.as_bytes()];
        self.key_of(keep).tag(parts)
    }

    /// Begins a request with a name: it waits for its response from now on. With [`SameKey::Replace`] waiting requests
    /// and running streams of that name are cancelled: the backend sees that before this request. `None`, with
    /// [`SameKey::Reject`], if there are any.
    pub(in crate::service) fn begin(
        &self,
        (name, path): (OwnerTag, &str),
        same_key: SameKey,
    ) -> Option<WaitingRequest> {
        let state = self.lock();
        let older = match same_key {
            SameKey::Parallel => Vec::new(),
            SameKey::Replace | SameKey::Reject => state.running(&name),
        };
        if same_key == SameKey::Reject && (!older.is_empty() || state.waiting.has(&name)) {
            return None;
        }
        let cancelled = match same_key {
            SameKey::Replace => state.waiting.cancel(&name, None),
            SameKey::Parallel | SameKey::Reject => 0,
        };
        let waiting = state.waiting.add(name, path);
        drop(state);
        self.count_cancelled(cancelled, CancelReason::Replaced);
        older.iter().for_each(|stream| stream.cancel(CancelReason::Replaced));
        Some(waiting)
    }

    /// Cancels the requests of a name that wait for their response; with `path`, only those to it.
    pub(in crate::service) fn cancel_waiting(&self, name: &OwnerTag, path: Option<&str>) {
        let cancelled = self.lock().waiting.cancel(name, path);
        self.count_cancelled(cancelled, CancelReason::Deleted);
    }

    fn count_cancelled(&self, requests: usize, why: CancelReason) {
        (0..requests).for_each(|_| self.0.metrics.kept_cancelled(why.as_str()));
    }

    /// Returns a grant of the memory of a route: empty at first.
    pub(in crate::service) fn grant(&self, scope: &Arc<str>) -> KeptGrant {
        KeptGrant::new(self.lock().memory_of(scope), self.0.metrics.clone())
    }

    /// Grants memory for this number of bytes, in steps, from the `total` memory of a route. Removes ended streams to
    /// make room. Returns whether all of it is granted.
    pub(in crate::service) fn cover(
        &self,
        grant: &mut KeptGrant,
        (used, step): (usize, usize),
        (scope, total): (&Arc<str>, usize),
    ) -> bool {
        grant.cover(used, step, total)
            || self.lock().make_room(scope, || grant.cover(used, step, total))
    }

    /// Adds a stream that begins now. `waiting`: its request, if that has a name. With [`SameKey::Replace`] the
    /// running streams of its name are cancelled.
    ///
    /// # Errors
    /// A limit is reached, and no stream has ended; or the stream may not begin any more.
    pub(in crate::service) fn add(
        &self,
        (request, key, head): (KeptRequest, Option<Box<str>>, KeptHead),
        (settings, is_named): (&Arc<KeepSettings>, bool),
        (mut waiting, same_key): (Option<WaitingRequest>, SameKey),
    ) -> Result<Arc<KeptStream>, NotKept> {
        let limits = settings.limits;
        let name =
            key.as_deref().map(|key| self.name(settings, &request.owner, (&request.method, key)));
        let mut state = self.lock();
        if waiting.as_ref().is_some_and(|waiting| waiting.cancelled().is_cancelled()) {
            return Err(NotKept::Cancelled);
        }
        let older = match same_key {
            SameKey::Parallel => Vec::new(),
            SameKey::Replace | SameKey::Reject => {
                name.map_or_else(Vec::new, |name| state.running(&name))
            }
        };
        if same_key == SameKey::Reject && !older.is_empty() {
            return Err(NotKept::SameName);
        }
        let own = state.by_owner.get(&request.owner).map_or(0, VecDeque::len);
        if is_named && own >= limits.per_owner {
            let of_owner = state.by_owner.get(&request.owner).into_iter().flatten();
            let ended = of_owner.clone().find(|stream| stream.is_ended()).cloned();
            let Some(ended) = ended else { return Err(NotKept::Owner) };
            state.remove(&ended);
        }
        let metrics = self.0.metrics.clone();
        let mut grant = KeptGrant::new(state.memory_of(&request.scope), metrics.clone());
        let mut begin = || grant.cover(head.memory(), STEP, limits.total);
        if !begin() && !state.make_room(&request.scope, begin) {
            return Err(NotKept::Total);
        }
        // After all refusals: a refused request releases its name.
        let id = waiting.as_mut().and_then(WaitingRequest::take_id);
        let stream = KeptStream::new(
            id.unwrap_or_else(new_id),
            KeptAbout { request, head, name },
            Arc::clone(settings),
            (KeptHome::Here, milliseconds()),
            (grant, metrics),
        );
        let stream = Arc::new(stream);
        state.streams.insert(stream.id.clone(), Arc::clone(&stream));
        state.by_owner.entry(stream.request.owner).or_default().push_back(Arc::clone(&stream));
        if let Some(name) = stream.name {
            state.by_name.entry(name).or_default().push(Arc::clone(&stream));
        }
        drop(state);
        older.iter().for_each(|stream| stream.cancel(CancelReason::Replaced));
        Ok(stream)
    }

    /// Bounds a stream that has grown. If it gets no more memory, and no ended stream can make room, its own oldest
    /// events are dropped, never those of another running stream. Events that its nearest reader has still to read are
    /// kept, unless that reader has not moved for `patience`. Returns until when the stream may not grow, if the
    /// reader does not move.
    pub(in crate::service) fn bound(
        &self,
        stream: &KeptStream,
        patience: Duration,
    ) -> Option<Instant> {
        let waits = stream.trim(usize::MAX, patience);
        let route = (&stream.request.scope, stream.settings.limits.total);
        let mut grant = stream.grant();
        if waits.is_some() || self.cover(&mut grant, (stream.memory(), STEP), route) {
            return waits;
        }
        let waits = stream.trim(grant.granted(), patience);
        grant.cover(stream.memory(), STEP, route.1);
        waits
    }

    /// The streams that have ended.
    pub(super) fn ended(&self) -> Vec<Arc<KeptStream>> {
        self.lock().streams.values().filter(|stream| stream.is_ended()).cloned().collect()
    }

    /// Breaks off all running streams: the gateway stops.
    pub(in crate::service) fn lose_all(&self) {
        self.0.stopping.cancel();
        let streams: Vec<_> = self.lock().streams.values().cloned().collect();
        streams.iter().for_each(|stream| stream.lose(LostReason::Drained));
    }

    /// Schedules the removal of a stream that has ended, after the time that its route sets.
    pub(in crate::service) fn schedule(&self, stream: &KeptStream) {
        stream.grant().settle();
        let mut state = self.lock();
        state.ends += 1;
        let due = (Instant::now() + stream.settings.after_end, state.ends);
        // The stream may have been removed already, to make room.
        if state.streams.contains_key(&stream.id) {
            state.ended.insert(due, stream.id.clone());
            state.due.insert(stream.id.clone(), due);
        }
    }

    /// Removes the streams that are due. Called every [`TIMER_TICK`](ssegate_hub::TIMER_TICK).
    pub(in crate::service) fn forget_due(&self, now: Instant) {
        let mut state = self.lock();
        while let Some(((due, _), id)) = state.ended.first_key_value()
            && *due <= now
        {
            let stream = state.streams.get(id).cloned();
            state.ended.pop_first();
            if let Some(stream) = stream {
                state.remove(&stream);
            }
        }
    }
}

impl KeptState {
    fn memory_of(&mut self, scope: &Arc<str>) -> Arc<KeptMemory> {
        Arc::clone(self.memory.entry(Arc::clone(scope)).or_default())
    }

    /// The running streams of a name.
    fn running(&self, name: &OwnerTag) -> Vec<Arc<KeptStream>> {
        let of_name = self.by_name.get(name).into_iter().flatten();
        of_name.filter(|stream| !stream.is_ended()).cloned().collect()
    }

    /// Removes ended streams of a route without readers, the oldest first, until there is room. Returns whether there
    /// is.
    fn make_room(&mut self, scope: &Arc<str>, mut has_room: impl FnMut() -> bool) -> bool {
        loop {
            let of_route =
                |stream: &&Arc<KeptStream>| stream.request.scope == *scope && !stream.has_readers();
            let mut ended = self.ended.values().filter_map(|id| self.streams.get(id));
            let Some(oldest) = ended.find(of_route).cloned() else { return false };
            self.remove(&oldest);
            drop(oldest);
            if has_room() {
                return true;
            }
        }
    }

    fn remove(&mut self, stream: &Arc<KeptStream>) {
        self.streams.remove(&stream.id);
        if let Some(due) = self.due.remove(&stream.id) {
            self.ended.remove(&due);
        }
        if let Some(streams) = self.by_owner.get_mut(&stream.request.owner) {
            streams.retain(|other| !Arc::ptr_eq(other, stream));
            if streams.is_empty() {
                self.by_owner.remove(&stream.request.owner);
            }
        }
        if let Some(name) = &stream.name
            && let Some(streams) = self.by_name.get_mut(name)
        {
            streams.retain(|other| !Arc::ptr_eq(other, stream));
            if streams.is_empty() {
                self.by_name.remove(name);
            }
        }
    }
}

/// The time, in milliseconds since 1970.
pub(super) fn milliseconds() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for KeptStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.lock().streams.len();
        f.debug_struct("KeptStreams").field("streams", &streams).finish_non_exhaustive()
    }
}
