//! The task that drops idle connections to a backend when they expire.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// A pool is swept at least this often, to drop connections that the backend has closed meanwhile.
const MAX_INTERVAL: Duration = Duration::from_secs(10);
/// A pool is swept at most this often.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// A pool of connections that expire.
pub(super) trait SweptPool: 'static {
    /// Drops connections that have expired; returns when the next one does.
    fn sweep(&self) -> Option<Instant>;

    /// Whether a task sweeps this pool.
    fn has_sweeper(&self) -> &Cell<bool>;
}

/// Starts the task that sweeps `pool`, unless it is running. It ends when the pool is empty or dropped.
pub(super) fn ensure_swept<P: SweptPool>(pool: &Rc<P>) {
    if !pool.has_sweeper().replace(true) {
        drop(tokio::task::spawn_local(run(Rc::downgrade(pool))));
    }
}

async fn run<P: SweptPool>(pool: Weak<P>) {
    while let Some(pool) = pool.upgrade() {
        let next = pool.sweep();
        pool.has_sweeper().set(next.is_some());
        drop(pool);
        let Some(next) = next else { return };
        let now = Instant::now();
        tokio::time::sleep_until(next.clamp(now + MIN_INTERVAL, now + MAX_INTERVAL)).await;
    }
}
