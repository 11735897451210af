//! All shared streams of this process: found by their question, bounded, and remembered for a while where there is
//! none.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::piece::{Piece, PieceKind};
use super::question::QuestionKey;
use super::upstream::{SharedEnd, SharedPhase, SharedReader, SharedUpstream};
use crate::metrics::Metrics;

/// How long it is remembered that a question has no stream to share: so long its requests do not wait for one another.
const REMEMBERED: Duration = Duration::from_secs(30);
/// The most questions of which that is remembered.
const MAX_REMEMBERED: usize = 1_000;
/// The most pieces that wait for the source. Pumps wait when there are more, and with them their backends.
const MAX_PIECES: usize = 256;

/// All shared streams. A cheap handle, for all threads; it survives reloads.
#[derive(Clone)]
pub struct SharedStreams(Arc<SharedStreamsState>);

struct SharedStreamsState {
    metrics: Metrics,
    pieces: mpsc::Sender<Piece>,
    is_draining: AtomicBool,
    table: Mutex<UpstreamTable>,
}

#[derive(Default)]
struct UpstreamTable {
    by_key: HashMap<QuestionKey, Arc<SharedUpstream>>,
    by_name: HashMap<Box<str>, Arc<SharedUpstream>>,
    // By route.
    counts: HashMap<Arc<str>, usize>,
    remembered: HashMap<QuestionKey, (Instant, SharedEnd)>,
    newest: u64,
}

/// The ends of what pumps send, for [`SharedSource`](super::source::SharedSource).
#[derive(Debug)]
pub struct SharedPieces(pub(super) mpsc::Receiver<Piece>);

/// What becomes of a request that may share a stream.
#[derive(Debug)]
pub(in crate::service) enum SharedJoin {
    /// It is the first of its stream, and has to see to it that the backend is asked.
    First(SharedReader, SharedFeed),
    /// It shares one that others have begun.
    Later(SharedReader),
    /// There is none to share, as the backend has said a moment ago.
    Remembered(SharedEnd),
    /// The route has as many as it may have.
    Full,
}

impl SharedStreams {
    /// Why streams end, as the metrics name it.
    pub const ENDED_FOR: [&str; 4] = [
        SharedEnd::Unshared.as_str(),
        SharedEnd::NoContent.as_str(),
        SharedEnd::Failed.as_str(),
        SharedEnd::Left.as_str(),
    ];

    /// No streams yet.
    pub fn new(metrics: Metrics) -> (Self, SharedPieces) {
        let (pieces, received) = mpsc::channel(MAX_PIECES);
        let (is_draining, table) = (AtomicBool::new(false), Mutex::default());
        let state = SharedStreamsState { metrics, pieces, is_draining, table };
        (Self(Arc::new(state)), SharedPieces(received))
    }

    pub(in crate::service) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn lock(&self) -> MutexGuard<'_, UpstreamTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the stream of a question, or begins one, if its route, which has this scope, has less than `most`.
    pub(in crate::service) fn join(
        &self,
        key: &QuestionKey,
        (scope, path): (&Arc<str>, &str),
        most: usize,
    ) -> SharedJoin {
        let mut table = self.lock();
        if let Some(upstream) = table.by_key.get(key)
            && upstream.add_reader()
        {
            return SharedJoin::Later(SharedReader::new(Arc::clone(upstream), self));
        }
        if let Some((until, end)) = table.remembered.get(key).copied() {
            if Instant::now() < until {
                return SharedJoin::Remembered(end);
            }
            table.remembered.remove(key);
        }
        let count = table.counts.entry(Arc::clone(scope)).or_default();
        if *count >= most {
            return SharedJoin::Full;
        }
        *count += 1;
        table.newest += 1;
        let upstream = SharedUpstream::new(key.clone(), Arc::clone(scope), table.newest, path);
        let upstream = Arc::new(upstream);
        upstream.add_reader();
        table.by_key.insert(key.clone(), Arc::clone(&upstream));
        table.by_name.insert(upstream.name().into(), Arc::clone(&upstream));
        drop(table);
        self.0.metrics.shared_upstreams(1);
        let feed = SharedFeed {
            upstream: Arc::clone(&upstream),
            streams: self.clone(),
            end: SharedEnd::Failed,
        };
        SharedJoin::First(SharedReader::new(upstream, self), feed)
    }

    /// The stream with this name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<SharedUpstream>> {
        self.lock().by_name.get(name).cloned()
    }

    /// Streams are left with their last reader from now on: the gateway stops.
    pub(in crate::service) fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.lock().by_name.values().for_each(|upstream| upstream.notify());
    }

    fn forget(&self, upstream: &Arc<SharedUpstream>, end: SharedEnd) {
        let mut table = self.lock();
        table.by_name.remove(upstream.name());
        // Another may have taken its place, once it was closed.
        if table.by_key.get(&upstream.key).is_some_and(|known| Arc::ptr_eq(known, upstream)) {
            table.by_key.remove(&upstream.key);
        }
        if let Some(count) = table.counts.get_mut(&upstream.scope) {
            *count -= 1;
            if *count == 0 {
                table.counts.remove(&upstream.scope);
            }
        }
        if matches!(end, SharedEnd::Unshared | SharedEnd::NoContent) {
            let now = Instant::now();
            if table.remembered.len() >= MAX_REMEMBERED {
                table.remembered.retain(|_, (until, _)| now < *until);
            }
            if table.remembered.len() < MAX_REMEMBERED {
                table.remembered.insert(upstream.key.clone(), (now + REMEMBERED, end));
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

/// The pump's side of a shared stream. When it is dropped the stream has ended, also if that is because the pump has
/// panicked.
#[derive(Debug)]
pub(in crate::service) struct SharedFeed {
    upstream: Arc<SharedUpstream>,
    streams: SharedStreams,
    end: SharedEnd,
}

impl SharedFeed {
    /// The stream.
    pub(super) fn upstream(&self) -> &SharedUpstream {
        &self.upstream
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.streams.metrics()
    }

    /// Hands a piece to the source; waits while it has too many.
    pub(super) async fn send(&self, what: PieceKind) {
        let piece = Piece { upstream: Arc::clone(&self.upstream), received: Instant::now(), what };
        // The source is gone: the gateway has stopped.
        drop(self.streams.0.pieces.send(piece).await);
    }

    /// Waits until the stream had no reader for `leave`. No reader comes after that.
    pub(super) async fn unread(&self, leave: Duration) {
        let is_draining = &self.streams.0.is_draining;
        let leave = || match is_draining.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => leave,
        };
        self.upstream.unread(leave).await;
    }

    /// The stream ends for this reason.
    pub(super) fn end(mut self, end: SharedEnd) {
        self.end = end;
    }
}

impl Drop for SharedFeed {
    fn drop(&mut self) {
        let was_open = matches!(self.upstream.phase(), SharedPhase::Open(_));
        self.streams.forget(&self.upstream, self.end);
        self.upstream.close();
        self.upstream.set_phase(SharedPhase::Closed(self.end));
        self.streams.metrics().shared_ended(self.end.as_str());
        if was_open {
            let (pieces, upstream) = (self.streams.0.pieces.clone(), Arc::clone(&self.upstream));
            let piece = Piece { upstream, received: Instant::now(), what: PieceKind::End };
            if let Err(mpsc::error::TrySendError::Full(piece)) = pieces.try_send(piece) {
                // On the thread of a shard, whose tasks end with it.
                drop(tokio::task::spawn_local(async move { drop(pieces.send(piece).await) }));
            }
        }
    }
}
