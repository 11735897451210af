//! File descriptors: how many there may be, and whether they run out.
//!
//! Each connection is one, and so is each to a backend or to Redis. Some are kept back from new
//! clients: for Redis, backends and operators.

use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept back, at least and at most; in between an eighth of all.
const RESERVE: (u64, u64) = (32, 1024);
/// So near to the reserve it is looked at more closely.
const NEAR: u64 = 64;

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

/// Whether file descriptors run out, as the acceptors find and the shards are told: a cheap handle
/// that can go to every thread.
#[derive(Clone, Debug, Default)]
pub struct Shortage(Arc<AtomicBool>);

impl Shortage {
    /// Begins or ends; answers whether that is news.
    pub fn set(&self, is_short: bool) -> bool {
        self.0.swap(is_short, Ordering::Relaxed) != is_short
    }

    /// Whether connections that nobody uses should go.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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

/// The number of a descriptor.
pub(super) fn number(descriptor: &impl AsFd) -> u64 {
    u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Room;

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
