//! HTTP/2 frames by hand (RFC 9113), for what a well-behaved client would never send or show.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Frame types.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    /// A request's head: literal fields, no compression.
    pub(crate) fn request(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Self {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                push_length(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        }
        Self::new(HEADERS, flags | END_HEADERS, stream, &block)
    }

    /// GET of `path`.
    pub(crate) fn get(stream: u32, path: &str) -> Self {
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
        Self::request(stream, END_STREAM, &fields)
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The number at `offset`, in 32 bits.
    pub(crate) fn number(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.payload[offset..offset + 4].try_into().unwrap())
    }

    /// The entries of a SETTINGS frame.
    pub(crate) fn settings(&self) -> Vec<(u16, u32)> {
        let entries = self.payload.chunks(6);
        let entry = |bytes: &[u8]| {
            let name = u16::from_be_bytes([bytes[0], bytes[1]]);
            (name, u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
        };
        entries.map(entry).collect()
    }

    /// The error code of a GOAWAY.
    pub(crate) fn goaway_code(&self) -> u32 {
        self.number(4)
    }
}

/// The length of a literal, with a prefix of seven bits (RFC 7541, section 5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(small @ 0..=126) => block.push(small),
        _ => {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
}

/// A connection in clear text that carries frames.
pub(crate) struct FrameConnection(TcpStream);

impl FrameConnection {
    /// Connects and sends the preface, nothing else.
    pub(crate) async fn preface(to: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(to).await.unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        Self(socket)
    }

    /// Connects as a client does: the preface, and SETTINGS with these entries.
    pub(crate) async fn open(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut connection = Self::preface(to).await;
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        connection.send(&Frame::new(SETTINGS, 0, 0, &payload)).await;
        connection
    }

    /// Sends a frame. A peer that has hung up is noticed when reading.
    pub(crate) async fn send(&mut self, frame: &Frame) {
        drop(self.0.write_all(&frame.encode()).await);
    }

    /// Sends many frames in one write.
    pub(crate) async fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let bytes: Vec<u8> = frames.into_iter().flat_map(|frame| frame.encode()).collect();
        drop(self.0.write_all(&bytes).await);
    }

    /// The next frame; `None` when the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind. SETTINGS and PING on the way are acknowledged.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(&Frame::new(SETTINGS, ACK, 0, &[])).await;
            }
            if frame.kind == PING && frame.flags & ACK == 0 {
                self.send(&Frame::new(PING, ACK, 0, &frame.payload)).await;
            }
        }
    }
}
