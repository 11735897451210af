//! One kept stream: its description, its log, its readers, and its end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::about::{KeptAbout, KeptHead, KeptRequest};
use super::grant::KeptGrant;
use super::log::{LogPlace, Position, StreamEnd};
use super::memory_log::MemoryLog;
use super::owner::OwnerTag;
use crate::metrics::Metrics;
use crate::route::{KeepSettings, WhenNobody};

/// How often to check whether a position is known.
const LOOK: Duration = Duration::from_millis(10);

/// How a client came back, as the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum ResumedBy {
    /// To the address of the stream.
    Address,
    /// With the very same request.
    Request,
    /// By the name of the stream.
    Name,
}

impl ResumedBy {
    pub(in crate::service) const ALL: [&'static str; 3] = ["address", "name", "request"];

    /// The label value in the metrics.
    pub(in crate::service) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Request => "request",
            Self::Name => "name",
        }
    }
}

/// Why a stream was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum CancelReason {
    /// Its owner has requested it.
    Deleted,
    /// Nobody read it.
    Nobody,
    /// Another one of its name has begun.
    Replaced,
    /// The credential of its first reader was revoked.
    Revoked,
}

impl CancelReason {
    pub(in crate::service) const ALL: [&'static str; 4] =
        ["deleted", "nobody", "replaced", "revoked"];

    /// The label value in the metrics.
    pub(in crate::service) fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Nobody => "nobody",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
        }
    }
}

/// Why the rest of a stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum LostReason {
    Backend,
    Age,
    Drained,
    /// Another gateway has taken this one for dead, and reported the loss to its readers.
    Fenced,
    /// For a copy with readers: Redis is away, or the gateway that pumps the stream has lost it. That gateway has
    /// counted the loss, too, unless it has died.
    Elsewhere,
}

impl LostReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Age => "age",
            Self::Drained => "drained",
            Self::Fenced => "fenced",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// The readers of a stream.
#[derive(Debug)]
struct KeptReaders {
    count: usize,
    // Since when there are none.
    nobody_since: Option<Instant>,
    had_one: bool,
    // Whether one of them stands for all readers at other gateways.
    has_elsewhere: bool,
}

/// At which gateway a stream is pumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum KeptHome {
    Here,
    /// At another gateway: this is a copy of what Redis has, or only a description.
    Elsewhere,
}

/// One kept stream.
pub(in crate::service) struct KeptStream {
    pub(in crate::service) id: Box<str>,
    /// Its name, with its owner and method.
    pub(in crate::service) name: Option<OwnerTag>,
    pub(in crate::service) request: KeptRequest,
    pub(in crate::service) head: KeptHead,
    pub(in crate::service) settings: Arc<KeepSettings>,
    pub(in crate::service) log: MemoryLog,
    /// When it began, in milliseconds since 1970.
    pub(in crate::service) began_at: u64,
    pub(in crate::service) home: KeptHome,
    began: Instant,
    grant: Mutex<KeptGrant>,
    head_bytes: usize,
    readers: Mutex<KeptReaders>,
    // Notified when the pump has something to check.
    changed: Arc<Notify>,
    metrics: Metrics,
    // Whether its events have ids of the gateway.
    is_numbered: OnceLock<bool>,
}

impl KeptStream {
    /// Creates a stream that begins now, or that began earlier elsewhere. `changed` is notified, too, when a reader
    /// moves for which its log waits.
    pub(in crate::service) fn new(
        id: Box<str>,
        KeptAbout { request, head, name }: KeptAbout,
        settings: Arc<KeepSettings>,
        (home, began_at): (KeptHome, u64),
        (grant, metrics): (KeptGrant, Metrics),
    ) -> Self {
        let head_bytes = head.memory();
        let began = Instant::now();
        // A description is not counted, and a copy is counted by its copier.
        if home == KeptHome::Here {
            metrics.kept_state(None, Some(state_word(None)));
        }
        let changed = Arc::<Notify>::default();
        let limits = settings.limits;
        let log = MemoryLog::new(limits.bytes, limits.events, Arc::clone(&changed));
        Self {
            id,
            name,
            request,
            head,
            settings,
            log,
            began_at,
            home,
            began,
            grant: Mutex::new(grant),
            head_bytes,
            readers: Mutex::new(KeptReaders {
                count: 0,
                nobody_since: Some(began),
                had_one: false,
                has_elsewhere: false,
            }),
            changed,
            metrics,
            is_numbered: OnceLock::new(),
        }
    }

    fn lock_readers(&self) -> MutexGuard<'_, KeptReaders> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its grant of the memory of its route. Lock it before the [registry](super::registry), never while the registry
    /// is locked.
    pub(in crate::service) fn grant(&self) -> MutexGuard<'_, KeptGrant> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory that it takes, in bytes.
    pub(in crate::service) fn memory(&self) -> usize {
        self.head_bytes + self.log.memory()
    }

    /// Drops its oldest events beyond its limits, and beyond this many bytes of memory: see [`MemoryLog::trim`].
    pub(in crate::service) fn trim(&self, memory: usize, patience: Duration) -> Option<Instant> {
        self.log.trim(memory.saturating_sub(self.head_bytes), patience)
    }

    /// Records whether its events have ids of the gateway.
    pub(in crate::service) fn set_numbered(&self, is_numbered: bool) {
        self.is_numbered.get_or_init(|| is_numbered);
    }

    /// The id of the event with this number; `None` if events have ids of the backend.
    pub(in crate::service) fn event_id(&self, number: u64) -> Option<String> {
        self.is_numbered.get().filter(|is| **is).map(|_| format!("{}-{number}", self.id))
    }

    /// Counts one more reader.
    pub(in crate::service) fn reader_came(&self) {
        let mut readers = self.lock_readers();
        readers.count += 1;
        let since = readers.nobody_since.take().filter(|_| readers.had_one);
        readers.had_one = true;
        drop(readers);
        if let Some(since) = since {
            self.metrics.kept_unread(since.elapsed());
        }
        self.changed.notify_one();
    }

    /// Sets whether it has readers at other gateways.
    pub(in crate::service) fn set_read_elsewhere(&self, is_read: bool) {
        let mut readers = self.lock_readers();
        if std::mem::replace(&mut readers.has_elsewhere, is_read) == is_read {
            return;
        }
        drop(readers);
        match is_read {
            true => self.reader_came(),
            false => self.reader_left(),
        }
    }

    /// Waits until this position is known, or the stream has ended: a copy may get it later.
    pub(super) async fn reaches(&self, position: &Position) {
        let is_unknown = || self.log.locate(position) == LogPlace::Unknown && !self.is_ended();
        if !is_unknown() {
            return;
        }
        // A reader makes a copy read on at once.
        let _reading = CopyReading::new(self);
        while is_unknown() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its description.
    pub(super) fn about(&self) -> KeptAbout {
        let (request, head) = (self.request.clone(), self.head.clone());
        KeptAbout { request, head, name: self.name }
    }

    /// Whether its events have ids of the gateway; `None`: it is not known yet.
    pub(super) fn numbers_events(&self) -> Option<bool> {
        self.is_numbered.get().copied()
    }

    /// Counts one reader less.
    pub(in crate::service) fn reader_left(&self) {
        let mut readers = self.lock_readers();
        readers.count -= 1;
        if readers.count == 0 {
            readers.nobody_since = Some(Instant::now());
            drop(readers);
            self.changed.notify_one();
        }
    }

    /// Whether it has readers.
    pub(in crate::service) fn has_readers(&self) -> bool {
        self.lock_readers().count > 0
    }

    /// When to check it again, if nothing changes.
    pub(in crate::service) fn deadline(&self) -> Instant {
        let oldest = self.began + self.settings.limits.age;
        self.nobody_deadline().map_or(oldest, |deadline| deadline.min(oldest))
    }

    fn nobody_deadline(&self) -> Option<Instant> {
        let WhenNobody::CancelAfter(time) = self.settings.when_nobody else { return None };
        self.lock_readers().nobody_since.map(|since| since + time)
    }

    /// Ends it if it is too old, or had no reader for too long.
    pub(in crate::service) fn check(&self, now: Instant) {
        if now >= self.began + self.settings.limits.age {
            self.lose(LostReason::Age);
        } else if self.nobody_deadline().is_some_and(|deadline| now >= deadline) {
            self.cancel(CancelReason::Nobody);
        }
    }

    /// Waits until the pump has something to check.
    pub(in crate::service) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether it has ended.
    pub(in crate::service) fn is_ended(&self) -> bool {
        self.log.extent().end.is_some()
    }

    /// Cancels it, if it is running.
    pub(in crate::service) fn cancel(&self, why: CancelReason) {
        if self.end(StreamEnd::Cancelled) {
            self.metrics.kept_cancelled(why.as_str());
        }
    }

    /// Ends it as lost: the rest of it does not exist.
    pub(in crate::service) fn lose(&self, why: LostReason) {
        if self.end(StreamEnd::Lost) {
            self.metrics.kept_lost(why.as_str());
        }
    }

    /// Ends it as complete: the backend has ended it.
    pub(in crate::service) fn complete(&self) {
        self.end(StreamEnd::Complete);
    }

    fn end(&self, end: StreamEnd) -> bool {
        if !self.log.end(end) {
            return false;
        }
        if self.home == KeptHome::Here {
            self.metrics.kept_state(Some(state_word(None)), Some(state_word(Some(end))));
        }
        self.changed.notify_one();
        true
    }

    /// Whether it is the response to this request, which is made again.
    pub(in crate::service) fn is_response_to(&self, request: &KeptRequest) -> bool {
        self.request.is_same(request) == Some(true)
    }

    /// Whether it may be the response to this request: it is not known while a body is incomplete.
    pub(in crate::service) fn may_be_response_to(&self, request: &KeptRequest) -> bool {
        self.request.is_same(request).is_none()
    }
}

/// Counts as a reader of a stream until it is dropped.
struct CopyReading<'a>(&'a KeptStream);

impl<'a> CopyReading<'a> {
    fn new(stream: &'a KeptStream) -> Self {
        stream.reader_came();
        Self(stream)
    }
}

impl Drop for CopyReading<'_> {
    fn drop(&mut self) {
        self.0.reader_left();
    }
}

/// The value of `Ssegate-State`.
pub(in crate::service) fn state_word(end: Option<StreamEnd>) -> &'static str {
    match end {
        None => "running",
        Some(StreamEnd::Complete) => "ended",
        Some(StreamEnd::Cancelled) => "cancelled",
        Some(StreamEnd::Lost) => "lost",
    }
}

impl Drop for KeptStream {
    fn drop(&mut self) {
        if self.home == KeptHome::Here {
            self.metrics.kept_state(Some(state_word(self.log.extent().end)), None);
        }
    }
}

impl fmt::Debug for KeptStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The id is a secret of the owner.
        f.debug_struct("KeptStream").field("log", &self.log).finish_non_exhaustive()
    }
}
