//! File descriptors that are kept open for operators.
//!
//! They are opened at the start, so their numbers are low: when the limit is lowered while the gateway
//! runs, closing one still makes room for a connection, although more descriptors are open than may be.

use std::os::fd::{AsFd, OwnedFd};

/// Operators and their tools at once while file descriptors are used up.
pub const SPARES: usize = 4;

/// Descriptors that do nothing but keep their numbers.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<OwnedFd>);

impl Spares {
    /// Opens those that are missing, as copies of `any`.
    pub(super) fn refill(&mut self, any: impl AsFd) {
        while self.0.len() < SPARES {
            match rustix::io::fcntl_dupfd_cloexec(any.as_fd(), 0) {
                Ok(spare) => self.0.push(spare),
                // None is free now: tried again with the next connection.
                Err(_) => return,
            }
        }
    }

    /// Closes one; returns whether there was one.
    pub(super) fn close_one(&mut self) -> bool {
        self.0.pop().is_some()
    }
}
