//! Opens sockets to backends: TCP, Unix, and TLS with ALPN. Does not speak HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::error::Failure;
use crate::dial::{self, DialError, TcpTuning};
use crate::health::BackendTls;
use crate::route::{UpstreamAddress, UpstreamTls};
use crate::server::descriptors;
use crate::tls_client::{self, Trust};

/// `SO_RCVBUF` in bytes (Linux doubles it for its bookkeeping). With autotuning (`tcp_rmem`) a fast
/// connection gets many MiB, which a client that stops reading would pin. This is as much as is
/// buffered on the client's side, and enough for a backend nearby: 384 KiB per round trip.
const RECEIVE_BUFFER: usize = 384 << 10;

const TUNING: TcpTuning =
    TcpTuning { keep_alive: None, user_timeout: None, receive_buffer: Some(RECEIVE_BUFFER) };

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

    /// The parameters of the TLS handshake for HTTP/2 or HTTP/1.1. `None` without TLS, or if the host is not a name
    /// that a certificate can have.
    pub(super) fn tls(&self, is_http2: bool) -> Option<BackendTls> {
        let ConnectorTls { http1, http2, server_name } = self.tls.as_ref()?;
        let config = Arc::clone(if is_http2 { http2 } else { http1 });
        Some(BackendTls { config, name: server_name.clone()? })
    }

    /// Connects to the first address of the host that accepts, and completes the TLS handshake if
    /// the upstream is `https`. `wants_http2`: ALPN must negotiate `h2`.
    ///
    /// # Errors
    /// The name does not resolve, no address accepts, the TLS handshake or ALPN fails, or `deadline`
    /// passes.
    pub(super) async fn connect(
        &self,
        wants_http2: bool,
        deadline: Instant,
    ) -> Result<BackendSocket, Failure> {
        let (host, port) = match &self.address {
            UpstreamAddress::Unix(path) => {
                let stream = dial::unix(path, deadline).await.map_err(failure)?;
                return Ok(BackendSocket::Unix(stream));
            }
            UpstreamAddress::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let stream = dial::tcp(host, port, &TUNING, deadline).await.map_err(failure)?;
        match &self.tls {
            Some(tls) => tls.handshake(stream, wants_http2, deadline).await,
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
            UpstreamAddress::Tcp { host, .. } => dial::server_name(host),
            UpstreamAddress::Unix(_) => None,
        };
        let server_name = settings.server_name.clone().or_else(own_name);
        Self { http1: Arc::new(http1), http2: Arc::new(http2), server_name }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        wants_http2: bool,
        deadline: Instant,
    ) -> Result<BackendSocket, Failure> {
        const NO_NAME: &str =
            "the upstream's host is not a valid TLS server name: set tls.server_name";
        let name = self.server_name.clone().ok_or_else(|| Failure::Connect(NO_NAME.to_owned()))?;
        let config = if wants_http2 { &self.http2 } else { &self.http1 };
        let stream = dial::tls(stream, config, name, deadline).await.map_err(failure)?;
        if wants_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            const NO_HTTP2: &str = "the backend does not offer HTTP/2 (ALPN h2)";
            return Err(Failure::Connect(NO_HTTP2.to_owned()));
        }
        Ok(BackendSocket::Tls(Box::new(stream)))
    }
}

fn failure(error: DialError) -> Failure {
    match error {
        DialError::TimedOut => Failure::ConnectTimeout,
        DialError::Resolve(error) | DialError::Connect(error)
            if descriptors::is_out_of_descriptors(&error) =>
        {
            Failure::NoDescriptor
        }
        error => Failure::connect(&error),
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::failure;
    use crate::dial::DialError;

    #[test]
    fn a_gateway_without_descriptors_does_not_blame_the_backend() {
        for (number, kind, is_of_backend) in
            [(24, "descriptors", false), (23, "descriptors", false), (111, "connect", true)]
        {
            let failure = failure(DialError::Connect(io::Error::from_raw_os_error(number)));
            assert_eq!(failure.as_str(), kind);
            assert_eq!(failure.is_unreachable(), is_of_backend, "{failure}");
            assert_eq!(failure.marks_upstream_down(), is_of_backend, "{failure}");
            assert_eq!(failure.is_health_neutral(), !is_of_backend, "{failure}");
        }
    }
}
