//! A connection to the bus from within its process, without a socket.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::broker::Broker;
use super::session::BusSession;

/// Bytes on their way in each direction, at most.
const BUFFER: usize = 64 << 10;

/// A connection that speaks RESP with the bus, as one over a socket does. Neither the limit of connections
/// nor that of their memory closes it. Dropping it ends its session.
pub struct BusConnection {
    stream: DuplexStream,
    _session: AbortOnDropHandle<()>,
}

impl Broker {
    /// Opens a connection of the process itself. To be called in a tokio `LocalRuntime` or `LocalSet`: the
    /// session is a local task, owned by the connection.
    pub fn connect(&self) -> BusConnection {
        let (stream, theirs) = tokio::io::duplex(BUFFER);
        let session = BusSession::own(self);
        let (reader, writer) = tokio::io::split(theirs);
        // Not stopped with the listener: whoever reads a log goes on while streams are drained.
        let serving = session.run(reader, writer, CancellationToken::new());
        let session = AbortOnDropHandle::new(tokio::task::spawn_local(serving));
        BusConnection { stream, _session: session }
    }
}

impl AsyncRead for BusConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BusConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for BusConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusConnection").finish_non_exhaustive()
    }
}
