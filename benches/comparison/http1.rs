//! A response of HTTP/1.1 whose body does not end: only as much of the protocol as the load needs.

use crate::stream::{Stream, Tally};

/// Where in the response the next byte belongs.
#[derive(Debug)]
pub(crate) struct Http1 {
    part: Part,
    stream: Stream,
}

#[derive(Debug)]
enum Part {
    Head(Vec<u8>),
    // A chunk's size so far.
    Size(usize),
    // Bytes of the chunk that are still to come.
    Chunk(usize),
    // Bytes of the line end after a chunk.
    LineEnd(u8),
    // A body that is not chunked ends with the connection.
    Plain,
}

impl Http1 {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { part: Part::Head(Vec::new()), stream }
    }

    /// The request.
    pub(crate) fn request(path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            .into()
    }

    /// Reads the next bytes of the connection.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], tally: &mut Tally) {
        while !bytes.is_empty() && tally.failure.is_none() {
            bytes = self.step(bytes, tally);
        }
    }

    fn step<'a>(&mut self, bytes: &'a [u8], tally: &mut Tally) -> &'a [u8] {
        match &mut self.part {
            Part::Head(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
                    return &[];
                };
                let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
                if !text.starts_with("http/1.1 200") {
                    tally.fail(|| format!("answered {:?}", String::from_utf8_lossy(head)));
                }
                tally.opened += 1;
                let is_chunked = text.contains("transfer-encoding: chunked");
                self.part = if is_chunked { Part::Size(0) } else { Part::Plain };
                &bytes[end + 4 - before..]
            }
            Part::Size(size) => {
                match bytes[0] {
                    b'\n' if *size == 0 => tally.fail(|| "the stream has ended".into()),
                    b'\n' => self.part = Part::Chunk(*size),
                    b'\r' => {}
                    digit => match char::from(digit).to_digit(16) {
                        Some(value) => *size = *size << 4 | value as usize,
                        None => tally.fail(|| format!("not the size of a chunk: {digit}")),
                    },
                }
                &bytes[1..]
            }
            Part::Chunk(left) => {
                let (data, rest) = bytes.split_at(bytes.len().min(*left));
                self.stream.feed(data, tally);
                *left -= data.len();
                if *left == 0 {
                    self.part = Part::LineEnd(2);
                }
                rest
            }
            Part::LineEnd(left) => {
                *left -= 1;
                if *left == 0 {
                    self.part = Part::Size(0);
                }
                &bytes[1..]
            }
            Part::Plain => {
                self.stream.feed(bytes, tally);
                &[]
            }
        }
    }
}
