//! The socket of an HTTP/1.1 connection as hyper gets it.
//!
//! Works around two limits of hyper's client. hyper rejects or loses parts of a response head;
//! those are taken out before hyper reads it, and added again afterwards
//! ([`heads`](crate::server::http1::heads)). And hyper drops the response if the request cannot be
//! written, although a backend that rejects an upload may respond and close while the upload is
//! still being sent. So write errors are hidden from hyper, and later writes discarded, until hyper
//! has read everything that arrived.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::Response;
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Socket;
use super::message;
use crate::server::http1::heads::{Found, HeadLimits, Heads, Role};
use crate::server::interim::Interim;
use crate::server::unread;

/// The overhead counted per field beside its name and value (RFC 9113, section 6.5.2), in octets.
/// With it a limit in octets bounds the number of fields too.
const FIELD: usize = 32;

/// State that the socket shares with the sender of a request.
// A lock although all runs on one thread: hyper requires `Send` of a connection that can be
// upgraded.
#[derive(Clone, Debug)]
pub(super) struct Notes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    // A request has been sent, and the next octets begin the head of its response.
    awaits_head: bool,
    found: Found,
    // A write has failed: the backend reads nothing more.
    is_deaf: bool,
    // The task that waits for the response.
    waiting: Option<Waker>,
}

impl Notes {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is fine: no critical section leaves the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Call before a request is sent: the next octets read belong to the head of its response.
    pub(super) fn expect_response(&self) {
        let mut state = self.state();
        (state.awaits_head, state.found) = (true, Found::default());
    }

    /// Whether a write has failed: no further request may be sent on this connection.
    pub(super) fn is_deaf(&self) -> bool {
        self.state().is_deaf
    }

    /// Adds the fields and the reason phrase that were withheld from hyper.
    pub(super) fn complete_head<B>(&self, response: &mut Response<B>) {
        let mut state = self.state();
        for (name, value) in state.found.fields.drain(..) {
            // A full map drops the field, as hyper does.
            drop(response.headers_mut().try_append(name, value));
        }
        let reason = state.found.reason.take();
        if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
            response.extensions_mut().insert(reason);
        }
    }

    /// Forwards the interim responses received so far. The task of `cx` is woken when there are
    /// more.
    pub(super) fn pass_on_interim(&self, interim: &Interim, cx: &Context<'_>) {
        let mut state = self.state();
        for (status, headers) in state.found.interim.drain(..) {
            message::pass_on_interim(interim, status, headers);
        }
        if !state.waiting.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            state.waiting = Some(cx.waker().clone());
        }
    }
}

/// The socket of a connection to a backend, for hyper.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    notes: Notes,
    heads: Heads,
    // A rewritten head, which hyper reads before anything else.
    ready: Bytes,
    // The error of the first write that failed.
    failed: Option<io::ErrorKind>,
}

impl Wire {
    /// Wraps a socket. `max_head` limits the head of a response, in octets.
    pub(super) fn new(socket: Socket, max_head: usize) -> (Self, Notes) {
        let notes = Notes(Arc::default());
        let limits = HeadLimits { fields: max_head / FIELD, bytes: max_head };
        let heads = Heads::new(Role::Response, limits);
        let wire = Self { socket, notes: notes.clone(), heads, ready: Bytes::new(), failed: None };
        (wire, notes)
    }

    /// Inspects what has been read; returns whether hyper gets it unchanged.
    fn look_at(&mut self, bytes: &[u8]) -> bool {
        let mut state = self.notes.state();
        if std::mem::take(&mut state.awaits_head) {
            self.heads.expect();
        }
        let instead = self.heads.read(bytes, &mut state.found);
        if !state.found.interim.is_empty()
            && let Some(waiting) = state.waiting.take()
        {
            waiting.wake();
        }
        drop(state);
        let is_as_it_is = instead.is_none();
        self.ready = instead.map(Bytes::from).unwrap_or_default();
        is_as_it_is
    }

    /// The result of a read at end of file. After a connection reset data may be missing: without
    /// the error, a body that ends with the connection would look complete.
    fn end(&self) -> io::Result<()> {
        match self.failed {
            Some(io::ErrorKind::ConnectionReset) => Err(io::ErrorKind::ConnectionReset.into()),
            // `BrokenPipe`: the backend closed in an orderly way before we wrote more.
            _ => Ok(()),
        }
    }

    /// The result of a write as hyper sees it.
    fn written(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Err(error) if is_gone(&error) => {
                self.failed = Some(error.kind());
                self.notes.state().is_deaf = true;
                Ok(length)
            }
            written => written,
        }
    }
}

/// Whether the error says that the peer reads nothing more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if unread::give(&mut this.ready, buf) {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(this.end());
            }
            if this.look_at(read) {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, buf));
        Poll::Ready(this.written(written, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if this.failed.is_some() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bufs));
        Poll::Ready(this.written(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut this.socket).poll_flush(cx));
        Poll::Ready(this.written(flushed.map(|()| 0), 0).map(|_| ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
