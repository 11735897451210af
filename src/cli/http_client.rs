//! A small HTTP client for the commands: one request, on a connection of its own.
//!
//! Owns the way to a server: TCP, TLS, and HTTP/2 or HTTP/1.1 as ALPN says. Knows neither events
//! nor when to try again; it follows no redirect.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::trust;

/// A connection that is silent for so long is asked whether it still lives.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Sends requests.
pub(super) struct HttpClient {
    insecure: bool,
    /// Made when it is first needed: reading the system's roots takes a while.
    tls: OnceLock<TlsConnector>,
    connect_timeout: Duration,
}

/// The beginning of an answer, and the connection that its body comes over.
pub(super) struct Answer {
    /// Status, headers, body.
    pub(super) response: Response<Incoming>,
    /// Drives the connection; ends with the answer.
    _connection: AbortOnDropHandle<()>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Not `http://host/` or `https://host/`.
    #[error("{0} is not a URL with http or https and a host")]
    Url(String),
    /// Nobody is there, or nobody answers to the name.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// The certificate is not to be trusted, or there is no TLS at all.
    #[error("no TLS with {0}: {1}{hint}", hint = trust_hint(.1))]
    Tls(String, io::Error),
    /// The connection ended, or what came was not HTTP.
    #[error("{0}: {1}{hint}", hint = scheme_hint(.1))]
    Http(String, String),
    /// Nothing came in time.
    #[error("{0} did not answer in {1:?}")]
    Timeout(String, Duration),
}

impl HttpError {
    /// Whether trying again would end in the same way.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Url(_)) || matches!(self, Self::Tls(_, error) if is_distrust(error))
    }
}

fn is_distrust(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

fn trust_hint(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => " (--insecure takes any certificate)",
        // What is there does not begin as a record of TLS.
        Some(rustls::Error::InvalidMessage(_)) => "; it does not speak TLS: try http://",
        _ => "",
    }
}

/// An alert of TLS, where the head of a response should be.
fn scheme_hint(reason: &str) -> &'static str {
    match reason.contains("invalid HTTP version") {
        true => "; it does not speak HTTP in clear text: try https://",
        false => "",
    }
}

impl HttpClient {
    /// A client that waits `connect_timeout` for TCP and TLS together. With `insecure` it takes any
    /// certificate.
    pub(super) fn new(insecure: bool, connect_timeout: Duration) -> Self {
        Self { insecure, tls: OnceLock::new(), connect_timeout }
    }

    /// `GET uri`, as far as the head of the answer. The caller bounds how long that may take.
    pub(super) async fn get(&self, uri: &Uri, headers: HeaderMap) -> Result<Answer, HttpError> {
        let (is_tls, host, port) = place(uri)?;
        let at = format!("{host}:{port}");
        let connect = self.connect(is_tls, host, port);
        let stream = tokio::time::timeout(self.connect_timeout, connect)
            .await
            .map_err(|_| HttpError::Timeout(at.clone(), self.connect_timeout))??;
        let exchange = match stream {
            Stream::Plain(stream) => over_http1(stream, uri, headers).await,
            Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                over_http2(*stream, uri, headers).await
            }
            Stream::Tls(stream) => over_http1(*stream, uri, headers).await,
        };
        exchange.map_err(|error| HttpError::Http(at, reason(&error)))
    }

    async fn connect(&self, is_tls: bool, host: &str, port: u16) -> Result<Stream, HttpError> {
        let at = || format!("{host}:{port}");
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((name, port))
            .await
            .and_then(prepare)
            .map_err(|error| HttpError::Connect(at(), error))?;
        if !is_tls {
            return Ok(Stream::Plain(stream));
        }
        let name = ServerName::try_from(name.to_owned()).map_err(|_| HttpError::Url(at()))?;
        let stream = self.tls().connect(name, stream).await;
        stream.map(Box::new).map(Stream::Tls).map_err(|error| HttpError::Tls(at(), error))
    }

    fn tls(&self) -> &TlsConnector {
        self.tls.get_or_init(|| TlsConnector::from(Arc::new(trust::tls_client(self.insecure))))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Whether to use TLS, and the host and port of `uri`.
fn place(uri: &Uri) -> Result<(bool, &str, u16), HttpError> {
    let is_tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(HttpError::Url(uri.to_string())),
    };
    let host = uri.host().filter(|_| no_port(uri).is_none());
    let host = host.ok_or_else(|| HttpError::Url(uri.to_string()))?;
    Ok((is_tls, host, uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 })))
}

/// A port that is out of range, such as `99999`. The crate `http` parses such a URL as one without a
/// port.
pub(super) fn no_port(uri: &Uri) -> Option<&str> {
    let (_, port) = uri.authority()?.as_str().rsplit_once(':')?;
    (uri.port_u16().is_none() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(port)
}

/// A peer that vanished without a word is noticed, over HTTP/1.1 too.
fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4);
    SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn over_http2<S>(stream: S, uri: &Uri, headers: HeaderMap) -> hyper::Result<Answer>
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
    let response = sender.send_request(request(uri.clone(), headers)).await?;
    Ok(Answer { response, _connection: connection })
}

async fn over_http1<S>(stream: S, uri: &Uri, mut headers: HeaderMap) -> hyper::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = drive(connection);
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let target = path.parse().expect("a part of a URI is a URI");
    headers.entry(header::HOST).or_insert_with(|| host_header(uri));
    let response = sender.send_request(request(target, headers)).await?;
    Ok(Answer { response, _connection: connection })
}

/// Host and port as they stand in the URL, without user and password (RFC 9110, section 7.2).
fn host_header(uri: &Uri) -> HeaderValue {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    HeaderValue::from_str(host).expect("an authority is visible ASCII")
}

fn request(uri: Uri, headers: HeaderMap) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// The connection's errors reach the request or the body, whichever waits.
fn drive<E>(
    connection: impl Future<Output = Result<(), E>> + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await.err()) }))
}

/// An error of hyper together with its cause, which says more.
pub(super) fn reason(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{HttpError, host_header, place};

    #[test]
    fn a_url_says_where_to_connect() {
        let cases = [
            ("https://example.org/events", (true, "example.org", 443)),
            ("http://127.0.0.1:8080", (false, "127.0.0.1", 8080)),
            ("https://user:word@[::1]:8443/", (true, "[::1]", 8443)),
        ];
        for (uri, expected) in cases {
            assert_eq!(place(&uri.parse().expect(uri)).expect(uri), expected, "{uri}");
        }
        for uri in ["ftp://example.org/", "/events", "example.org:80", "http://example.org:99999/"]
        {
            let error = place(&uri.parse().expect(uri)).expect_err(uri);
            assert!(matches!(error, HttpError::Url(_)) && error.is_final(), "{uri}");
        }
    }

    #[test]
    fn a_host_header_has_no_password() {
        let uri = "https://user:word@[::1]:8443/x".parse().expect("a URL");
        assert_eq!(host_header(&uri), "[::1]:8443");
    }
}
