//! How a connection is used: its requests in progress, and since when it has none. Pure: time is
//! passed in.

use std::cell::Cell;

use tokio::time::Instant;

/// The use of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    accepted: Instant,
    has_had_request: Cell<bool>,
    running_requests: Cell<usize>,
    last_end: Cell<Instant>,
}

impl Activity {
    pub(super) fn new(accepted: Instant) -> Self {
        Self {
            accepted,
            has_had_request: Cell::new(false),
            running_requests: Cell::new(0),
            last_end: Cell::new(accepted),
        }
    }

    pub(super) fn accepted(&self) -> Instant {
        self.accepted
    }

    pub(super) fn has_had_request(&self) -> bool {
        self.has_had_request.get()
    }

    pub(super) fn request_began(&self) {
        self.has_had_request.set(true);
        self.running_requests.set(self.running_requests.get() + 1);
    }

    pub(super) fn request_ended(&self, now: Instant) {
        self.running_requests.set(self.running_requests.get() - 1);
        self.last_end.set(now);
    }

    /// Since when there has been no request: since the last one ended, or since the connection was
    /// accepted. `None` while one is in progress.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.running_requests.get() == 0).then(|| self.last_end.get())
    }
}
