//! The request at hand on a connection over HTTP/1.1: what its socket, its handler and its body have
//! to know of each other.
//!
//! hyper stands between them. Nothing of this is on the way of an event: a stream of ours leaves
//! hyper before its first byte.
// Atomics and a lock for the sake of hyper alone: a connection that is upgraded must be `Send`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Request;

use super::heads::Found;

/// A request, and its response.
#[derive(Debug)]
pub(in crate::server) struct Exchange {
    // Whether a request has been handed on, and its response has not been handed over whole.
    is_running: AtomicBool,
    // Whether the client has sent all of it.
    is_whole: AtomicBool,
    // Whether hyper has nothing left to write.
    is_flushed: AtomicBool,
    has_found: AtomicBool,
    found: Mutex<Found>,
}

impl Exchange {
    pub(in crate::server) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_running: AtomicBool::new(false),
            is_whole: AtomicBool::new(true),
            is_flushed: AtomicBool::new(true),
            has_found: AtomicBool::new(false),
            found: Mutex::default(),
        })
    }

    /// A request begins; `is_whole`: it has no body. Until the guard is dropped its response has not
    /// been handed over.
    pub(in crate::server) fn begin(self: &Arc<Self>, is_whole: bool) -> Answering {
        self.is_whole.store(is_whole, Ordering::Relaxed);
        self.is_running.store(true, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// The client has sent all of its request.
    pub(in crate::server) fn is_received(&self) {
        self.is_whole.store(true, Ordering::Relaxed);
    }

    /// The response switches to another protocol: what comes from now on is no request.
    pub(in crate::server) fn switch(&self) {
        // Of what comes then, no end is known.
        self.is_whole.store(false, Ordering::Relaxed);
    }

    /// Whether all of the last request has been received.
    pub(in crate::server) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// Whether the next thing that is read is a request.
    pub(super) fn is_between_requests(&self) -> bool {
        let is_running = self.is_running.load(Ordering::Relaxed);
        !is_running && self.is_whole() && self.is_flushed.load(Ordering::Relaxed)
    }

    /// hyper has something to write, or has written all there was.
    pub(super) fn set_flushed(&self, is_flushed: bool) {
        self.is_flushed.store(is_flushed, Ordering::Relaxed);
    }

    /// What was found in the head that hyper reads now.
    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was found.
    pub(super) fn note_found(&self) {
        self.has_found.store(true, Ordering::Relaxed);
    }

    /// Adds the fields that hyper has not seen.
    pub(in crate::server) fn complete_head<B>(&self, request: &mut Request<B>) {
        if self.has_found.swap(false, Ordering::Relaxed) {
            for (name, value) in self.found().fields.drain(..) {
                // hyper would take as many as there is room for.
                drop(request.headers_mut().try_append(name, value));
            }
        }
    }
}

/// A request whose response has not been handed over.
#[derive(Debug)]
pub(in crate::server) struct Answering(Arc<Exchange>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Relaxed);
    }
}
