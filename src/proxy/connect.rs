//! Opens sockets to backends: TCP, Unix, and TLS with ALPN. Does not speak HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::route::{UpstreamAddress, UpstreamTls};
use crate::tls_client::{self, Trust};

/// `SO_RCVBUF` in bytes (Linux doubles it for its bookkeeping). With autotuning (`tcp_rmem`) a fast
/// connection gets many MiB, which a client that stops reading would pin. This is as much as is
/// buffered on the client's side, and enough for a backend nearby: 384 KiB per round trip.
const RECEIVE_BUFFER: usize = 384 << 10;

/// A socket to a backend.
#[derive(Debug)]
pub(super) enum BackendSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
    // Boxed: keeps plaintext connections small.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens connections to one upstream address.
#[derive(Debug)]
pub(super) struct Connector {
    address: UpstreamAddress,
    tls: Option<ConnectorTls>,
}

#[derive(Debug)]
struct ConnectorTls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Connector {
    pub(super) fn new(address: UpstreamAddress, settings: &UpstreamTls) -> Self {
        let tls = address.is_tls().then(|| ConnectorTls::new(&address, settings));
        Self { address, tls }
    }

    /// Connects to the first address of the host that accepts, and completes the TLS handshake if
    /// the upstream is `https`. `wants_http2`: ALPN must negotiate `h2`.
    ///
    /// # Errors
    /// The name does not resolve, no address accepts, or the TLS handshake or ALPN fails.
    pub(super) async fn connect(&self, wants_http2: bool) -> io::Result<BackendSocket> {
        let (host, port) = match &self.address {
            UpstreamAddress::Unix(path) => {
                return UnixStream::connect(path).await.map(BackendSocket::Unix);
            }
            UpstreamAddress::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        // An optimization only: ignore a failure.
        drop(SockRef::from(&stream).set_recv_buffer_size(RECEIVE_BUFFER));
        match &self.tls {
            Some(tls) => tls.handshake(stream, wants_http2).await,
            None => Ok(BackendSocket::Tcp(stream)),
        }
    }
}

impl ConnectorTls {
    fn new(address: &UpstreamAddress, settings: &UpstreamTls) -> Self {
        let trust = if settings.is_unverified {
            Trust::AnyCertificate
        } else if settings.roots.is_empty() {
            Trust::SystemRootsAnd(Vec::new())
        } else {
            Trust::Only(settings.roots.clone())
        };
        let http1 = tls_client::client_config(trust);
        let mut http2 = http1.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let own_name = || match address {
            UpstreamAddress::Tcp { host, .. } => ServerName::try_from(host.clone()).ok(),
            UpstreamAddress::Unix(_) => None,
        };
        let server_name = settings.server_name.clone().or_else(own_name);
        Self { http1: Arc::new(http1), http2: Arc::new(http2), server_name }
    }

    async fn handshake(&self, stream: TcpStream, wants_http2: bool) -> io::Result<BackendSocket> {
        let name = self.server_name.clone().ok_or_else(|| {
            let what = "the upstream's host is not a valid TLS server name: set tls.server_name";
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        let config = if wants_http2 { &self.http2 } else { &self.http1 };
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        if wants_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let what = "the backend does not offer HTTP/2 (ALPN h2)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        Ok(BackendSocket::Tls(Box::new(stream)))
    }
}

macro_rules! with_socket {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            Self::Unix($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for BackendSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_socket!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for BackendSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_socket!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_socket!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
