//! A client's side of HTTP/2 (RFC 9113): only as much as the load needs, with little CPU.
//!
//! Header blocks are written without the dynamic table; of the responses only the status is read. The windows
//! are a browser's: 6 MiB for a stream, 15 MiB for the connection.

use crate::stream::{Stream, Tally};

const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;
const DEFAULT_WINDOW: u32 = 65_535;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// A connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    // Stream 1 has place 0, stream 3 place 1, and so on.
    streams: Vec<Option<Open>>,
    // The header of the next frame, as far as it has come.
    header: Vec<u8>,
    frame: Option<Frame>,
    // No stream before this place is open, except those that are kept.
    oldest: usize,
    // What was received since the window of the connection was last opened.
    consumed: u32,
}

#[derive(Debug)]
struct Open {
    stream: Stream,
    is_answered: bool,
    consumed: u32,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    left: usize,
    // The payload of frames other than DATA.
    payload: Vec<u8>,
}

impl Http2 {
    pub(crate) fn new() -> Self {
        Self { streams: Vec::new(), header: Vec::new(), frame: None, oldest: 0, consumed: 0 }
    }

    /// What the connection begins with.
    pub(crate) fn preface() -> Vec<u8> {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = Vec::new();
        for (id, value) in [(2_u16, 0_u32), (4, STREAM_WINDOW)] {
            settings.extend_from_slice(&id.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        put_frame(&mut out, SETTINGS, 0, 0, &settings);
        put_window_update(&mut out, 0, CONNECTION_WINDOW - DEFAULT_WINDOW);
        out
    }

    /// Opens one more stream.
    pub(crate) fn open(&mut self, stream: Stream, path: &str, out: &mut Vec<u8>) {
        self.streams.push(Some(Open { stream, is_answered: false, consumed: 0 }));
        let id = 2 * self.streams.len() as u32 - 1;
        // RFC 7541: indexed fields of the static table, then literals without indexing.
        let mut block = vec![0x82, 0x87];
        for (name, value) in [(0x01, "localhost"), (0x04, path)] {
            block.push(name);
            put_text(&mut block, value);
        }
        block.extend_from_slice(&[0x0f, 0x04]);
        put_text(&mut block, "text/event-stream");
        put_frame(out, HEADERS, END_HEADERS | END_STREAM, id, &block);
    }

    /// Resets the oldest stream of those after the first `kept`, if it has a response; returns whether it did.
    pub(crate) fn reset_oldest(&mut self, kept: usize, out: &mut Vec<u8>) -> bool {
        self.oldest = self.oldest.max(kept);
        let Some(open) = self.streams.get_mut(self.oldest) else {
            return false;
        };
        if !open.as_ref().is_some_and(|open| open.is_answered) {
            return false;
        }
        *open = None;
        let id = 2 * self.oldest as u32 + 1;
        self.oldest += 1;
        put_frame(out, RST_STREAM, 0, id, &8_u32.to_be_bytes());
        true
    }

    /// Reads the next bytes of the connection; frames in response go to `out`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>, tally: &mut Tally) {
        while tally.failure.is_none() {
            let Some(frame) = &mut self.frame else {
                match self.next_frame(bytes) {
                    Some(rest) => bytes = rest,
                    None => return,
                }
                continue;
            };
            let (payload, rest) = bytes.split_at(bytes.len().min(frame.left));
            frame.left -= payload.len();
            bytes = rest;
            let (id, is_complete) = (frame.stream, frame.left == 0);
            if frame.kind == DATA {
                if frame.flags & (PADDED | END_STREAM) != 0 {
                    tally.fail(|| "a stream has ended, or has padding".into());
                }
                self.data(id, payload, out, tally);
            } else {
                frame.payload.extend_from_slice(payload);
            }
            if !is_complete {
                return;
            }
            if let Some(frame) = self.frame.take() {
                self.complete(&frame, out, tally);
            }
        }
    }

    /// Begins the next frame, when its header has come; returns what follows the header.
    fn next_frame<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let taken = bytes.len().min(HEADER - self.header.len());
        self.header.extend_from_slice(&bytes[..taken]);
        let &[a, b, c, kind, flags, w, x, y, z] = &self.header[..] else {
            return None;
        };
        self.frame = Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff,
            left: u32::from_be_bytes([0, a, b, c]) as usize,
            payload: Vec::new(),
        });
        self.header.clear();
        Some(&bytes[taken..])
    }

    fn data(&mut self, id: u32, payload: &[u8], out: &mut Vec<u8>, tally: &mut Tally) {
        self.consumed += payload.len() as u32;
        if self.consumed > CONNECTION_WINDOW / 2 {
            put_window_update(out, 0, std::mem::take(&mut self.consumed));
        }
        // A stream that was reset may still receive what was on its way.
        let Some(Some(open)) = self.streams.get_mut(id as usize / 2) else {
            return;
        };
        open.stream.feed(payload, tally);
        open.consumed += payload.len() as u32;
        if open.consumed > STREAM_WINDOW / 2 {
            put_window_update(out, id, std::mem::take(&mut open.consumed));
        }
    }

    fn complete(&mut self, frame: &Frame, out: &mut Vec<u8>, tally: &mut Tally) {
        match frame.kind {
            HEADERS => self.answered(frame, tally),
            SETTINGS if frame.flags & ACK == 0 => put_frame(out, SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 => put_frame(out, PING, ACK, 0, &frame.payload),
            RST_STREAM if self.is_open(frame.stream) => {
                tally.fail(|| format!("a stream was reset: {:?}", frame.payload));
            }
            GOAWAY => tally.fail(|| format!("the server goes away: {:?}", frame.payload)),
            _ => {}
        }
    }

    fn is_open(&self, id: u32) -> bool {
        self.streams.get(id as usize / 2).is_some_and(Option::is_some)
    }

    fn answered(&mut self, frame: &Frame, tally: &mut Tally) {
        let Some(Some(open)) = self.streams.get_mut(frame.stream as usize / 2) else {
            return;
        };
        // `:status: 200` of the static table, after updates of the dynamic table's size.
        let mut block = frame.payload.iter().skip_while(|&&byte| byte & 0xe0 == 0x20);
        if block.next() != Some(&0x88) || frame.flags & END_STREAM != 0 {
            tally.fail(|| format!("answered {:02x?}", frame.payload));
        }
        open.is_answered = true;
        tally.opened += 1;
    }
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put_frame(out, WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// A string literal without Huffman coding.
fn put_text(block: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < 127, "longer ones have a longer length");
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}
