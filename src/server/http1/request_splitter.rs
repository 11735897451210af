//! Splits the requests of one connection, so that hyper reads one at a time.
//!
//! A client may pipeline requests (RFC 9112, section 9.3.2). Here each request is cut off at its
//! end, however the bytes arrive: so every head is checked from its first byte, and no byte of a
//! body is taken for a head. If the end of a request is unknown, everything after it goes to hyper
//! unchecked.

use super::framing::{ChunkParser, Framing, min_length};
use super::head_filter::{HeadExtras, HeadFilter, HeadKind, HeadLimits};

/// Splits the requests of one connection.
#[derive(Debug)]
pub(super) struct RequestSplitter {
    filter: HeadFilter,
    stage: RequestStage,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestStage {
    /// The head of a request, or the rest of one.
    Head,
    /// This many bytes of a body.
    Body(u64),
    /// A chunked body.
    Chunks(ChunkParser),
    /// Unknown.
    Unknown,
}

/// A part of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes of the input that belong to it. The bytes after them belong to the next request.
    pub(super) length: usize,
    /// The bytes to give hyper in its place; `None`: unchanged.
    pub(super) replacement: Option<Vec<u8>>,
}

impl RequestSplitter {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self { filter: HeadFilter::new(HeadKind::Request, limits), stage: RequestStage::Head }
    }

    /// Passes everything after this to hyper unchanged: the connection was upgraded.
    pub(super) fn pass_through(&mut self) {
        self.stage = RequestStage::Unknown;
    }

    /// Checks received bytes, up to the end of the current request.
    pub(super) fn read(&mut self, bytes: &[u8], extras: &mut HeadExtras) -> Piece {
        let mut piece = Piece { length: 0, replacement: None };
        if self.stage == RequestStage::Head {
            self.filter.expect_head();
            (piece.length, piece.replacement) = self.filter.filter_head(bytes, extras);
            match self.filter.take_framing() {
                None | Some(Framing::Empty | Framing::Length(0)) => return piece,
                Some(Framing::Length(length)) => self.stage = RequestStage::Body(length),
                Some(Framing::Chunked) => self.stage = RequestStage::Chunks(ChunkParser::Begin),
                Some(Framing::Huge | Framing::Unknown) => self.stage = RequestStage::Unknown,
            }
        }
        let rest = &bytes[piece.length..];
        let length = self.read_body(rest);
        if let Some(replacement) = &mut piece.replacement {
            replacement.extend_from_slice(&rest[..length]);
        }
        piece.length += length;
        piece
    }

    /// How many of these bytes belong to the body.
    fn read_body(&mut self, bytes: &[u8]) -> usize {
        let (next, length) = match self.stage {
            RequestStage::Head => (RequestStage::Head, 0),
            RequestStage::Body(left) => {
                let length = min_length(left, bytes.len());
                let left = left - length as u64;
                (if left == 0 { RequestStage::Head } else { RequestStage::Body(left) }, length)
            }
            RequestStage::Chunks(mut chunks) => match chunks.read(bytes) {
                Some(length) if chunks == ChunkParser::End => (RequestStage::Head, length),
                Some(length) => (RequestStage::Chunks(chunks), length),
                None => (RequestStage::Unknown, bytes.len()),
            },
            RequestStage::Unknown => (RequestStage::Unknown, bytes.len()),
        };
        self.stage = next;
        length
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::{RequestSplitter, RequestStage};
    use crate::server::http1::head_filter::{HeadExtras, HeadLimits};

    const LIMITS: HeadLimits = HeadLimits { fields: 1000, bytes: 64 << 10 };

    /// The bytes hyper reads of one request, and the fields that are set aside.
    type Read = (Vec<u8>, Vec<(HeaderName, HeaderValue)>);

    /// Reads requests as the socket does: bytes of the next request are passed in again.
    fn read(pieces: &[&[u8]]) -> Vec<Read> {
        let (mut splitter, mut extras) = (RequestSplitter::new(LIMITS), HeadExtras::default());
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let piece = splitter.read(rest, &mut extras);
                assert!(piece.length > 0, "every call makes progress");
                match piece.replacement {
                    Some(replacement) => out.extend(replacement),
                    None => out.extend_from_slice(&rest[..piece.length]),
                }
                rest = &rest[piece.length..];
                let is_begun = extras.fields.is_empty() && out.is_empty();
                if splitter.stage == RequestStage::Head
                    && !splitter.filter.is_inside_head()
                    && !is_begun
                {
                    all.push((std::mem::take(&mut out), std::mem::take(&mut extras.fields)));
                }
            }
        }
        assert_eq!(splitter.stage, RequestStage::Head, "the last request is complete");
        assert!(out.is_empty());
        all
    }

    /// A request with any framing and body that hyper would accept.
    fn request() -> impl Strategy<Value = Vec<u8>> {
        let fields = prop_oneof![0_usize..5, 85_usize..100, 200_usize..400];
        let line_end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n")];
        let body = "(\r\n|\n|0\r\n\r\n|a: b\r\n|GET / HTTP/1.1\r\n|\r\n\r\n|[ -~]){0,60}";
        let parts = (fields, line_end, body, 0..3, 1_usize..50, any::<prop::sample::Index>());
        parts.prop_map(|(count, end, body, framing, size, at)| {
            let mut fields: Vec<_> = (0..count).map(|n| format!("x-{n}: {n}{end}")).collect();
            let (field, body) = match framing {
                0 => (format!("Content-Length: {}", body.len()), body.into_bytes()),
                1 => ("transfer-encoding:chunked".to_owned(), chunked(body.as_bytes(), size)),
                _ => ("x-none: 0".to_owned(), Vec::new()),
            };
            fields.insert(at.index(count + 1), format!("{field}{end}"));
            let head = format!("POST / HTTP/1.1{end}{}{end}", fields.concat());
            [head.into_bytes(), body].concat()
        })
    }

    fn chunked(body: &[u8], size: usize) -> Vec<u8> {
        let chunk = |data: &[u8]| {
            let extension = if data.len().is_multiple_of(2) { ";a=\"0\"" } else { "" };
            let size = format!("{:x}{extension}\r\n", data.len());
            [size.as_bytes(), data, b"\r\n"].concat()
        };
        let trailer: &[u8] = if size.is_multiple_of(2) { b"x-sum: 0\r\n" } else { b"" };
        let chunks: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
        [&chunks, &b"0\r\n"[..], trailer, b"\r\n"].concat()
    }

    proptest! {
        #[test]
        fn pipelined_requests_are_read_as_if_each_arrived_alone(
            requests in prop::collection::vec(request(), 1..6),
            cuts in prop::collection::vec(prop_oneof![1_usize..4, 1_usize..3000], 1..12),
        ) {
            let alone: Vec<_> = requests.iter().flat_map(|request| read(&[request])).collect();
            prop_assert_eq!(alone.len(), requests.len());
            let all = requests.concat();
            let (mut pieces, mut rest) = (Vec::new(), &all[..]);
            for cut in cuts.iter().cycle() {
                let (piece, other) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = other;
                if rest.is_empty() { break }
            }
            prop_assert_eq!(read(&pieces), alone);
        }
    }

    #[test]
    fn empty_lines_before_a_request_belong_to_it() {
        let all = b"\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\n\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(read(&[all]).len(), 3);
    }

    #[test]
    fn nothing_is_set_aside_after_a_request_whose_end_is_unknown() {
        let fields: String = (0..200).map(|n| format!("x-{n}: {n}\r\n")).collect();
        for framing in [
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: x",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
        ] {
            let all =
                format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n\r\nGET / HTTP/1.1\r\n{fields}\r\n");
            for cut in 0..all.len().min(120) {
                let (mut splitter, mut extras) =
                    (RequestSplitter::new(LIMITS), HeadExtras::default());
                let mut out = Vec::new();
                for part in [&all[..cut], &all[cut..]] {
                    let mut rest = part.as_bytes();
                    while !rest.is_empty() {
                        let piece = splitter.read(rest, &mut extras);
                        let (same, other) = rest.split_at(piece.length);
                        out.extend(piece.replacement.unwrap_or_else(|| same.to_vec()));
                        rest = other;
                    }
                }
                assert_eq!(
                    (out, extras.fields.len()),
                    (all.clone().into_bytes(), 0),
                    "{framing} {cut}"
                );
            }
        }
    }
}
