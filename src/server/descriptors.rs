//! File descriptors: the process's limit, and the state of being short of them.
//!
//! Each connection uses one, and so does each to a backend or to Redis. A reserve is kept from new
//! clients, for Redis, backends and operators.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use crate::health::{Health, Incident};
use crate::metrics::Metrics;

/// The reserve: an eighth of the limit, but at least and at most this many.
const RESERVE: (u64, u64) = (32, 1024);
/// Within this distance of the reserve, the lowest free descriptor is probed.
const PROBE_DISTANCE: u64 = 64;
/// The gateway does not start if it could serve fewer clients than this.
const MIN_CLIENTS: u64 = 16;
/// A shortage ends when no client had to wait for this long.
const SHORTAGE_ENDS_AFTER: Duration = Duration::from_secs(5);

/// Raises the soft limit of file descriptors to the hard limit. Many systems default to a soft
/// limit of 1,024, for programs that use select(2).
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::debug!(%error, "cannot raise the limit of file descriptors");
    }
}

/// The limit of file descriptors is too low to serve clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewDescriptors {
    /// The limit of this process.
    pub limit: u64,
    /// The lowest limit with which it can serve.
    pub needed: u64,
}

/// Checks that the limit allows this many shards and listening sockets of all kinds.
///
/// # Errors
/// It is too low: clients would connect and never be served.
pub fn check_limit(shards: usize, sockets: usize) -> Result<(), TooFewDescriptors> {
    let needed = needed(shards as u64, sockets as u64);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(TooFewDescriptors { limit, needed }),
        _ => Ok(()),
    }
}

/// How many clients a limit of file descriptors leaves room for, if none of their requests is forwarded, with this
/// many shards and listening sockets of all kinds.
pub fn most_clients(limit: u64, shards: usize, sockets: usize) -> u64 {
    DescriptorLimit::of(limit).end.saturating_sub(own(shards as u64, sockets as u64))
}

/// What the gateway itself uses.
fn own(shards: u64, sockets: u64) -> u64 {
    // 20 for standard streams, the log, signals, the takeover socket, two event loops, and the
    // spare connections of the admin listener. Four per shard for its event loop and signals. Each
    // listening socket twice, since a takeover duplicates it.
    20 + 4 * shards + 2 * sockets
}

/// Returns the lowest limit that leaves room for [`MIN_CLIENTS`] besides the reserve.
fn needed(shards: u64, sockets: u64) -> u64 {
    let own = own(shards, sockets) + MIN_CLIENTS;
    let is_enough = |limit: &u64| DescriptorLimit::of(*limit).end >= own;
    (own + RESERVE.0..).find(is_enough).unwrap_or(own)
}

/// Whether the process is short of file descriptors. Acceptors report it; shards, health and
/// metrics read it. A cheap handle for all threads.
///
/// A shortage starts with the first client that must wait, and ends when none had to for five
/// seconds. Start and end are logged once each, however often a client leaves and another takes its
/// place.
#[derive(Clone, Debug, Default)]
pub struct DescriptorShortage(Arc<ShortageState>);

#[derive(Debug, Default)]
struct ShortageState {
    current: Mutex<Option<ShortagePeriod>>,
    // A copy of the state that is read without the lock.
    is_on: AtomicBool,
    health: Health,
    metrics: Option<Metrics>,
}

/// A shortage in progress.
#[derive(Clone, Debug)]
struct ShortagePeriod {
    since: Instant,
    last_pause: Instant,
    pauses: u64,
}

impl DescriptorShortage {
    /// Starts without a shortage; reports later ones to `health` and `metrics`.
    pub fn new(health: Health, metrics: Metrics) -> Self {
        Self(Arc::new(ShortageState { health, metrics: Some(metrics), ..ShortageState::default() }))
    }

    /// An acceptor pauses for lack of descriptors; there are `connections` open connections.
    pub(super) fn pause(&self, connections: usize, now: Instant) {
        let mut current = self.lock();
        if let Some(short) = &mut *current {
            short.last_pause = now;
            short.pauses += 1;
            return;
        }
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let error = format!(
            "limit of {limit} reached; new clients wait, {connections} connections are open"
        );
        let trouble = Incident::new("file_descriptors", error, SystemTime::now());
        self.report(Some(trouble));
        *current = Some(ShortagePeriod { since: now, last_pause: now, pauses: 1 });
        tracing::warn!(
            limit,
            connections,
            "out of file descriptors (too many open files): new connections wait; raise LimitNOFILE= \
             or ulimit -n"
        );
    }

    /// Ends a shortage after [`SHORTAGE_ENDS_AFTER`]. Called once a second.
    pub fn tick(&self, now: Instant) {
        let mut current = self.lock();
        let is_over = |short: &mut ShortagePeriod| now >= short.last_pause + SHORTAGE_ENDS_AFTER;
        if let Some(ShortagePeriod { since, last_pause, pauses }) = current.take_if(is_over) {
            self.report(None);
            let lasted = last_pause - since;
            tracing::info!(
                ?lasted,
                pauses,
                "file descriptors are available: accepting connections"
            );
        }
    }

    /// Whether there is a shortage: idle connections should be closed.
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    fn report(&self, trouble: Option<Incident>) {
        self.0.is_on.store(trouble.is_some(), Ordering::Relaxed);
        if let Some(metrics) = &self.0.metrics {
            metrics.file_descriptors_short(trouble.is_some());
        }
        self.0.health.set_shortage(trouble);
    }

    fn lock(&self) -> MutexGuard<'_, Option<ShortagePeriod>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The descriptors that new clients may use: all below the reserve.
#[derive(Clone, Copy, Debug)]
pub(super) struct DescriptorLimit {
    // The number of the first descriptor in the reserve.
    end: u64,
}

impl DescriptorLimit {
    pub(super) fn new() -> Self {
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn of(limit: u64) -> Self {
        let reserve = (limit / 8).clamp(RESERVE.0, RESERVE.1);
        Self { end: limit.saturating_sub(reserve) }
    }

    /// Whether new clients must wait. A new descriptor gets the lowest free number (POSIX), so a
    /// number is a lower bound of how many are open. `last` is the number of the last client's
    /// socket; `any` is a descriptor to duplicate for a probe.
    pub(super) fn is_reached(self, last: u64, any: impl AsFd) -> bool {
        if last.saturating_add(PROBE_DISTANCE) < self.end {
            return false;
        }
        match rustix::io::fcntl_dupfd_cloexec(any, 0) {
            Ok(copy) => descriptor_number(&copy) >= self.end,
            Err(_none_is_free) => true,
        }
    }
}

/// Whether an error of accept(2) or socket(2) says that the process or the system is out of file descriptors
/// (EMFILE, ENFILE).
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    let kinds = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    raw.is_some_and(|raw| kinds.iter().any(|kind| kind.raw_os_error() == raw))
}

/// Returns the number of a descriptor.
pub(super) fn descriptor_number(descriptor: &impl AsFd) -> u64 {
    u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{DescriptorLimit, DescriptorShortage, SHORTAGE_ENDS_AFTER, most_clients, needed};
    use crate::health::Health;
    use crate::metrics::Metrics;

    #[test]
    fn a_shortage_starts_and_ends_once_however_often_a_client_waits() {
        let (health, metrics) = (Health::default(), Metrics::new().expect("metrics"));
        let shortage = DescriptorShortage::new(health.clone(), metrics.clone());
        let is_reported = || {
            let descriptors = health.checks().pop().expect("the last check");
            let text = metrics.render().expect("text");
            let shown = text.contains("ssegate_file_descriptors_short 1\n");
            assert_eq!((shortage.is_on(), shown), (!descriptors.passes, !descriptors.passes));
            shown
        };
        let start = Instant::now();
        assert!(!is_reported());
        for tenth in 0..100 {
            let now = start + Duration::from_millis(100 * tenth);
            shortage.pause(200, now);
            shortage.tick(now);
            assert!(is_reported());
        }
        let last = shortage.lock().as_ref().expect("a shortage").last_pause;
        shortage.tick(last + SHORTAGE_ENDS_AFTER - Duration::from_millis(1));
        assert!(is_reported());
        shortage.tick(last + SHORTAGE_ENDS_AFTER);
        assert!(!is_reported());
    }

    #[test]
    fn the_needed_limit_leaves_room_for_clients() {
        for (shards, sockets, expected) in [(1, 2, 76), (2, 4, 84), (128, 8, 644)] {
            let needed = needed(shards, sockets);
            assert_eq!(needed, expected, "{shards} {sockets}");
            assert!(DescriptorLimit::of(needed).end >= DescriptorLimit::of(needed - 1).end);
            let (shards, sockets) = (usize::try_from(shards), usize::try_from(sockets));
            let (shards, sockets) = (shards.expect("few"), sockets.expect("few"));
            assert_eq!(most_clients(expected, shards, sockets), 16);
        }
    }

    #[test]
    fn an_eighth_of_the_limit_is_kept_in_reserve() {
        for (limit, end) in
            [(256, 224), (1024, 896), (20_000, 18_976), (u64::MAX, u64::MAX - 1024), (8, 0)]
        {
            assert_eq!(DescriptorLimit::of(limit).end, end, "{limit}");
        }
        let limit = DescriptorLimit::of(1024);
        assert!(!limit.is_reached(5, std::io::stdin()));
        assert!(!limit.is_reached(890, std::io::stdin()), "lower descriptors are free again");
    }
}
