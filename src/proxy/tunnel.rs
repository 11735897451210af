//! A connection through us that HTTP is no longer spoken on: bytes go both ways, as they come.

use std::io;
use std::pin::Pin;
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
use tokio_util::io::poll_read_buf;

use super::connection::Closing;
use super::facts::{Place, Tunnel};
use crate::server::connection::BodyError;
use crate::server::request_body::RequestBody;

/// What is read at once, in one direction.
const BUFFER: usize = 16 << 10;

/// One side has said its last; so long the other may go on.
const LINGER: Duration = Duration::from_secs(30);

/// The backend's end of a tunnel, and what is given back when it closes.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) upgraded: Upgraded,
    pub(super) place: Place,
    pub(super) tunnel: Tunnel,
}

/// Over HTTP/1.1: carries the bytes between the client's connection and the backend's. Ends when
/// both sides have ended.
pub(super) async fn carry(client: OnUpgrade, backend: Backend) {
    let Backend { upgraded, place: _place, tunnel: _tunnel } = backend;
    let client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => return tracing::debug!(%error, "the client's connection did not switch"),
    };
    let (client_read, client_write) = tokio::io::split(client);
    let (backend_read, backend_write) = tokio::io::split(TokioIo::new(upgraded));
    let mut up = std::pin::pin!(copy(client_read, backend_write));
    let mut down = std::pin::pin!(copy(backend_read, client_write));
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
        tracing::debug!(%error, "a tunnel broke off");
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    while from.read_buf(&mut buffer).await? > 0 {
        to.write_all_buf(&mut buffer).await?;
        to.flush().await?;
        buffer.clear();
    }
    to.shutdown().await
}

/// Over HTTP/2: what the backend says in a tunnel. What the client says is carried by a task that
/// this body owns.
#[derive(Debug)]
pub struct TunnelBody(Option<Open>);

#[derive(Debug)]
struct Open {
    backend: ReadHalf<TokioIo<Upgraded>>,
    buffer: BytesMut,
    _up: Closing,
    _place: Place,
    _tunnel: Tunnel,
}

impl TunnelBody {
    /// Over HTTP/1.1 the body says nothing.
    pub(super) fn empty() -> Self {
        Self(None)
    }

    /// Begins to carry what the client says.
    pub(super) fn new(client: RequestBody, backend: Backend) -> Self {
        let Backend { upgraded, place, tunnel } = backend;
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
        let up = tokio::task::spawn_local(async move {
            if let Err(error) = carry_up(client, write).await {
                tracing::debug!(%error, "a tunnel broke off");
            }
        });
        let buffer = BytesMut::new();
        let (up, place, tunnel) = (Closing(up), place, tunnel);
        Self(Some(Open { backend: read, buffer, _up: up, _place: place, _tunnel: tunnel }))
    }
}

async fn carry_up(
    mut client: RequestBody,
    mut backend: WriteHalf<TokioIo<Upgraded>>,
) -> Result<(), BodyError> {
    while let Some(frame) = client.frame().await {
        if let Ok(mut data) = frame?.into_data() {
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
        let Some(Open { backend, buffer, .. }) = &mut this.0 else { return Poll::Ready(None) };
        if buffer.capacity() < BUFFER / 8 {
            buffer.reserve(BUFFER);
        }
        let read = ready!(poll_read_buf(Pin::new(backend), cx, buffer));
        Poll::Ready(match read {
            Ok(0) => {
                this.0 = None;
                None
            }
            Ok(_) => Some(Ok(Frame::data(buffer.split().freeze()))),
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
