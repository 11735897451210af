//! The socket of an HTTP/1.1 connection as hyper gets it.
//!
//! Works around two limits of hyper's client. hyper rejects or loses parts of a response head;
//! those are taken out before hyper reads it, and added again afterwards
//! ([`heads`](crate::server::http1::head_filter)). And hyper drops the response if the request cannot be
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

use super::connect::BackendSocket;
use super::message;
use crate::server::http1::head_filter::{HeadExtras, HeadFilter, HeadKind, HeadLimits};
use crate::server::interim::Interim;
use crate::server::unread;

/// The overhead counted per field beside its name and value (RFC 9113, section 6.5.2), in octets.
/// With it a limit in octets bounds the number of fields too.
const FIELD_OVERHEAD: usize = 32;

/// The state that the socket shares with the sender of a request.
// A lock although all runs on one thread: hyper requires `Send` of a connection that can be
// upgraded.
#[derive(Clone, Debug)]
pub(super) struct Http1IoHandle(Arc<Mutex<Http1IoState>>);

#[derive(Debug, Default)]
struct Http1IoState {
    // A request has been sent, and the next octets begin the head of its response.
    expects_head: bool,
    found: HeadExtras,
    // A write has failed: the backend reads nothing more.
    is_write_closed: bool,
    // The task that waits for the response.
    response_waker: Option<Waker>,
}

impl Http1IoHandle {
    fn state(&self) -> MutexGuard<'_, Http1IoState> {
        // A poisoned lock is fine: no critical section leaves the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Call before a request is sent: the next octets read belong to the head of its response.
    pub(super) fn expect_response(&self) {
        let mut state = self.state();
        (state.expects_head, state.found) = (true, HeadExtras::default());
    }

    /// Whether a write has failed: no further request may be sent on this connection.
    pub(super) fn is_write_closed(&self) -> bool {
        self.state().is_write_closed
    }

    /// Adds the fields and the reason phrase that were withheld from hyper.
    pub(super) fn restore_head<B>(&self, response: &mut Response<B>) {
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
    pub(super) fn forward_interim(&self, interim: &Interim, cx: &Context<'_>) {
        let mut state = self.state();
        for (status, headers) in state.found.interim.drain(..) {
            message::forward_interim(interim, status, headers);
        }
        if !state.response_waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            state.response_waker = Some(cx.waker().clone());
        }
    }
}

/// The socket of a connection to a backend, for hyper.
#[derive(Debug)]
pub(super) struct Http1Io {
    socket: BackendSocket,
    io_handle: Http1IoHandle,
    heads: HeadFilter,
    // A rewritten head, which hyper reads before anything else.
    pending_head: Bytes,
    // The error of the first write that failed.
    write_error: Option<io::ErrorKind>,
}

impl Http1Io {
    /// Wraps a socket. `max_head` limits the head of a response, in octets.
    pub(super) fn new(socket: BackendSocket, max_head: usize) -> (Self, Http1IoHandle) {
        let io_handle = Http1IoHandle(Arc::default());
        let limits = HeadLimits { fields: max_head / FIELD_OVERHEAD, bytes: max_head };
        let heads = HeadFilter::new(HeadKind::Response, limits);
        let io = Self {
            socket,
            io_handle: io_handle.clone(),
            heads,
            pending_head: Bytes::new(),
            write_error: None,
        };
        (io, io_handle)
    }

    /// Inspects what has been read; returns whether hyper gets it unchanged.
    fn inspect(&mut self, bytes: &[u8]) -> bool {
        let mut state = self.io_handle.state();
        if std::mem::take(&mut state.expects_head) {
            self.heads.expect_head();
        }
        let rewritten = self.heads.filter(bytes, &mut state.found);
        if !state.found.interim.is_empty()
            && let Some(response_waker) = state.response_waker.take()
        {
            response_waker.wake();
        }
        drop(state);
        let is_unchanged = rewritten.is_none();
        self.pending_head = rewritten.map(Bytes::from).unwrap_or_default();
        is_unchanged
    }

    /// The result of a read at end of file. After a connection reset data may be missing: without
    /// the error, a body that ends with the connection would look complete.
    fn read_eof(&self) -> io::Result<()> {
        match self.write_error {
            Some(io::ErrorKind::ConnectionReset) => Err(io::ErrorKind::ConnectionReset.into()),
            // `BrokenPipe`: the backend closed in an orderly way before we wrote more.
            _ => Ok(()),
        }
    }

    /// The result of a write as hyper sees it.
    fn hide_write_error(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Err(error) if is_gone(&error) => {
                self.write_error = Some(error.kind());
                self.io_handle.state().is_write_closed = true;
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

impl AsyncRead for Http1Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if unread::read_into(&mut this.pending_head, buf) {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(this.read_eof());
            }
            if this.inspect(read) {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for Http1Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.write_error.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, buf));
        Poll::Ready(this.hide_write_error(written, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if this.write_error.is_some() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bufs));
        Poll::Ready(this.hide_write_error(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.write_error.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut this.socket).poll_flush(cx));
        Poll::Ready(this.hide_write_error(flushed.map(|()| 0), 0).map(|_| ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
