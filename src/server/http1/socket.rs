//! A client's connection, as hyper sees it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Exchange;
use super::heads::{HeadLimits, Heads, Role};
use crate::server::transport::Transport;

/// A client's connection, as hyper sees it.
#[derive(Debug)]
pub(in crate::server) struct ClientSocket {
    transport: Transport,
    exchange: Arc<Exchange>,
    heads: Heads,
    // What hyper is to read before anything else.
    ready: Bytes,
    // Whether the client has sent all that it will.
    is_at_end: bool,
    // Interim responses, before what hyper writes next.
    interim: BytesMut,
}

impl ClientSocket {
    pub(in crate::server) fn new(
        transport: Transport,
        exchange: Arc<Exchange>,
        limits: HeadLimits,
    ) -> Self {
        let heads = Heads::new(Role::Request, limits);
        Self {
            transport,
            exchange,
            heads,
            ready: Bytes::new(),
            is_at_end: false,
            interim: BytesMut::new(),
        }
    }

    /// Whether the client has sent all that it will.
    pub(in crate::server) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// The connection itself: something else than hyper goes on with it.
    pub(in crate::server) fn into_transport(self) -> Transport {
        self.transport
    }

    /// Looks at what has been read; returns whether it is for hyper as it is.
    fn look_at(&mut self, bytes: &[u8]) -> bool {
        if !self.exchange.is_between_requests() {
            // What belongs to a body is nobody's head, whatever it looks like.
            self.heads.expect_none();
            return true;
        }
        self.heads.expect();
        let instead = self.heads.read(bytes, &mut self.exchange.found());
        let is_as_it_is = instead.is_none();
        if let Some(instead) = instead {
            self.exchange.note_found();
            self.ready = instead.into();
        }
        is_as_it_is
    }

    /// Writes what hyper does not write: interim responses, where a response may begin.
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
            if this.ready.has_remaining() {
                let length = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready.split_to(length));
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                this.is_at_end = buf.remaining() > 0;
                return Poll::Ready(Ok(()));
            }
            if this.look_at(read) {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
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
        this.exchange.set_flushed(false);
        Pin::new(&mut this.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        this.exchange.set_flushed(false);
        Pin::new(&mut this.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    // hyper flushes when it has written all that it has.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.exchange.set_flushed(true);
        ready!(this.poll_interim(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
