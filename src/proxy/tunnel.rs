//! A tunnel between a client and a backend after a protocol switch: relays bytes both ways.
//!
//! Over HTTP/1.1 it connects two sockets; over HTTP/2 the client's side is a stream (RFC 8441).
//! Does not know which protocol the bytes belong to.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::abort_on_drop::AbortOnDrop;
use super::recorder::{ConnectionSlot, TunnelGuard};
use crate::server::connection::BodyError;
use crate::server::request_body::RequestBody;

/// The read buffer of one direction, in octets.
const BUFFER: usize = 16 << 10;

/// The word for the end of a tunnel whose client's credential has expired.
const EXPIRED: &str = "expired";

/// How long a half-closed tunnel stays open for the other direction.
const LINGER: Duration = Duration::from_secs(30);

/// The backend's end of a tunnel. Dropping it releases the connection slot and the tunnel count.
#[derive(Debug)]
pub(super) struct TunnelBackend {
    pub(super) upgraded: Upgraded,
    pub(super) slot: ConnectionSlot,
    pub(super) tunnel: TunnelGuard,
    /// When the tunnel ends; `None`: when one side ends it.
    pub(super) expires_at: Option<Instant>,
}

/// Holds something for as long as a tunnel is open, and ends the tunnel. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct TunnelHandle {
    ending: CancellationToken,
    tally: Rc<TunnelTally>,
    held: Rc<OnceCell<Box<dyn Any>>>,
}

/// What a tunnel has carried, and why it has ended. For logs.
#[derive(Debug, Default)]
pub struct TunnelTally {
    to_backend: Cell<u64>,
    to_client: Cell<u64>,
    end: Cell<Option<&'static str>>,
}

impl TunnelTally {
    /// Bytes of the client.
    pub fn to_backend(&self) -> u64 {
        self.to_backend.get()
    }

    /// Bytes of the backend.
    pub fn to_client(&self) -> u64 {
        self.to_client.get()
    }

    /// Records that the gateway ends the tunnel, and why.
    pub fn note_end(&self, why: &'static str) {
        self.end.set(Some(why));
    }

    /// Why the tunnel has ended; `closed` unless the gateway has ended it.
    pub fn end(&self) -> &'static str {
        self.end.get().unwrap_or("closed")
    }
}

impl TunnelHandle {
    /// Drops `what` when the tunnel has ended. It must not own this handle. Does nothing the second time.
    pub fn hold(&self, what: impl Any) {
        // Holds the first one.
        drop(self.held.set(Box::new(what)));
    }

    /// Returns the counters of its bytes.
    pub fn tally(&self) -> Rc<TunnelTally> {
        Rc::clone(&self.tally)
    }

    /// Returns a token that ends the tunnel, on both sides, when it is cancelled.
    pub fn ender(&self) -> CancellationToken {
        self.ending.clone()
    }
}

/// Over HTTP/1.1: relays bytes between the client's connection and the backend's. Returns when both sides
/// have closed, one has failed, or one stayed open for [`LINGER`] after the other closed. Also returns when
/// the tunnel expires or is ended: both sides are closed at once, without a reason, because their protocol
/// is not known.
pub(super) async fn relay(client: OnUpgrade, backend: TunnelBackend, handle: TunnelHandle) {
    let expires_at = backend.expires_at;
    let tally = handle.tally();
    // Not `run_until_cancelled_owned`: the handle is held until the end.
    tokio::select! {
        () = handle.ending.cancelled() => {}
        () = expiry(expires_at) => tally.note_end(EXPIRED),
        () = relay_bytes(client, backend, &tally) => {}
    }
}

/// Resolves at this time; never if there is none.
async fn expiry(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn relay_bytes(client: OnUpgrade, backend: TunnelBackend, tally: &TunnelTally) {
    let TunnelBackend { upgraded, slot: _slot, tunnel: _tunnel, expires_at: _ } = backend;
    let client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => return tracing::debug!(%error, "the client's connection was not upgraded"),
    };
    let (client_read, client_write) = tokio::io::split(client);
    let (backend_read, backend_write) = tokio::io::split(TokioIo::new(upgraded));
    let mut up = std::pin::pin!(copy(client_read, backend_write, &tally.to_backend));
    let mut down = std::pin::pin!(copy(backend_read, client_write, &tally.to_client));
    let ended = tokio::select! {
        ended = &mut up => match ended {
            Ok(()) => tokio::time::timeout(LINGER, down).await,
            Err(error) => Ok(Err(error)),
        },
        ended = &mut down => match ended {
            Ok(()) => tokio::time::timeout(LINGER, up).await,
            Err(error) => Ok(Err(error)),
        },
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "a tunnel failed");
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &Cell<u64>,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    while from.read_buf(&mut buffer).await? > 0 {
        count.set(count.get() + buffer.len() as u64);
        to.write_all_buf(&mut buffer).await?;
        to.flush().await?;
        buffer.clear();
    }
    to.shutdown().await
}

/// Over HTTP/2: the backend's side of a tunnel as a response body. The client's side is relayed by
/// a task that this body owns: dropping the body aborts it.
#[derive(Debug)]
pub struct TunnelBody(Option<OpenTunnel>);

#[derive(Debug)]
struct OpenTunnel {
    backend: ReadHalf<TokioIo<Upgraded>>,
    buffer: BytesMut,
    expiry: Option<Pin<Box<Sleep>>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    handle: TunnelHandle,
    _up: AbortOnDrop,
    _slot: ConnectionSlot,
    _tunnel: TunnelGuard,
}

impl TunnelBody {
    /// The empty body of a 101 response over HTTP/1.1.
    pub(super) fn empty() -> Self {
        Self(None)
    }

    /// Starts the task that relays the client's bytes to the backend.
    pub(super) fn new(client: RequestBody, backend: TunnelBackend, handle: TunnelHandle) -> Self {
        let TunnelBackend { upgraded, slot, tunnel, expires_at } = backend;
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
        let tally = handle.tally();
        let up = tokio::task::spawn_local(async move {
            if let Err(error) = relay_client(client, write, &tally.to_backend).await {
                tracing::debug!(%error, "a tunnel failed");
            }
        });
        let buffer = BytesMut::new();
        let expiry = expires_at.map(|at| Box::pin(tokio::time::sleep_until(at)));
        let (up, slot, tunnel) = (AbortOnDrop(up), slot, tunnel);
        let ended = Box::pin(handle.ender().cancelled_owned());
        Self(Some(OpenTunnel {
            backend: read,
            buffer,
            expiry,
            ended,
            handle,
            _up: up,
            _slot: slot,
            _tunnel: tunnel,
        }))
    }
}

async fn relay_client(
    mut client: RequestBody,
    mut backend: WriteHalf<TokioIo<Upgraded>>,
    count: &Cell<u64>,
) -> Result<(), BodyError> {
    while let Some(frame) = client.frame().await {
        if let Ok(mut data) = frame?.into_data() {
            count.set(count.get() + data.len() as u64);
            backend.write_all_buf(&mut data).await?;
            backend.flush().await?;
        }
    }
    Ok(backend.shutdown().await?)
}

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(OpenTunnel { backend, buffer, expiry, ended, handle, .. }) = &mut this.0 else {
            return Poll::Ready(None);
        };
        let is_expired = expiry.as_mut().is_some_and(|expiry| expiry.as_mut().poll(cx).is_ready());
        if is_expired {
            handle.tally.note_end(EXPIRED);
        }
        if is_expired || ended.as_mut().poll(cx).is_ready() {
            this.0 = None;
            return Poll::Ready(None);
        }
        if buffer.capacity() < BUFFER / 8 {
            buffer.reserve(BUFFER);
        }
        let read = ready!(poll_read_buf(Pin::new(backend), cx, buffer));
        Poll::Ready(match read {
            Ok(0) => {
                this.0 = None;
                None
            }
            Ok(length) => {
                let count = &handle.tally.to_client;
                count.set(count.get() + length as u64);
                Some(Ok(Frame::data(buffer.split().freeze())))
            }
            Err(error) => {
                this.0 = None;
                Some(Err(error.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
