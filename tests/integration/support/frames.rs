//! HTTP/2 frames by hand (RFC 9113), for what a well-behaved client would never send or show.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};

use super::client::Io;
use super::{SOON, Via, within};

/// Frame types.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const HAS_PRIORITY: u8 = 32;

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

    /// SETTINGS with these entries.
    pub(crate) fn of_settings(settings: &[(u16, u32)]) -> Self {
        let entry =
            |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Self::new(SETTINGS, 0, 0, &settings.iter().flat_map(entry).collect::<Vec<_>>())
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

    /// The `:path` of a request whose strings are literals without the Huffman code.
    pub(crate) fn path(&self) -> String {
        const PATH: usize = 4;
        let mut block = &self.payload[..];
        while let Some(&first) = block.first() {
            let (prefix, is_indexed) = match first {
                0x80.. => (7, true),
                0x40.. => (6, false),
                0x20.. => (5, true),
                _ => (4, false),
            };
            let name = take_integer(&mut block, prefix);
            if is_indexed {
                match (first, name) {
                    (0x80.., PATH) => return "/".to_owned(),
                    _ => continue,
                }
            }
            if name == 0 {
                take_string(&mut block);
            }
            let value = take_string(&mut block);
            if name == PATH {
                return String::from_utf8(value.to_vec()).unwrap();
            }
        }
        panic!("no :path in {self:?}");
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

fn take_integer(block: &mut &[u8], prefix: u32) -> usize {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(block[0]) & most;
    *block = &block[1..];
    let mut shift = 0;
    while value >= most {
        let octet = block[0];
        *block = &block[1..];
        value += usize::from(octet & 0x7f) << shift;
        shift += 7;
        if octet & 0x80 == 0 {
            break;
        }
    }
    value
}

fn take_string<'a>(block: &mut &'a [u8]) -> &'a [u8] {
    assert!(block[0] & 0x80 == 0, "a string in the Huffman code");
    let length = take_integer(block, 7);
    let (string, rest) = block.split_at(length);
    *block = rest;
    string
}

/// What a client says first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that carries frames.
pub(crate) struct FrameConnection(Box<dyn Io>);

impl FrameConnection {
    /// Connects and sends the preface, nothing else.
    pub(crate) async fn preface(to: SocketAddr) -> Self {
        let mut connection = Self::over(Via::H2c.connect(to).await);
        connection.send_bytes(PREFACE).await;
        connection
    }

    /// A connection on which nothing has been said.
    pub(crate) fn over(io: Box<dyn Io>) -> Self {
        Self(io)
    }

    /// Connects as a client does: the preface, and SETTINGS with these entries.
    pub(crate) async fn open(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut connection = Self::preface(to).await;
        connection.send(&Frame::of_settings(settings)).await;
        connection
    }

    /// The preface, and SETTINGS with these entries.
    pub(crate) async fn greet(&mut self, settings: &[(u16, u32)]) {
        self.send_bytes(PREFACE).await;
        self.send(&Frame::of_settings(settings)).await;
    }

    /// Sends any bytes. A peer that has hung up is noticed when reading.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.0.write_all(bytes).await);
        drop(self.0.flush().await);
    }

    /// The same; answers whether it went out.
    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// Reads and writes at the same time.
    pub(crate) fn split(self) -> (Self, WriteHalf<Box<dyn Io>>) {
        let (reader, writer) = tokio::io::split(self.0);
        (Self(Box::new(tokio::io::join(reader, tokio::io::sink()))), writer)
    }

    /// Sends a frame. A peer that has hung up is noticed when reading.
    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.encode()).await;
    }

    /// Sends many frames in one write.
    pub(crate) async fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let bytes: Vec<u8> = frames.into_iter().flat_map(|frame| frame.encode()).collect();
        self.send_bytes(&bytes).await;
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

    /// The next DATA with this text in it; what comes before it is passed over.
    pub(crate) async fn data_with(&mut self, text: &str) -> Frame {
        within(SOON, text, async {
            loop {
                let frame = self.next_of(DATA).await.expect("the connection goes on");
                if memchr::memmem::find(&frame.payload, text.as_bytes()).is_some() {
                    return frame;
                }
            }
        })
        .await
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
