//! All shared streams of this process: found by their question, bounded, and remembered for a while if a question has
//! none.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::piece::{SharedPiece, SharedPieceKind};
use super::question::QuestionKey;
use super::readers::{SharedReader, SharedReaders};
use super::upstream::{SharedEnd, SharedPhase, SharedUpstream};
use crate::metrics::Metrics;
use crate::route::ProxySettings;

/// How long it is remembered that a question has no shared stream. Until then its requests do not wait for each other.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Questions that are remembered, at most.
const MAX_REMEMBERED: usize = 1_000;
/// Pieces that wait for the source, at most. Beyond it pumps wait, and so do their backends.
pub(super) const MAX_PIECES: usize = 256;

/// All shared streams. A cheap handle, for all threads; it survives reloads.
#[derive(Clone)]
pub struct SharedStreams(Arc<SharedStreamsState>);

struct SharedStreamsState {
    metrics: Metrics,
    pieces: mpsc::Sender<SharedPiece>,
    // Streams whose end the source does not know yet. Each is here at most once, so that an end need not wait for room.
    ended: Mutex<Vec<Arc<SharedUpstream>>>,
    any_ended: Notify,
    is_draining: AtomicBool,
    table: Mutex<UpstreamTable>,
}

#[derive(Default)]
struct UpstreamTable {
    by_key: HashMap<QuestionKey, Arc<SharedUpstream>>,
    by_name: HashMap<Box<str>, Arc<SharedUpstream>>,
    // By route.
    counts: HashMap<Arc<str>, usize>,
    remembered: HashMap<QuestionKey, RememberedEnd>,
    newest: u64,
}

/// Why a question has no shared stream.
struct RememberedEnd {
    until: Instant,
    end: SharedEnd,
    // The stream to which the backend has responded so.
    upstream: Arc<SharedUpstream>,
    // Whether the stream had events before.
    was_open: bool,
    // The id of the backend after which it has no more events.
    after: Option<Box<[u8]>>,
}

impl UpstreamTable {
    /// Joins the stream of a key, if there is one or it is remembered that there is none.
    fn join_known(
        &mut self,
        key: &QuestionKey,
        position: SharedPosition<'_>,
        backend: &Arc<ProxySettings>,
    ) -> Option<SharedJoin> {
        if let Some(upstream) = self.by_key.get(key)
            && upstream.backend == *backend
            && let Some(reader) = upstream.readers.add()
        {
            return Some(SharedJoin::Later(Arc::clone(upstream), reader));
        }
        let known = self.remembered.get(key)?;
        if known.until <= Instant::now() || known.upstream.backend != *backend {
            self.remembered.remove(key);
            return None;
        }
        known.holds_at(position).then_some(SharedJoin::Remembered(known.end))
    }

    /// Closes the stream of a route that has had no reader for the longest time. Returns whether there was one.
    fn close_unread(&mut self, scope: &Arc<str>) -> bool {
        let of_route = self.by_name.values().filter(|upstream| upstream.scope == *scope);
        let unread =
            of_route.filter_map(|upstream| Some((upstream.readers.unread_since()?, upstream)));
        let Some((_, oldest)) = unread.min_by_key(|(since, _)| *since) else { return false };
        let oldest = Arc::clone(oldest);
        // Its pump ends at once. Readers are added under this lock only.
        oldest.readers.close();
        self.discount(&oldest);
        true
    }

    /// Stops counting a stream against the limit of its route.
    fn discount(&mut self, upstream: &SharedUpstream) {
        if !upstream.is_counted.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(count) = self.counts.get_mut(&upstream.scope) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&upstream.scope);
            }
        }
    }
}

/// The position of a request in its stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct SharedPosition<'a> {
    /// The last event id of its reader.
    pub(in crate::service) id: Option<&'a [u8]>,
    /// Whether it has the form of an id of a gateway.
    pub(in crate::service) is_ours: bool,
    /// The number of the event, if the id is one of this process.
    pub(in crate::service) number: Option<u64>,
}

impl SharedPosition<'_> {
    /// The key of a stream that the backend begins after its own id; `None` for a position without such an id.
    fn begun(&self, key: &QuestionKey) -> Option<QuestionKey> {
        self.id.filter(|_| !self.is_ours).map(|id| key.after(id))
    }
}

impl RememberedEnd {
    /// Whether it applies to a reader at this position. Readers of a stream that the backend has ended may have only a
    /// part of it: only a reader with its last event has all of it. A reader without an id is where the gateway was, if
    /// the gateway had no id to ask with.
    fn holds_at(&self, position: SharedPosition<'_>) -> bool {
        let has_all = position.number.is_some_and(|number| self.upstream.ends_at(number));
        has_all || !self.was_open || position.id == self.after.as_deref()
    }
}

/// The receiver of the pieces of all pumps, for [`SharedSource`](super::source::SharedSource).
#[derive(Debug)]
pub struct SharedPieces(pub(super) mpsc::Receiver<SharedPiece>);

/// What happens to a request that may share a stream.
#[derive(Debug)]
pub(in crate::service) enum SharedJoin {
    /// It is the first of its stream, and its caller has to start the pump.
    First(Arc<SharedUpstream>, SharedReader, SharedFeed),
    /// It joins a stream that another request has begun.
    Later(Arc<SharedUpstream>, SharedReader),
    /// There is none to share: the backend has responded so a moment ago.
    Remembered(SharedEnd),
    /// The route has the maximum number.
    Full,
}

impl SharedStreams {
    /// Why streams end, as the metrics name it.
    pub const ENDED_FOR: [&str; 6] = [
        SharedEnd::Unshared.as_str(),
        SharedEnd::NoContent.as_str(),
        SharedEnd::NothingAfter.as_str(),
        SharedEnd::Failed.as_str(),
        SharedEnd::Replaced.as_str(),
        SharedEnd::Left.as_str(),
    ];

    /// Starts without streams.
    pub fn new(metrics: Metrics) -> (Self, SharedPieces) {
        let (pieces, received) = mpsc::channel(MAX_PIECES);
        let (is_draining, table) = (AtomicBool::new(false), Mutex::default());
        let (ended, any_ended) = (Mutex::default(), Notify::new());
        let state = SharedStreamsState { metrics, pieces, ended, any_ended, is_draining, table };
        (Self(Arc::new(state)), SharedPieces(received))
    }

    pub(in crate::service) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn lock(&self) -> MutexGuard<'_, UpstreamTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the stream of a question, or begins one if the route with this scope has less than `most` streams with
    /// readers: others are closed to make room. A stream of the backend that the route had before a reload keeps its
    /// readers and is not joined.
    pub(in crate::service) fn join(
        &self,
        key: &QuestionKey,
        position: SharedPosition<'_>,
        (scope, backend, path): (&Arc<str>, &Arc<ProxySettings>, &str),
        most: usize,
    ) -> SharedJoin {
        let mut table = self.lock();
        if let Some(joined) = table.join_known(key, position, backend) {
            return joined;
        }
        // A reader that begins at an id shares the stream only with readers that begin there, too: the id is the
        // reader's own, and must not decide what others are sent.
        let begun = position.begun(key);
        if let Some(begun) = &begun
            && let Some(joined) = table.join_known(begun, position, backend)
        {
            return joined;
        }
        let count = table.counts.get(scope).copied().unwrap_or_default();
        if count >= most && !table.close_unread(scope) {
            return SharedJoin::Full;
        }
        let readers = SharedReaders::new(self.0.metrics.clone());
        let Some(reader) = readers.add() else { return SharedJoin::Full };
        *table.counts.entry(Arc::clone(scope)).or_default() += 1;
        table.newest += 1;
        let route = (Arc::clone(scope), Arc::clone(backend));
        let (own, name) = (begun.unwrap_or_else(|| key.clone()), (table.newest, path));
        let upstream = SharedUpstream::new(own.clone(), route, name, readers);
        let upstream = Arc::new(upstream);
        table.by_key.insert(own, Arc::clone(&upstream));
        table.by_name.insert(upstream.name().into(), Arc::clone(&upstream));
        drop(table);
        self.0.metrics.shared_upstreams(1);
        let feed = SharedFeed {
            upstream: Arc::clone(&upstream),
            question: key.clone(),
            streams: self.clone(),
            end: SharedEnd::Failed,
            after: None,
        };
        SharedJoin::First(upstream, reader, feed)
    }

    /// Whether the backend is asked this question, now or when the stream has ended.
    pub(in crate::service) fn is_asked(
        &self,
        key: &QuestionKey,
        position: SharedPosition<'_>,
    ) -> bool {
        let table = self.lock();
        let begun = position.begun(key);
        [Some(key), begun.as_ref()].into_iter().flatten().any(|key| table.by_key.contains_key(key))
    }

    /// The stream with this name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<SharedUpstream>> {
        self.lock().by_name.get(name).cloned()
    }

    /// Waits until streams have ended, and takes them. The last pieces of their pumps are in the queue by then. Cancel
    /// safe.
    pub(super) async fn ended(&self) -> Vec<Arc<SharedUpstream>> {
        self.0.any_ended.notified().await;
        std::mem::take(&mut *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on streams end with their last reader: the gateway stops.
    pub(in crate::service) fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.lock().by_name.values().for_each(|upstream| upstream.readers.notify());
    }

    fn forget(
        &self,
        (upstream, question): (&Arc<SharedUpstream>, &QuestionKey),
        (end, after, was_open): (SharedEnd, Option<Box<[u8]>>, bool),
    ) {
        let mut table = self.lock();
        table.by_name.remove(upstream.name());
        // Another stream may have taken its place, once it was closed or its route had another backend.
        if table.by_key.get(&upstream.key).is_some_and(|known| Arc::ptr_eq(known, upstream)) {
            table.by_key.remove(&upstream.key);
        }
        table.discount(upstream);
        if end.is_remembered() {
            let now = Instant::now();
            if table.remembered.len() >= MAX_REMEMBERED {
                table.remembered.retain(|_, known| now < known.until);
            }
            if table.remembered.len() < MAX_REMEMBERED {
                let is_end = end == SharedEnd::NoContent && was_open;
                let key = match &after {
                    // Readers that reconnect from its end do not care where it was begun.
                    Some(after) if upstream.key != *question => question.after(after),
                    _ if end == SharedEnd::Unshared => question.clone(),
                    _ => upstream.key.clone(),
                };
                let (until, upstream) = (now + REMEMBERED, Arc::clone(upstream));
                let remembered = RememberedEnd { until, end, upstream, was_open: is_end, after };
                table.remembered.insert(key, remembered);
            }
        }
        drop(table);
        self.0.metrics.shared_upstreams(-1);
    }
}

impl fmt::Debug for SharedStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStreams").finish_non_exhaustive()
    }
}

/// The pump's side of a shared stream. When it is dropped the stream has ended, even if the pump has panicked.
#[derive(Debug)]
pub(in crate::service) struct SharedFeed {
    upstream: Arc<SharedUpstream>,
    // The key without the id with which the stream was begun.
    question: QuestionKey,
    streams: SharedStreams,
    end: SharedEnd,
    after: Option<Box<[u8]>>,
}

impl SharedFeed {
    /// The stream.
    pub(super) fn upstream(&self) -> &SharedUpstream {
        &self.upstream
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.streams.metrics()
    }

    /// Hands a piece to the source; waits while the queue is full.
    pub(super) async fn send(&self, what: SharedPieceKind) {
        let (upstream, received) = (Arc::clone(&self.upstream), Instant::now());
        // The source is gone: the gateway has stopped.
        drop(self.streams.0.pieces.send(SharedPiece { upstream, received, what }).await);
    }

    /// Waits until the stream has a reader.
    pub(super) async fn read(&self) {
        self.upstream.readers.read().await;
    }

    /// Waits until the stream had no reader for `leave`. No reader may come after that.
    pub(super) async fn unread(&self, leave: Duration) {
        let is_draining = &self.streams.0.is_draining;
        let leave = || match is_draining.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => leave,
        };
        self.upstream.readers.unread(leave).await;
    }

    /// Ends the stream for this reason. `after`: the id with which the backend was last asked.
    pub(super) fn end(mut self, end: SharedEnd, after: &[u8]) {
        let is_after = end == SharedEnd::NoContent && !after.is_empty();
        self.after = is_after.then(|| after.into());
        self.end = end;
    }
}

impl Drop for SharedFeed {
    fn drop(&mut self) {
        let was_open = matches!(self.upstream.phase(), SharedPhase::Open(_));
        let after = self.after.take();
        self.streams.forget((&self.upstream, &self.question), (self.end, after, was_open));
        self.upstream.readers.close();
        self.upstream.set_phase(SharedPhase::Closed(self.end));
        self.streams.metrics().shared_ended(self.end.as_str());
        if was_open {
            let SharedStreamsState { ended, any_ended, .. } = &*self.streams.0;
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.push(Arc::clone(&self.upstream));
            any_ended.notify_one();
        }
    }
}
