//! A connection to a backend over HTTP/1.1, as hyper sees it.
//!
//! hyper reads responses; what it would refuse or forget of their heads is seen to here
//! ([`head_filter`](crate::server::http1::head_filter)). And hyper gives a response up when the request cannot be
//! written: a backend that refuses an upload may close while much of it is on its way, and its
//! response has been received all the same. So a failed write is not told to hyper. What it writes
//! from then on is thrown away, until it has read what there is to read.

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
use crate::server::http1::head_filter::{HeadExtras, HeadFilter, HeadKind, HeadLimits};
use crate::server::interim::Interim;
use crate::server::unread;

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
    found: HeadExtras,
    // Whether the backend takes nothing more.
    is_deaf: bool,
    // Whoever waits for the response.
    waiting: Option<Waker>,
}

impl Notes {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be sent.
    pub(super) fn expect_response(&self) {
        let mut state = self.state();
        (state.awaits_head, state.found) = (true, HeadExtras::default());
    }

    /// Whether the backend takes nothing more: nothing else may be sent on this connection.
    pub(super) fn is_deaf(&self) -> bool {
        self.state().is_deaf
    }

    /// Adds what hyper has not seen.
    pub(super) fn complete_head<B>(&self, response: &mut Response<B>) {
        let mut state = self.state();
        for (name, value) in state.found.fields.drain(..) {
            // hyper would take as many as there is room for.
            drop(response.headers_mut().try_append(name, value));
        }
        let reason = state.found.reason.take();
        if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
            response.extensions_mut().insert(reason);
        }
    }

    /// Passes on what has come before the response. Whoever calls this is woken when there is more.
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

/// A connection to a backend, as hyper sees it.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    notes: Notes,
    heads: HeadFilter,
    // What hyper is to read before anything else.
    ready: Bytes,
    // Why a write has failed.
    failed: Option<io::ErrorKind>,
}

impl Wire {
    /// `max_head`: what the head of a response may take, in bytes.
    pub(super) fn new(socket: Socket, max_head: usize) -> (Self, Notes) {
        let notes = Notes(Arc::default());
        let limits = HeadLimits { fields: max_head / FIELD, bytes: max_head };
        let heads = HeadFilter::new(HeadKind::Response, limits);
        let wire = Self { socket, notes: notes.clone(), heads, ready: Bytes::new(), failed: None };
        (wire, notes)
    }

    /// Looks at what has been read; returns whether it is for hyper as it is.
    fn look_at(&mut self, bytes: &[u8]) -> bool {
        let mut state = self.notes.state();
        if std::mem::take(&mut state.awaits_head) {
            self.heads.expect_head();
        }
        let instead = self.heads.filter(bytes, &mut state.found);
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

    /// The end of what can be read. A reset has not told whether that is all: where nothing else
    /// tells the end of a body, it would look complete.
    fn end(&self) -> io::Result<()> {
        match self.failed {
            Some(io::ErrorKind::ConnectionReset) => Err(io::ErrorKind::ConnectionReset.into()),
            // `BrokenPipe`: the backend has closed in good order before it was sent more.
            _ => Ok(()),
        }
    }

    /// What hyper is told of a write.
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

/// Whether the other side takes nothing more.
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
            if unread::read_into(&mut this.ready, buf) {
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
