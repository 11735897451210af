//! A request, the way it travels, and the head of its response.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Body, EventStream, Http2, SOON, TlsClient, http1, within};

/// A connection of either kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// HTTP/1.1 in clear text.
    Http1,
    /// HTTP/1.1 over TLS.
    Http1Tls,
    /// HTTP/2 over TLS.
    Http2,
    /// HTTP/2 in clear text, by prior knowledge.
    H2c,
}

impl Via {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::Http2, Self::H2c];

    /// Whether it needs a listener with TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2)
    }

    /// Whether it is HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::H2c)
    }

    /// Connects, with TLS where it belongs to it.
    pub(crate) async fn connect(self, to: SocketAddr) -> Box<dyn Io> {
        let tcp = TcpStream::connect(to).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        match self {
            Self::Http1 | Self::H2c => Box::new(tcp),
            Self::Http1Tls => {
                Box::new(TlsClient::offering(&["http/1.1"]).handshake(tcp).await.unwrap())
            }
            Self::Http2 => {
                Box::new(TlsClient::offering(&["h2", "http/1.1"]).handshake(tcp).await.unwrap())
            }
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Any method.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, host: None, headers: Vec::new(), body: Vec::new() }
    }

    /// GET, as `EventSource` and everybody else sends it.
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// GET, as only a browser's `EventSource` sends it.
    pub(crate) fn events(target: &str) -> Self {
        Self::get(target)
            .header("accept", "text/event-stream")
            .header("cache-control", "no-cache")
            .header("sec-fetch-mode", "cors")
    }

    /// One header more.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another host than the address that is connected to.
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// A body, with its length.
    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Sends it over a connection of its own.
    pub(crate) async fn send(self, via: Via, to: SocketAddr) -> Response {
        self.send_within(SOON, via, to).await
    }

    /// Sends it as [`send`](Self::send) does, and waits up to `limit` for the head of the response.
    pub(crate) async fn send_within(self, limit: Duration, via: Via, to: SocketAddr) -> Response {
        let what = format!("a response to {} {} via {via:?}", self.method, self.target);
        let exchange = Box::pin(async {
            if via.is_http2() {
                Http2::handshake(via.connect(to).await, via.is_tls(), to).await.send(self).await
            } else {
                http1::exchange(via.connect(to).await, self, to).await
            }
        });
        within(limit, &what, exchange).await
    }
}

/// The head of a response, and its body still to be read.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Response {
    /// A header's value; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The rest of the body, as text.
    pub(crate) async fn text(mut self) -> String {
        let rest = within(SOON, "the end of a body", self.body.rest()).await;
        String::from_utf8(rest.unwrap()).unwrap()
    }

    /// The body as events, where it is a stream of them.
    pub(crate) fn stream(self) -> EventStream {
        assert_eq!(self.status, 200, "{:?}", self.headers);
        let kind = self.header("content-type");
        assert_eq!(kind.split(';').next(), Some("text/event-stream"), "{kind}");
        EventStream::new(self)
    }
}
