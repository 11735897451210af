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

use super::head_filter::HeadExtras;
use super::lingering::UnreadBody;

/// The most bytes of interim responses that may be queued. Further ones are dropped; they are
/// optional.
const MAX_INTERIM_BYTES: usize = 64 << 10;

/// A request and its response.
#[derive(Debug)]
pub(in crate::server) struct Http1Exchange {
    // Whether a request is being handled: hyper does not have the end of its response yet.
    is_handling: AtomicBool,
    // Whether the handler was given a request whose response hyper has not written to its end.
    owes_response: AtomicBool,
    // Whether the whole request was received.
    is_request_complete: AtomicBool,
    // Whether hyper has written all it had.
    is_flushed: AtomicBool,
    // Whether the connection was upgraded: the bytes are no longer HTTP/1.1.
    is_upgraded: AtomicBool,
    has_extras: AtomicBool,
    extras: Mutex<HeadExtras>,
    discard_state: Mutex<DiscardState>,
    has_interim: AtomicBool,
    interim: Mutex<Vec<u8>>,
}

/// The part of a request body that the handler did not read.
#[derive(Debug, Default)]
struct DiscardState {
    unread: Option<UnreadBody>,
    // Whether waiting for its end was abandoned after the time limit.
    is_abandoned: bool,
    connection: Option<Waker>,
}

impl Http1Exchange {
    pub(in crate::server) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_handling: AtomicBool::new(false),
            owes_response: AtomicBool::new(false),
            is_request_complete: AtomicBool::new(true),
            is_flushed: AtomicBool::new(true),
            is_upgraded: AtomicBool::new(false),
            has_extras: AtomicBool::new(false),
            extras: Mutex::default(),
            discard_state: Mutex::default(),
            has_interim: AtomicBool::new(false),
            interim: Mutex::default(),
        })
    }

    /// Starts a request; `is_request_complete`: it has no body. Drop the guard when hyper has the
    /// whole response.
    pub(in crate::server) fn begin(self: &Arc<Self>, is_request_complete: bool) -> ResponseGuard {
        self.is_request_complete.store(is_request_complete, Ordering::Relaxed);
        self.is_handling.store(true, Ordering::Relaxed);
        self.owes_response.store(true, Ordering::Relaxed);
        ResponseGuard(Arc::clone(self))
    }

    /// The whole request was received.
    pub(in crate::server) fn request_received(&self) {
        if !self.is_request_complete.swap(true, Ordering::Relaxed)
            && let Some(connection) = self.discard_state().connection.take()
        {
            connection.wake(); // from now on the socket watches for the client's close
        }
    }

    /// Queues an interim response (RFC 9110, section 15.2) before the final one.
    pub(in crate::server) fn queue_interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut queue = self.queue();
        if queue.len() >= MAX_INTERIM_BYTES {
            return;
        }
        let reason = status.canonical_reason().unwrap_or_default();
        queue.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                queue.extend_from_slice(part);
            }
        }
        queue.extend_from_slice(b"\r\n");
        self.has_interim.store(true, Ordering::Relaxed);
    }

    /// Called right before hyper gets the final response. Drops interim responses that could not be
    /// written yet, because the previous response is still being written: they would come too late.
    pub(in crate::server) fn drop_late_interim(&self) {
        if self.has_interim.load(Ordering::Relaxed) && !self.is_flushed() {
            drop(self.take_interim());
        }
    }

    /// Takes the queued interim responses.
    pub(super) fn take_interim(&self) -> Vec<u8> {
        if self.has_interim.swap(false, Ordering::Relaxed) {
            std::mem::take(&mut self.queue())
        } else {
            Vec::new()
        }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<u8>> {
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a request body that the handler no longer reads, to read and discard it.
    pub(in crate::server) fn discard(&self, body: Incoming) {
        let mut discard_state = self.discard_state();
        discard_state.unread = Some(UnreadBody::new(body));
        if let Some(connection) = discard_state.connection.take() {
            connection.wake();
        }
    }

    /// Stops waiting for the rest of the request: the client did not send it in time.
    pub(in crate::server) fn abandon_request(&self) {
        self.discard_state().is_abandoned = true;
    }

    /// Reads and discards the rest of the request, for at most `at_most`. Returns true once that
    /// time is up. Registers the task to be woken when there is something to discard.
    pub(in crate::server) fn discard_timed_out(
        &self,
        at_most: Duration,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.is_request_complete() {
            return false;
        }
        let mut discard_state = self.discard_state();
        let Some(unread) = &mut discard_state.unread else {
            if !discard_state.connection.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                discard_state.connection = Some(cx.waker().clone());
            }
            return false;
        };
        let Poll::Ready(is_request_complete) = unread.poll(at_most, cx) else { return false };
        discard_state.unread = None;
        discard_state.is_abandoned = !is_request_complete;
        self.is_request_complete.store(is_request_complete, Ordering::Relaxed);
        // hyper may go on, or close.
        cx.waker().wake_by_ref();
        !is_request_complete
    }

    /// Whether the client may still be sending its request, and the wait for it has not timed out.
    pub(in crate::server) fn has_unread_request(&self) -> bool {
        !self.is_request_complete() && !self.discard_state().is_abandoned
    }

    fn discard_state(&self) -> MutexGuard<'_, DiscardState> {
        self.discard_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response is 101 (Switching Protocols): what follows is not HTTP/1.1.
    pub(in crate::server) fn upgrade(&self) {
        // The other protocol has no end that we know.
        self.is_request_complete.store(false, Ordering::Relaxed);
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    /// Whether the connection was upgraded.
    pub(super) fn is_upgraded(&self) -> bool {
        self.is_upgraded.load(Ordering::Relaxed)
    }

    /// Whether the whole request was received.
    pub(in crate::server) fn is_request_complete(&self) -> bool {
        self.is_request_complete.load(Ordering::Relaxed)
    }

    /// Whether the client has sent the whole request and waits for the response.
    pub(super) fn is_awaiting_response(&self) -> bool {
        self.is_handling.load(Ordering::Relaxed) && self.is_request_complete()
    }

    /// Records whether hyper has written all it had.
    pub(super) fn set_flushed(&self, is_flushed: bool) {
        self.is_flushed.store(is_flushed, Ordering::Relaxed);
        if is_flushed && !self.is_handling.load(Ordering::Relaxed) {
            self.owes_response.store(false, Ordering::Relaxed);
        }
    }

    /// Whether hyper's next bytes belong to a response of the handler. Otherwise they are hyper's own response to a
    /// request that the handler does not get.
    pub(super) fn owes_response(&self) -> bool {
        self.owes_response.load(Ordering::Relaxed)
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed.load(Ordering::Relaxed)
    }

    /// What hyper does not see of the head it is reading.
    pub(super) fn extras(&self) -> MutexGuard<'_, HeadExtras> {
        self.extras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that [`extras`](Self::extras) is not empty.
    pub(super) fn mark_extras(&self) {
        self.has_extras.store(true, Ordering::Relaxed);
    }

    /// Adds the fields that were set aside to the request that hyper parsed.
    pub(in crate::server) fn restore_fields<B>(&self, request: &mut Request<B>) {
        if self.has_extras.swap(false, Ordering::Relaxed) {
            for (name, value) in self.extras().fields.drain(..) {
                // Beyond the capacity of `HeaderMap` the rest is dropped.
                drop(request.headers_mut().try_append(name, value));
            }
        }
    }
}

/// A guard that marks a request as being handled until hyper has its whole response.
#[derive(Debug)]
pub(in crate::server) struct ResponseGuard(Arc<Http1Exchange>);

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.0.is_handling.store(false, Ordering::Relaxed);
    }
}
