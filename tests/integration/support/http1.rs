//! HTTP/1.1 by hand: bytes out, a head and chunks in.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Io;
use super::{Body, Request, Response};

/// Sends a request and reads the head of its response.
pub(crate) async fn exchange(mut io: Box<dyn Io>, request: Request, to: SocketAddr) -> Response {
    io.write_all(&encode(&request, to)).await.unwrap();
    read_head(io, request.method == "HEAD").await
}

/// The bytes of a request.
fn encode(request: &Request, to: SocketAddr) -> Vec<u8> {
    let host = request.host.clone().unwrap_or_else(|| to.to_string());
    let mut text = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !request.body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", request.body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), &request.body].concat()
}

/// Reads the head of a response.
pub(crate) async fn read_head(mut io: Box<dyn Io>, is_head: bool) -> Response {
    let mut buffer = BytesMut::new();
    let (status, headers) = loop {
        let head = next_head(&mut io, &mut buffer).await;
        // The final one is meant.
        if !matches!(head.0, 100 | 102 | 103) {
            break head;
        }
    };
    let left = framing(&headers, is_head || status == 204 || status == 304);
    Response { status, headers, body: Body::Http1(Http1Body { io, buffer, left }) }
}

async fn next_head(io: &mut Box<dyn Io>, buffer: &mut BytesMut) -> (u16, HeaderMap) {
    let end = loop {
        if let Some(at) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break at;
        }
        let read = io.read_buf(buffer).await.unwrap();
        assert!(read > 0, "closed within the head of a response: {buffer:?}");
    };
    let head = buffer.split_to(end + 4);
    // Values may be of any bytes.
    let mut lines = head.trim_ascii_end().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
    let headers: HeaderMap = lines.map(field).collect();
    (status, headers)
}

fn field(line: &[u8]) -> (HeaderName, HeaderValue) {
    let colon = memchr::memchr(b':', line).unwrap_or_else(|| panic!("no field: {line:?}"));
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    (HeaderName::from_bytes(name).unwrap(), HeaderValue::from_bytes(value).unwrap())
}

fn framing(headers: &HeaderMap, has_no_body: bool) -> Left {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
    match (text("transfer-encoding"), text("content-length")) {
        _ if has_no_body => Left::Nothing,
        (Some("chunked"), None) => Left::Chunks,
        (None, Some(length)) => Left::Bytes(length.parse().unwrap()),
        (None, None) => Left::UntilClosed,
        framing => panic!("a response framed twice, or strangely: {framing:?}"),
    }
}

/// What of a body is still to come.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Bytes(usize),
    Chunks,
    /// So many bytes of this chunk, then others.
    Chunk(usize),
    UntilClosed,
}

/// A body as its framing tells it.
pub(crate) struct Http1Body {
    io: Box<dyn Io>,
    buffer: BytesMut,
    left: Left,
}

impl Http1Body {
    /// The next bytes, not waiting for the rest of their chunk.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.left {
                Left::Nothing | Left::Bytes(0) => return Ok(None),
                Left::Chunks => self.chunk_size().await?,
                Left::Chunk(0) => {
                    self.line().await?;
                    self.left = Left::Chunks;
                }
                Left::Bytes(left) => return self.take(left, Left::Bytes).await,
                Left::Chunk(left) => return self.take(left, Left::Chunk).await,
                Left::UntilClosed if self.buffer.is_empty() => {
                    if !self.read().await? {
                        return Ok(None);
                    }
                }
                Left::UntilClosed => return Ok(Some(self.buffer.split().freeze())),
            }
        }
    }

    async fn take(
        &mut self,
        left: usize,
        rest: fn(usize) -> Left,
    ) -> Result<Option<Bytes>, String> {
        if self.buffer.is_empty() && !self.read().await? {
            return Err("cut within the body".to_owned());
        }
        let bytes = self.buffer.split_to(left.min(self.buffer.len())).freeze();
        self.left = rest(left - bytes.len());
        Ok(Some(bytes))
    }

    async fn chunk_size(&mut self) -> Result<(), String> {
        let line = self.line().await?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| format!("chunk size {line:?}"))?;
        self.left = Left::Chunk(size);
        if size == 0 {
            assert_eq!(self.line().await?, "", "trailers");
            self.left = Left::Nothing;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.read().await? {
                return Err("cut between two chunks".to_owned());
            }
        }
    }

    async fn read(&mut self) -> Result<bool, String> {
        let read = self.io.read_buf(&mut self.buffer).await;
        read.map(|bytes| bytes > 0).map_err(|error| error.to_string())
    }
}
