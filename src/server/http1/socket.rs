//! A client's connection, as hyper sees it.
//!
//! hyper either treats a half-closed client as gone, or does not watch for a close at all while a
//! request is handled. It is configured not to watch, and this socket does
//! ([`half_closed`](super::half_closed)). It also cuts the bytes into requests
//! ([`request_splitter`](super::request_splitter)) and writes interim responses.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Http1Exchange;
use super::half_closed::{HalfCloseAction, HalfClosed};
use super::head_filter::HeadLimits;
use super::refusal;
use super::request_splitter::{Piece, RequestSplitter};
use crate::server::settings::Http1Settings;
use crate::server::socket_state::SocketState;
use crate::server::transport::Transport;
use crate::server::unread;

/// The most bytes to read ahead while a request is handled.
const MAX_READ_AHEAD: usize = 2 << 10;

/// A client's connection, as hyper sees it.
#[derive(Debug)]
pub(in crate::server) struct ClientSocket {
    transport: Transport,
    exchange: Arc<Http1Exchange>,
    splitter: RequestSplitter,
    // Checked bytes that hyper reads first.
    ready: Bytes,
    // Unchecked bytes of later requests; and how many of them were read to watch for a close.
    read_ahead: BytesMut,
    watched_bytes: usize,
    // Whether the client has closed its sending side.
    is_at_end: bool,
    // How long a half-closed client is waited for; and its probes, while it waits for a response.
    half_close: Duration,
    half_closed: Option<HalfClosed>,
    state: Arc<SocketState>,
    // Interim responses, written before hyper's next bytes.
    interim: BytesMut,
    // hyper's refusal of a request, which was not written: it has no text.
    refusal: Option<Bytes>,
}

impl ClientSocket {
    pub(in crate::server) fn new(
        transport: Transport,
        (exchange, state): (Arc<Http1Exchange>, Arc<SocketState>),
        settings: &Http1Settings,
    ) -> Self {
        let limits =
            HeadLimits { fields: settings.max_header_fields, bytes: settings.max_header_bytes };
        Self {
            transport,
            exchange,
            splitter: RequestSplitter::new(limits),
            ready: Bytes::new(),
            read_ahead: BytesMut::new(),
            watched_bytes: 0,
            is_at_end: false,
            half_close: settings.half_close,
            half_closed: None,
            state,
            interim: BytesMut::new(),
            refusal: None,
        }
    }

    /// Takes hyper's refusal of the last request, if there is one. The caller writes it, and closes the connection.
    pub(in crate::server) fn take_refusal(&mut self) -> Option<Bytes> {
        self.refusal.take()
    }

    /// Whether the client has closed its sending side.
    pub(in crate::server) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// The transport, to write to it beside hyper.
    pub(in crate::server) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Returns the transport, to use it without hyper.
    pub(in crate::server) fn into_transport(self) -> Transport {
        self.transport
    }

    /// Whether there are received bytes that hyper has not read.
    pub(in crate::server) fn has_unread(&self) -> bool {
        !self.ready.is_empty() || !self.read_ahead.is_empty()
    }

    /// Checks received bytes, up to the end of the current request.
    fn inspect(splitter: &mut RequestSplitter, exchange: &Http1Exchange, bytes: &[u8]) -> Piece {
        if exchange.is_upgraded() {
            splitter.pass_through();
        }
        let piece = splitter.read(bytes, &mut exchange.extras());
        if piece.replacement.is_some() {
            exchange.mark_extras();
        }
        piece
    }

    /// Gives hyper bytes that arrived during an earlier request.
    fn read_buffered(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.read_ahead.len().min(buf.remaining());
        let piece = Self::inspect(&mut self.splitter, &self.exchange, &self.read_ahead[..length]);
        let same = self.read_ahead.split_to(piece.length);
        if self.read_ahead.is_empty() {
            (self.read_ahead, self.watched_bytes) = (BytesMut::new(), 0);
        }
        match piece.replacement {
            Some(replacement) => self.ready = replacement.into(),
            None => buf.put_slice(&same),
        }
    }

    /// Watches for the client's close while a request is handled, when hyper does not read. Buffers
    /// what the client sends meanwhile, up to [`MAX_READ_AHEAD`].
    ///
    /// # Errors
    /// The client is gone.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.exchange.is_awaiting_response() {
            return Ok(());
        }
        while !self.is_at_end && self.watched_bytes < MAX_READ_AHEAD {
            let mut piece = [MaybeUninit::uninit(); MAX_READ_AHEAD];
            let mut piece = ReadBuf::uninit(&mut piece[self.watched_bytes..]);
            let Poll::Ready(read) = Pin::new(&mut self.transport).poll_read(cx, &mut piece) else {
                break;
            };
            read?;
            self.read_ahead.extend_from_slice(piece.filled());
            self.watched_bytes += piece.filled().len();
            self.is_at_end = piece.filled().is_empty();
        }
        if self.is_at_end { self.probe_client(cx) } else { Ok(()) }
    }

    /// Probes a half-closed client.
    ///
    /// # Errors
    /// It counts as gone.
    fn probe_client(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let left =
            || io::Error::new(io::ErrorKind::ConnectionAborted, "the client closed the connection");
        if self.half_close.is_zero() {
            return Err(left());
        }
        let half_closed = self.half_closed.get_or_insert_with(|| HalfClosed::new(self.half_close));
        while let Poll::Ready(due) = half_closed.poll(cx) {
            match due {
                HalfCloseAction::Close => return Err(left()),
                HalfCloseAction::Probe => {
                    self.state.probe.raise();
                    // The response body sees the request when it is polled.
                    cx.waker().wake_by_ref();
                }
            }
        }
        Ok(())
    }

    fn note_written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(half_closed), Poll::Ready(Ok(_))) = (&mut self.half_closed, &written) {
            half_closed.note_write();
        }
        written
    }

    /// Withholds bytes that hyper writes if they are its own refusal of a request: the text for it is added later.
    fn takes_refusal(&mut self, bytes: &[u8]) -> bool {
        let is_of_hyper = !self.exchange.owes_response() && !self.exchange.is_upgraded();
        let takes = is_of_hyper && self.refusal.is_none() && refusal::is_refusal(bytes);
        if takes {
            self.refusal = Some(Bytes::copy_from_slice(bytes));
        }
        takes
    }

    /// Writes queued interim responses, where a response may begin.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.exchange.is_flushed() {
            let waiting = self.exchange.take_interim();
            if !waiting.is_empty() {
                self.interim.extend_from_slice(&waiting);
            }
        }
        while self.interim.has_remaining() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientSocket {
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
            if !this.read_ahead.is_empty() {
                this.read_buffered(buf);
                if buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if this.is_at_end {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                this.is_at_end = buf.remaining() > 0;
                return Poll::Ready(Ok(()));
            }
            let Piece { length, replacement } =
                Self::inspect(&mut this.splitter, &this.exchange, read);
            this.read_ahead.extend_from_slice(&read[length..]);
            match replacement {
                Some(replacement) => {
                    this.ready = replacement.into();
                    buf.set_filled(before);
                }
                None => {
                    buf.set_filled(before + length);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        if this.takes_refusal(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        this.exchange.set_flushed(false);
        let written = Pin::new(&mut this.transport).poll_write(cx, buf);
        this.note_written(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        // hyper writes a refusal in one piece.
        if let Some(first) = bufs.iter().find(|buf| !buf.is_empty())
            && this.takes_refusal(first)
        {
            return Poll::Ready(Ok(first.len()));
        }
        this.exchange.set_flushed(false);
        let written = Pin::new(&mut this.transport).poll_write_vectored(cx, bufs);
        this.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    // hyper flushes once it has written all it has.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.exchange.set_flushed(true);
        ready!(this.poll_interim(cx))?;
        ready!(Pin::new(&mut this.transport).poll_flush(cx))?;
        Poll::Ready(this.watch_client(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refusal.is_some() {
            // The refusal is still to be written.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }
}
