//! File descriptors reserved for admin connections.
//!
//! They are opened at the start, so their numbers are low. The limit applies to the number of a new
//! descriptor, so even if it is lowered below the number of open descriptors at run time, closing a
//! reserved one makes room for a connection.

use std::os::fd::{AsFd, OwnedFd};

/// The number of admin connections that are served while out of file descriptors.
pub const RESERVED_DESCRIPTORS: usize = 4;

/// Open descriptors that only reserve their numbers.
#[derive(Debug, Default)]
pub(super) struct ReservedDescriptors(Vec<OwnedFd>);

impl ReservedDescriptors {
    /// Opens the missing descriptors, as duplicates of `any`.
    pub(super) fn refill(&mut self, any: impl AsFd) {
        while self.0.len() < RESERVED_DESCRIPTORS {
            match rustix::io::fcntl_dupfd_cloexec(any.as_fd(), 0) {
                Ok(spare) => self.0.push(spare),
                // No free descriptor: retried after the next connection.
                Err(_) => return,
            }
        }
    }

    /// Closes a descriptor. Returns whether there was one.
    pub(super) fn close_one(&mut self) -> bool {
        self.0.pop().is_some()
    }
}
