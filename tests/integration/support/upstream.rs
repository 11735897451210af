//! A backend that does exactly what a test tells it, byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{SOON, within};

/// A listening socket.
pub(crate) struct Upstream(TcpListener);

impl Upstream {
    /// Listens.
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Listens where another one did.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self(TcpListener::bind(address).await.unwrap())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// A route that leads here.
    pub(crate) fn route(&self, path: &str) -> String {
        let address = self.address();
        format!("- path: {path}\n  proxy: {{ upstream: \"http://{address}\" }}\n")
    }

    /// The next request, on a connection of its own.
    pub(crate) async fn call(&self) -> Call {
        within(SOON, "a request at the backend", self.next_call()).await
    }

    /// The next request, however long it takes.
    pub(crate) async fn next_call(&self) -> Call {
        loop {
            let (socket, _) = self.0.accept().await.unwrap();
            if let Some(call) = Call::read(socket).await {
                return call;
            }
        }
    }
}

/// A request that has arrived, and the connection to answer it on.
pub(crate) struct Call {
    socket: TcpStream,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// Reads a request; `None` where the connection was closed without one.
    async fn read(mut socket: TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut bytes).await.unwrap() == 0 {
                assert!(bytes.is_empty(), "closed within a head");
                return None;
            }
        };
        let body = bytes.split_off(end);
        let head = String::from_utf8(bytes).unwrap();
        let mut call = Self { socket, head, body };
        let is_chunked = call.header("transfer-encoding") == "chunked";
        let length = call.header("content-length").parse().unwrap_or(0);
        let is_complete = |body: &[u8]| match is_chunked {
            true => body.ends_with(b"0\r\n\r\n"),
            false => body.len() >= length,
        };
        while !is_complete(&call.body) {
            assert!(call.socket.read_buf(&mut call.body).await.unwrap() > 0, "closed in a body");
        }
        if is_chunked {
            call.body = unchunked(&call.body);
        }
        Some(call)
    }

    /// Method, target and version.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// A header's value; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v.trim())
    }

    /// Writes any bytes.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Writes any bytes to a gateway that may have left.
    pub(crate) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.socket.write_all(bytes.as_ref()).await
    }

    /// Writes this piece of a body in a chunk.
    pub(crate) async fn write_chunk(&mut self, piece: &str) {
        self.write(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
    }

    /// Answers with a status, further header lines (each with its end), and a body; closes.
    pub(crate) async fn answer(mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        ))
        .await;
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        let linger = Some(std::time::Duration::ZERO);
        socket2::SockRef::from(&self.socket).set_linger(linger).unwrap();
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(mut self) {
        let mut rest = Vec::new();
        let gone = self.socket.read_to_end(&mut rest);
        // A reset is as much an end as any.
        drop(within(SOON, "the backend's connection is closed", gone).await);
    }
}

/// The data of a body that came in chunks.
fn unchunked(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = memchr::memmem::find(chunks, b"\r\n").expect("a chunk has a size");
        let size = std::str::from_utf8(&chunks[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + size]);
        chunks = &chunks[end + 2 + size + 2..];
    }
}
