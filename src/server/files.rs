//! File descriptors: how many there may be, and whether they run out.
//!
//! Each connection is one, and so is each to a backend or to Redis. Some are kept back from new
//! clients: for Redis, backends and operators.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use crate::health::{Health, Incident};
use crate::metrics::Metrics;

/// Kept back, at least and at most; in between an eighth of all.
const RESERVE: (u64, u64) = (32, 1024);
/// So near to the reserve it is looked at more closely.
const NEAR: u64 = 64;
/// Fewer clients are not worth a start.
const LEAST_CLIENTS: u64 = 16;
/// A shortage is over when everybody was let in for so long.
const OVER_AFTER: Duration = Duration::from_secs(5);

/// Takes as many file descriptors as this process may have: many systems give 1,024 at first, for
/// programs that use select(2).
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::debug!(%error, "the limit of file descriptors stays as it is");
    }
}

/// What this process may have, and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFew {
    /// It may have so many.
    pub limit: u64,
    /// And cannot serve with fewer than so many.
    pub needed: u64,
}

/// Whether there are enough to serve with so many shards and listening sockets of all kinds.
///
/// # Errors
/// There are too few: clients would connect, and never be served.
pub fn enough(shards: usize, sockets: usize) -> Result<(), TooFew> {
    let needed = needed(shards as u64, sockets as u64);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(TooFew { limit, needed }),
        _ => Ok(()),
    }
}

/// The least limit with which there is room for a few clients, behind the reserve.
fn needed(shards: u64, sockets: u64) -> u64 {
    // Standard streams, the log, signals, the door for a successor, two event loops, and the spare ones
    // of the admin listener; four for the event loop and the signals of each shard; each socket twice,
    // once for a successor.
    let own = 20 + 4 * shards + 2 * sockets + LEAST_CLIENTS;
    let is_enough = |limit: &u64| Room::of(*limit).end >= own;
    (own + RESERVE.0..).find(is_enough).unwrap_or(own)
}

/// Whether file descriptors are used up, as the acceptors find and everybody else is told: a cheap
/// handle that can go to every thread.
///
/// It begins with the first client who is not let in, and ends when all were for five seconds: each is
/// logged once, however often one client leaves and another takes its place meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Shortage(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<Option<Short>>,
    // Of the state, for those who only want to know.
    is_on: AtomicBool,
    health: Health,
    metrics: Option<Metrics>,
}

/// A shortage that goes on.
#[derive(Clone, Debug)]
struct Short {
    since: Instant,
    last_pause: Instant,
    pauses: u64,
}

impl Shortage {
    /// No shortage yet; it will be told to these.
    pub fn new(health: Health, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { health, metrics: Some(metrics), ..Inner::default() }))
    }

    /// Nobody is let in for a moment, while there are so many connections.
    pub(super) fn pause(&self, connections: usize, now: Instant) {
        let mut state = self.lock();
        if let Some(short) = &mut *state {
            short.last_pause = now;
            short.pauses += 1;
            return;
        }
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let error = format!("{limit} may be open; no new clients, {connections} connections stay");
        let trouble = Incident::new("file_descriptors", error, SystemTime::now());
        self.tell(Some(trouble));
        *state = Some(Short { since: now, last_pause: now, pauses: 1 });
        tracing::warn!(
            limit,
            connections,
            "file descriptors are used up: no new connections; allow more (LimitNOFILE, ulimit -n)"
        );
    }

    /// Ends a shortage that is over. Called once a second.
    pub fn tick(&self, now: Instant) {
        let mut state = self.lock();
        let is_over = |short: &mut Short| now >= short.last_pause + OVER_AFTER;
        if let Some(Short { since, last_pause, pauses }) = state.take_if(is_over) {
            self.tell(None);
            let lasted = last_pause - since;
            tracing::info!(?lasted, pauses, "there are file descriptors again: clients are let in");
        }
    }

    /// Whether connections that nobody uses should go.
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    fn tell(&self, trouble: Option<Incident>) {
        self.0.is_on.store(trouble.is_some(), Ordering::Relaxed);
        if let Some(metrics) = &self.0.metrics {
            metrics.file_descriptors_short(trouble.is_some());
        }
        self.0.health.set_shortage(trouble);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Short>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far new clients may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    // The number that the first descriptor of the reserve has.
    end: u64,
}

impl Room {
    pub(super) fn new() -> Self {
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn of(limit: u64) -> Self {
        let reserve = (limit / 8).clamp(RESERVE.0, RESERVE.1);
        Self { end: limit.saturating_sub(reserve) }
    }

    /// Whether no more clients should be let in. A new descriptor gets the lowest number that is
    /// free, so its number tells how many there are at least. `last` is that of the client who came
    /// last, `any` one that can be copied to see.
    pub(super) fn is_full(self, last: u64, any: impl AsFd) -> bool {
        if last.saturating_add(NEAR) < self.end {
            return false;
        }
        match rustix::io::fcntl_dupfd_cloexec(any, 0) {
            Ok(copy) => number(&copy) >= self.end,
            Err(_none_is_free) => true,
        }
    }
}

/// Whether the system, or this process, has no file descriptor left (accept(2)).
pub fn is_of_files(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    let kinds = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    raw.is_some_and(|raw| kinds.iter().any(|kind| kind.raw_os_error() == raw))
}

/// The number of a descriptor.
pub(super) fn number(descriptor: &impl AsFd) -> u64 {
    u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{OVER_AFTER, Room, Shortage, needed};
    use crate::health::Health;
    use crate::metrics::Metrics;

    #[test]
    fn a_shortage_begins_and_ends_once_however_often_somebody_waits() {
        let (health, metrics) = (Health::default(), Metrics::new().expect("metrics"));
        let shortage = Shortage::new(health.clone(), metrics.clone());
        let is_told = || {
            let [.., descriptors] = health.checks();
            let text = metrics.render().expect("text");
            let shown = text.contains("ssegate_file_descriptors_short 1\n");
            assert_eq!((shortage.is_on(), shown), (!descriptors.passes, !descriptors.passes));
            shown
        };
        let start = Instant::now();
        assert!(!is_told());
        for tenth in 0..100 {
            let now = start + Duration::from_millis(100 * tenth);
            shortage.pause(200, now);
            shortage.tick(now);
            assert!(is_told());
        }
        let last = shortage.lock().as_ref().expect("it goes on").last_pause;
        shortage.tick(last + OVER_AFTER - Duration::from_millis(1));
        assert!(is_told());
        shortage.tick(last + OVER_AFTER);
        assert!(!is_told());
    }

    #[test]
    fn what_is_needed_leaves_room_for_clients() {
        for (shards, sockets, expected) in [(1, 2, 76), (2, 4, 84), (128, 8, 644)] {
            let needed = needed(shards, sockets);
            assert_eq!(needed, expected, "{shards} {sockets}");
            assert!(Room::of(needed).end >= Room::of(needed - 1).end);
        }
    }

    #[test]
    fn some_are_kept_back() {
        for (limit, end) in
            [(256, 224), (1024, 896), (20_000, 18_976), (u64::MAX, u64::MAX - 1024), (8, 0)]
        {
            assert_eq!(Room::of(limit).end, end, "{limit}");
        }
        let room = Room::of(1024);
        assert!(!room.is_full(5, std::io::stdin()));
        assert!(!room.is_full(890, std::io::stdin()), "most of them are free again");
    }
}
