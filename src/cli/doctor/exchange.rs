//! One request to a backend, as the gateway connects to it: TCP, TLS as configured, or a Unix domain socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ssegate::dial::{self, DialError, TcpTuning};
use ssegate::http_client::describe;
use ssegate::route::{UpstreamAddress, UpstreamTls};
use ssegate::tls_client::{self, Trust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// A backend, as a route names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    /// The keys of gateway.yaml that name it, for the mend.
    pub(super) key: String,
    pub(super) address: UpstreamAddress,
    pub(super) tls: UpstreamTls,
    /// HTTP/2: over TLS by ALPN, in clear text by prior knowledge.
    pub(super) is_http2: bool,
    /// `Host` of requests to it.
    pub(super) host: Option<HeaderValue>,
}

/// Why a backend did not respond: the step that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExchangeError {
    /// Nothing accepts the connection.
    Connect(String),
    /// TLS failed: the certificate, or the port speaks no TLS.
    Tls(String),
    /// It spoke no HTTP.
    Http(String),
}

/// A response whose connection is driven as long as it lives.
pub(super) struct BackendResponse {
    pub(super) http: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

impl Backend {
    /// Sends a request without a body, and returns the response when its header is there.
    ///
    /// # Errors
    /// The step that failed, or took longer than `limit` in all.
    pub(super) async fn exchange(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<BackendResponse, ExchangeError> {
        let deadline = Instant::now() + limit;
        let stream = self.connect(deadline).await?;
        let request = self.request(method, target, headers)?;
        let exchange = async {
            match self.is_http2 {
                true => over_http2(stream, request).await,
                false => over_http1(stream, request).await,
            }
        };
        let exchanged = tokio::time::timeout_at(deadline, exchange).await;
        let exchanged = exchanged
            .map_err(|_elapsed| ExchangeError::Http(format!("no response within {limit:?}")))?;
        exchanged.map_err(|error| ExchangeError::Http(describe(&error)))
    }

    async fn connect(&self, deadline: Instant) -> Result<Box<dyn ByteStream>, ExchangeError> {
        let (host, port, is_tls) = match &self.address {
            UpstreamAddress::Unix(path) => {
                return Ok(Box::new(dial::unix(path, deadline).await.map_err(failure)?));
            }
            UpstreamAddress::Tcp { host, port, is_tls } => (host, *port, *is_tls),
        };
        let stream =
            dial::tcp(host, port, &TcpTuning::default(), deadline).await.map_err(failure)?;
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let name = self.tls.server_name.clone().or_else(|| dial::server_name(host));
        let name = name.ok_or_else(|| {
            ExchangeError::Tls("its host is not a name that a certificate can have".to_owned())
        })?;
        let trust = match (&self.tls.roots[..], self.tls.is_unverified) {
            (_, true) => Trust::AnyCertificate,
            ([], false) => Trust::SystemRootsAnd(Vec::new()),
            (roots, false) => Trust::Only(roots.to_vec()),
        };
        let mut config = tls_client::client_config(trust);
        if self.is_http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let stream = dial::tls(stream, &Arc::new(config), name, deadline).await.map_err(failure)?;
        if self.is_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ExchangeError::Tls("it does not offer HTTP/2 (ALPN h2)".to_owned()));
        }
        Ok(Box::new(stream))
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
    ) -> Result<Request<Empty<Bytes>>, ExchangeError> {
        let authority = self.address.authority();
        let scheme = if self.address.is_tls() { "https" } else { "http" };
        let uri = if self.is_http2 {
            format!("{scheme}://{authority}{target}")
        } else {
            target.to_owned()
        };
        let uri: Uri =
            uri.parse().map_err(|_| ExchangeError::Http(format!("{target:?} is not a path")))?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let host = self.host.clone().or_else(|| HeaderValue::from_str(&authority).ok());
        if let Some(host) = host.filter(|_| !self.is_http2 || self.host.is_some()) {
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }
}

fn failure(error: DialError) -> ExchangeError {
    match error {
        DialError::Handshake(error) => ExchangeError::Tls(error.to_string()),
        DialError::TimedOut => ExchangeError::Connect("it does not respond in time".to_owned()),
        DialError::Resolve(error) => {
            ExchangeError::Connect(format!("its name does not resolve: {error}"))
        }
        DialError::Connect(error) => ExchangeError::Connect(error.to_string()),
    }
}

async fn over_http1(
    stream: Box<dyn ByteStream>,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<BackendResponse> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = drive(connection);
    Ok(BackendResponse { http: sender.send_request(request).await?, _connection: connection })
}

async fn over_http2(
    stream: Box<dyn ByteStream>,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<BackendResponse> {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = drive(connection);
    Ok(BackendResponse { http: sender.send_request(request).await?, _connection: connection })
}

/// Spawns the connection's driver. Its error is dropped: hyper also returns it from the request or the body.
fn drive<E>(
    connection: impl Future<Output = Result<(), E>> + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await.err()) }))
}
