//! The current request and response on an HTTP/1.1 connection: the state that its socket, its
//! handler and its body share, because hyper stands between them.
//!
//! Not on the path of an event: an event stream leaves hyper before its first byte.
// Atomics and locks only for hyper: an upgraded connection must be `Send`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;

use super::heads::Found;
use super::leftover::Leftover;

/// The most bytes of interim responses that may be queued. Further ones are dropped; they are
/// optional.
const MAX_INTERIM_BYTES: usize = 64 << 10;

/// A request and its response.
#[derive(Debug)]
pub(in crate::server) struct Exchange {
    // Whether a request is being handled: hyper does not have the end of its response yet.
    is_running: AtomicBool,
    // Whether the whole request was received.
    is_whole: AtomicBool,
    // Whether hyper has written all it had.
    is_flushed: AtomicBool,
    // Whether the connection was upgraded: the bytes are no longer HTTP/1.1.
    has_switched: AtomicBool,
    has_found: AtomicBool,
    found: Mutex<Found>,
    rest: Mutex<Rest>,
    has_interim: AtomicBool,
    interim: Mutex<Vec<u8>>,
}

/// The part of a request body that the handler did not read.
#[derive(Debug, Default)]
struct Rest {
    leftover: Option<Leftover>,
    // Whether waiting for its end was abandoned after the time limit.
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

    /// Starts a request; `is_whole`: it has no body. Drop the guard when hyper has the whole
    /// response.
    pub(in crate::server) fn begin(self: &Arc<Self>, is_whole: bool) -> Answering {
        self.is_whole.store(is_whole, Ordering::Relaxed);
        self.is_running.store(true, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// The whole request was received.
    pub(in crate::server) fn is_received(&self) {
        if !self.is_whole.swap(true, Ordering::Relaxed)
            && let Some(connection) = self.rest().connection.take()
        {
            connection.wake(); // from now on the socket watches for the client's close
        }
    }

    /// Queues an interim response (RFC 9110, section 15.2) before the final one.
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

    /// Called right before hyper gets the final response. Drops interim responses that could not be
    /// written yet, because the previous response is still being written: they would come too late.
    pub(in crate::server) fn close_interim(&self) {
        if self.has_interim.load(Ordering::Relaxed) && !self.is_flushed() {
            drop(self.take_interim());
        }
    }

    /// Takes the queued interim responses.
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

    /// Takes over a request body that the handler no longer reads, to read and discard it.
    pub(in crate::server) fn leave(&self, body: Incoming) {
        let mut rest = self.rest();
        rest.leftover = Some(Leftover::new(body));
        if let Some(connection) = rest.connection.take() {
            connection.wake();
        }
    }

    /// Stops waiting for the rest of the request: the client did not send it in time.
    pub(in crate::server) fn give_up(&self) {
        self.rest().is_given_up = true;
    }

    /// Reads and discards the rest of the request, for at most `at_most`. Returns true once that
    /// time is up. Registers the task to be woken when there is something to discard.
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

    /// Whether the client may still be sending its request, and the wait for it has not timed out.
    pub(in crate::server) fn is_unread(&self) -> bool {
        !self.is_whole() && !self.rest().is_given_up
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response is 101 (Switching Protocols): what follows is not HTTP/1.1.
    pub(in crate::server) fn switch(&self) {
        // The other protocol has no end that we know.
        self.is_whole.store(false, Ordering::Relaxed);
        self.has_switched.store(true, Ordering::Relaxed);
    }

    /// Whether the connection was upgraded.
    pub(super) fn has_switched(&self) -> bool {
        self.has_switched.load(Ordering::Relaxed)
    }

    /// Whether the whole request was received.
    pub(in crate::server) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// Whether the client has sent the whole request and waits for the response.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_running.load(Ordering::Relaxed) && self.is_whole()
    }

    /// Records whether hyper has written all it had.
    pub(super) fn set_flushed(&self, is_flushed: bool) {
        self.is_flushed.store(is_flushed, Ordering::Relaxed);
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed.load(Ordering::Relaxed)
    }

    /// What hyper does not see of the head it is reading.
    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that [`found`](Self::found) is not empty.
    pub(super) fn note_found(&self) {
        self.has_found.store(true, Ordering::Relaxed);
    }

    /// Adds the fields that were set aside to the request that hyper parsed.
    pub(in crate::server) fn complete_head<B>(&self, request: &mut Request<B>) {
        if self.has_found.swap(false, Ordering::Relaxed) {
            for (name, value) in self.found().fields.drain(..) {
                // Beyond the capacity of `HeaderMap` the rest is dropped.
                drop(request.headers_mut().try_append(name, value));
            }
        }
    }
}

/// A guard that marks a request as being handled until hyper has its whole response.
#[derive(Debug)]
pub(in crate::server) struct Answering(Arc<Exchange>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Relaxed);
    }
}
