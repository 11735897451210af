//! The request at hand on a connection over HTTP/1.1: what its socket, its handler and its body have
//! to know of each other.
//!
//! hyper stands between them. Nothing of this is on the way of an event: a stream of ours leaves
//! hyper before its first byte.
// Atomics and a lock for the sake of hyper alone: a connection that is upgraded must be `Send`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;

use super::heads::Found;
use super::leftover::Leftover;

/// The most that may wait of interim responses, in bytes; more are dropped, as they may be.
const MAX_INTERIM_BYTES: usize = 64 << 10;

/// A request, and its response.
#[derive(Debug)]
pub(in crate::server) struct Exchange {
    // Whether a request has been handed on, and its response has not been handed over whole.
    is_running: AtomicBool,
    // Whether the client has sent all of it.
    is_whole: AtomicBool,
    // Whether hyper has nothing left to write.
    is_flushed: AtomicBool,
    // Whether what comes is no longer HTTP/1.1.
    has_switched: AtomicBool,
    has_found: AtomicBool,
    found: Mutex<Found>,
    rest: Mutex<Rest>,
    has_interim: AtomicBool,
    interim: Mutex<Vec<u8>>,
}

/// What is left of a request that nobody reads any more.
#[derive(Debug, Default)]
struct Rest {
    leftover: Option<Leftover>,
    // Whether it was not read to its end, for as long as that may take.
    is_given_up: bool,
    connection: Option<Waker>,
}

impl Exchange {
    pub(in crate::server) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_running: AtomicBool::new(false),
            is_whole: AtomicBool::new(true),
            is_flushed: AtomicBool::new(true),
            has_switched: AtomicBool::new(false),
            has_found: AtomicBool::new(false),
            found: Mutex::default(),
            rest: Mutex::default(),
            has_interim: AtomicBool::new(false),
            interim: Mutex::default(),
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
        if !self.is_whole.swap(true, Ordering::Relaxed)
            && let Some(connection) = self.rest().connection.take()
        {
            connection.wake(); // it looks for its client now
        }
    }

    /// Puts an interim response (RFC 9110, section 15.2) before the response.
    pub(in crate::server) fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_INTERIM_BYTES {
            return;
        }
        let reason = status.canonical_reason().unwrap_or_default();
        waiting.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                waiting.extend_from_slice(part);
            }
        }
        waiting.extend_from_slice(b"\r\n");
        self.has_interim.store(true, Ordering::Relaxed);
    }

    /// The response is about to be handed over. An interim one that could not be written yet, since
    /// the response before it is still being written, would come too late.
    pub(in crate::server) fn close_interim(&self) {
        if self.has_interim.load(Ordering::Relaxed) && !self.is_flushed() {
            drop(self.take_interim());
        }
    }

    /// Takes the interim responses that wait.
    pub(super) fn take_interim(&self) -> Vec<u8> {
        if self.has_interim.swap(false, Ordering::Relaxed) {
            std::mem::take(&mut self.waiting())
        } else {
            Vec::new()
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody reads the rest of the request any more: it is read past.
    pub(in crate::server) fn leave(&self, body: Incoming) {
        let mut rest = self.rest();
        rest.leftover = Some(Leftover::new(body));
        if let Some(connection) = rest.connection.take() {
            connection.wake();
        }
    }

    /// The client does not send the rest of its request: it has been waited for already.
    pub(in crate::server) fn give_up(&self) {
        self.rest().is_given_up = true;
    }

    /// Reads past what is left of a request, for `at_most`; returns whether that was not enough. The
    /// task that polls this is woken when there is something left.
    pub(in crate::server) fn gives_up_rest(&self, at_most: Duration, cx: &mut Context<'_>) -> bool {
        if self.is_whole() {
            return false;
        }
        let mut rest = self.rest();
        let Some(leftover) = &mut rest.leftover else {
            if !rest.connection.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                rest.connection = Some(cx.waker().clone());
            }
            return false;
        };
        let Poll::Ready(is_whole) = leftover.poll(at_most, cx) else { return false };
        rest.leftover = None;
        rest.is_given_up = !is_whole;
        self.is_whole.store(is_whole, Ordering::Relaxed);
        // hyper may go on, or close.
        cx.waker().wake_by_ref();
        !is_whole
    }

    /// Whether the client may still be sending a request, and has not been read from for long.
    pub(in crate::server) fn is_unread(&self) -> bool {
        !self.is_whole() && !self.rest().is_given_up
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response switches to another protocol: what comes from now on is no request.
    pub(in crate::server) fn switch(&self) {
        // Of what comes then, no end is known.
        self.is_whole.store(false, Ordering::Relaxed);
        self.has_switched.store(true, Ordering::Relaxed);
    }

    /// Whether what comes is no request.
    pub(super) fn has_switched(&self) -> bool {
        self.has_switched.load(Ordering::Relaxed)
    }

    /// Whether all of the last request has been received.
    pub(in crate::server) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// Whether all of a request has been received, and its response has not been handed over.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_running.load(Ordering::Relaxed) && self.is_whole()
    }

    /// hyper has something to write, or has written all there was.
    pub(super) fn set_flushed(&self, is_flushed: bool) {
        self.is_flushed.store(is_flushed, Ordering::Relaxed);
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed.load(Ordering::Relaxed)
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
