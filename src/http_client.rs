//! A small HTTP client: one request per connection. For the commands, sets of keys, and webhooks.
//!
//! Owns the choice of HTTP/2 or HTTP/1.1 by ALPN. Does not know events, retries or redirects, nor the proxies
//! that environment variables name: these are the caller's.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::dial::{self, DialError, TcpTuning};

/// The interval of keep-alive probes (HTTP/2 PING, TCP keep-alive) on an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// With TCP keep-alive, so that a dead peer is noticed over HTTP/1.1, too.
const TUNING: TcpTuning = TcpTuning {
    keep_alive: Some(
        TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(Duration::from_secs(5)),
    ),
    user_timeout: None,
    receive_buffer: None,
};

/// An HTTP client, without a connection pool.
pub struct HttpClient {
    // Called at first use: loading the system's root certificates takes a while.
    trust: Box<dyn Fn() -> ClientConfig + Send + Sync>,
    tls: OnceLock<Arc<ClientConfig>>,
    connect_timeout: Duration,
}

/// A response whose body is still to be read, with its connection.
#[derive(Debug)]
pub struct ClientResponse {
    /// The response.
    pub http: Response<Incoming>,
    // Drives the connection until the response is dropped.
    _connection: AbortOnDropHandle<()>,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL of the form `http://host/` or `https://host/`.
    #[error("{0}: not a valid URL; use http://host[:port]/path or https://host[:port]/path")]
    Url(String),
    /// The name does not resolve, or the connection is refused.
    #[error("cannot connect to {0}: {1}{hint}", hint = refusal_hint(.1))]
    Connect(String, io::Error),
    /// The TLS handshake failed: an untrusted certificate, or a port without TLS.
    #[error("TLS handshake with {0} failed: {1}{hint}", hint = tls_hint(.1))]
    Tls(String, io::Error),
    /// The connection was closed, or the response is not valid HTTP.
    #[error("{0}: {1}{hint}", hint = scheme_hint(.1))]
    Http(String, String),
    /// No response within the timeout.
    #[error("{0}: no response within {1:?}")]
    Timeout(String, Duration),
}

impl HttpError {
    /// Whether a retry would fail in the same way.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Url(_)) || self.is_distrust()
    }

    /// Whether the server's certificate is not trusted.
    pub fn is_distrust(&self) -> bool {
        matches!(self, Self::Tls(_, error) if is_distrust(error))
    }
}

fn is_distrust(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

fn tls_hint(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        // The first bytes are not a TLS record.
        Some(rustls::Error::InvalidMessage(_)) => "; this port does not speak TLS: try http://",
        _ => "",
    }
}

fn refusal_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "; nothing listens there: is it running?",
        _ => "",
    }
}

/// hyper reports this version error for a TLS alert where it expects a status line.
fn scheme_hint(reason: &str) -> &'static str {
    match reason.contains("invalid HTTP version") {
        true => "; this port does not speak plain HTTP: try https://",
        false => "",
    }
}

impl HttpClient {
    /// `connect_timeout` covers TCP and TLS together. `trust` is called once, before the first connection with
    /// TLS; HTTP/2 is spoken where its ALPN has `h2`.
    pub fn new(
        trust: impl Fn() -> ClientConfig + Send + Sync + 'static,
        connect_timeout: Duration,
    ) -> Self {
        Self { trust: Box::new(trust), tls: OnceLock::new(), connect_timeout }
    }

    /// Loads the certificates to trust, which blocks, unless they have been loaded. Otherwise the first
    /// connection with TLS does it.
    pub fn load_trust(&self) {
        self.tls();
    }

    /// Sends a GET request and returns the response when its header has arrived. Only connecting
    /// has a timeout here; the caller bounds the whole.
    ///
    /// # Errors
    /// There is no response.
    pub async fn get(&self, uri: &Uri, headers: HeaderMap) -> Result<ClientResponse, HttpError> {
        // Boxed, because the future of the handshake is large.
        Box::pin(self.send(&Method::GET, uri, headers)).await
    }

    /// The same with another method, without a body.
    ///
    /// # Errors
    /// There is no response.
    pub async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        headers: HeaderMap,
    ) -> Result<ClientResponse, HttpError> {
        self.exchange(request(method, uri, (headers, Bytes::new()))).await
    }

    /// Sends a POST request with this body.
    ///
    /// # Errors
    /// There is no response.
    pub async fn post(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<ClientResponse, HttpError> {
        self.exchange(request(&Method::POST, uri, (headers, body))).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<ClientResponse, HttpError> {
        let uri = request.uri().clone();
        let (is_tls, host, port) = endpoint(&uri)?;
        let at = format!("{host}:{port}");
        let stream = self.connect(is_tls, host, port).await?;
        let exchange = match stream {
            MaybeTlsStream::Plain(stream) => over_http1(stream, request).await,
            MaybeTlsStream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                over_http2(*stream, request).await
            }
            MaybeTlsStream::Tls(stream) => over_http1(*stream, request).await,
        };
        exchange.map_err(|error| HttpError::Http(at, describe(&error)))
    }

    async fn connect(
        &self,
        is_tls: bool,
        host: &str,
        port: u16,
    ) -> Result<MaybeTlsStream, HttpError> {
        let at = || format!("{host}:{port}");
        let failure = |error| match error {
            DialError::Resolve(error) | DialError::Connect(error) => {
                HttpError::Connect(at(), error)
            }
            DialError::Handshake(error) => HttpError::Tls(at(), error),
            DialError::TimedOut => HttpError::Timeout(at(), self.connect_timeout),
        };
        let deadline = Instant::now() + self.connect_timeout;
        let stream = dial::tcp(host, port, &TUNING, deadline).await.map_err(failure)?;
        if !is_tls {
            return Ok(MaybeTlsStream::Plain(stream));
        }
        let name = dial::server_name(host).ok_or_else(|| HttpError::Url(at()))?;
        let stream = dial::tls(stream, self.tls(), name, deadline).await.map_err(failure)?;
        Ok(MaybeTlsStream::Tls(Box::new(stream)))
    }

    fn tls(&self) -> &Arc<ClientConfig> {
        self.tls.get_or_init(|| Arc::new((self.trust)()))
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

enum MaybeTlsStream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Returns whether `uri` uses TLS, and its host and port.
fn endpoint(uri: &Uri) -> Result<(bool, &str, u16), HttpError> {
    let is_tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(HttpError::Url(uri.to_string())),
    };
    let host = uri.host().filter(|_| invalid_port(uri).is_none());
    let host = host.ok_or_else(|| HttpError::Url(uri.to_string()))?;
    Ok((is_tls, host, uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 })))
}

/// Returns the port if it is out of range, such as `99999`. The crate `http` parses such a URL as
/// one without a port.
pub fn invalid_port(uri: &Uri) -> Option<&str> {
    let (_, port) = uri.authority()?.as_str().rsplit_once(':')?;
    (uri.port_u16().is_none() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(port)
}

async fn over_http2<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<ClientResponse>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = drive(connection);
    let response = sender.send_request(request).await?;
    Ok(ClientResponse { http: response, _connection: connection })
}

async fn over_http1<S>(
    stream: S,
    mut request: Request<Full<Bytes>>,
) -> hyper::Result<ClientResponse>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = drive(connection);
    let host = host_header(request.uri());
    request.headers_mut().entry(header::HOST).or_insert(host);
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = path.parse().expect("the path and query of a URI is a URI");
    let response = sender.send_request(request).await?;
    Ok(ClientResponse { http: response, _connection: connection })
}

/// The Host field: host and port of the URL, without user and password (RFC 9110, section 7.2).
fn host_header(uri: &Uri) -> HeaderValue {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    HeaderValue::from_str(host).expect("an authority is visible ASCII")
}

fn request(
    method: &Method,
    uri: &Uri,
    (headers, body): (HeaderMap, Bytes),
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    request.method_mut().clone_from(method);
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers;
    request
}

/// Spawns the connection's driver. Its error is dropped: hyper also returns it from the pending
/// request or body.
fn drive<E>(
    connection: impl Future<Output = Result<(), E>> + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await.err()) }))
}

/// Formats a hyper error with its source, which has the details.
pub fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{HttpError, endpoint, host_header};

    #[test]
    fn the_scheme_host_and_port_of_a_url_are_read() {
        let cases = [
            ("https://example.org/events", (true, "example.org", 443)),
            ("http://127.0.0.1:8080", (false, "127.0.0.1", 8080)),
            ("https://user:word@[::1]:8443/", (true, "[::1]", 8443)),
        ];
        for (uri, expected) in cases {
            assert_eq!(endpoint(&uri.parse().expect(uri)).expect(uri), expected, "{uri}");
        }
        for uri in ["ftp://example.org/", "/events", "example.org:80", "http://example.org:99999/"]
        {
            let error = endpoint(&uri.parse().expect(uri)).expect_err(uri);
            assert!(matches!(error, HttpError::Url(_)) && error.is_final(), "{uri}");
        }
    }

    #[test]
    fn the_host_header_has_no_user_or_password() {
        let uri = "https://user:word@[::1]:8443/x".parse().expect("a URL");
        assert_eq!(host_header(&uri), "[::1]:8443");
    }
}
