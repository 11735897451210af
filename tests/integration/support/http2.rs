//! HTTP/2 through the `h2` crate: one connection, many streams.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinHandle;

use super::client::Io;
use super::{Body, Request, Response, Via};

/// A connection; closed when it and all bodies that came over it are dropped.
#[derive(Clone)]
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    scheme: &'static str,
    address: SocketAddr,
}

impl Http2 {
    /// Connects.
    pub(crate) async fn connect(via: Via, to: SocketAddr) -> Self {
        Self::handshake(via.connect(to).await, via.is_tls(), to).await
    }

    /// Begins HTTP/2 on a connection.
    pub(crate) async fn handshake(io: Box<dyn Io>, is_tls: bool, address: SocketAddr) -> Self {
        Self::driven(io, is_tls, address).await.0
    }

    /// The same, and the end of the connection: `Ok` is a clean one.
    pub(crate) async fn driven(
        io: Box<dyn Io>,
        is_tls: bool,
        address: SocketAddr,
    ) -> (Self, JoinHandle<Result<(), h2::Error>>) {
        // One event on many streams is many small frames at once: to this library an attack, unless
        // it is told otherwise.
        let mut builder = h2::client::Builder::new();
        let (requests, connection) =
            builder.data_frame_budget(1 << 30).handshake(io).await.unwrap();
        let end = tokio::spawn(connection);
        (Self { requests, scheme: if is_tls { "https" } else { "http" }, address }, end)
    }

    /// Sends a request as a stream of its own.
    pub(crate) async fn send(&self, request: Request) -> Response {
        self.try_send(request).await.unwrap()
    }

    /// The same, where it may be refused.
    pub(crate) async fn try_send(&self, request: Request) -> Result<Response, h2::Error> {
        let body = Bytes::from(request.body.clone());
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut rest) = requests.send_request(self.head(request), body.is_empty())?;
        if !body.is_empty() {
            rest.send_data(body, true)?;
        }
        let (head, body) = response.await?.into_parts();
        let body = Body::Http2(Http2Body { body, _connection: self.requests.clone() });
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn head(&self, request: Request) -> http::Request<()> {
        let host = request.host.unwrap_or_else(|| self.address.to_string());
        let uri = format!("{}://{host}{}", self.scheme, request.target);
        let head = http::Request::builder().method(request.method.as_str()).uri(uri);
        let head = head.version(http::Version::HTTP_2);
        let fields = request.headers.into_iter();
        fields.fold(head, |head, (name, value)| head.header(name, value)).body(()).unwrap()
    }
}

/// A body that gives the window back as it is read.
pub(crate) struct Http2Body {
    body: h2::RecvStream,
    _connection: SendRequest<Bytes>,
}

impl Http2Body {
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        while let Some(chunk) = self.body.data().await {
            let chunk = chunk.map_err(|error| error.to_string())?;
            self.body.flow_control().release_capacity(chunk.len()).unwrap();
            // The end may come with a frame of no bytes.
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}
