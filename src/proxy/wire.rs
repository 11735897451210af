//! A connection to a backend over HTTP/1.1, as hyper sees it.
//!
//! hyper reads responses; what it would refuse or forget of their heads is seen to here
//! ([`heads`](crate::server::http1::heads)).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Socket;
use crate::server::http1::heads::{Found, HeadLimits, Heads, Role};

/// A field counts for so many bytes beside its name and its value (RFC 9113, section 6.5.2), so that
/// limits of bytes are limits of fields too.
const FIELD: usize = 32;

/// What is said of a connection between its socket and whoever sends a request on it.
// The lock is for the sake of hyper alone: a connection that is upgraded must be `Send`.
#[derive(Clone, Debug)]
pub(super) struct Notes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    // Whether a request has been sent, and the head of its response has not come.
    awaits_head: bool,
    found: Found,
}

impl Notes {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be sent.
    pub(super) fn expect_response(&self) {
        *self.state() = State { awaits_head: true, ..State::default() };
    }

    /// Adds what hyper has not seen.
    pub(super) fn complete_head<B>(&self, response: &mut Response<B>) {
        let mut state = self.state();
        for (name, value) in state.found.fields.drain(..) {
            // hyper would take as many as there is room for.
            drop(response.headers_mut().try_append(name, value));
        }
    }
}

/// A connection to a backend, as hyper sees it.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    notes: Notes,
    heads: Heads,
    // What hyper is to read before anything else.
    ready: Bytes,
}

impl Wire {
    /// `max_head`: what the head of a response may take, in bytes.
    pub(super) fn new(socket: Socket, max_head: usize) -> (Self, Notes) {
        let notes = Notes(Arc::default());
        let limits = HeadLimits { fields: max_head / FIELD, bytes: max_head };
        let heads = Heads::new(Role::Response, limits);
        (Self { socket, notes: notes.clone(), heads, ready: Bytes::new() }, notes)
    }

    /// Looks at what has been read; returns whether it is for hyper as it is.
    fn look_at(&mut self, bytes: &[u8]) -> bool {
        let mut state = self.notes.state();
        if std::mem::take(&mut state.awaits_head) {
            self.heads.expect();
        }
        let instead = self.heads.read(bytes, &mut state.found);
        let is_as_it_is = instead.is_none();
        self.ready = instead.map(Bytes::from).unwrap_or_default();
        is_as_it_is
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.ready.has_remaining() {
                let length = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready.split_to(length));
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() || this.look_at(read) {
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
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
