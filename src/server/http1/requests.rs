//! Splits the requests of one connection, so that hyper reads one at a time.
//!
//! A client may pipeline requests (RFC 9112, section 9.3.2). Here each request is cut off at its
//! end, however the bytes arrive: so every head is checked from its first byte, and no byte of a
//! body is taken for a head. If the end of a request is unknown, everything after it goes to hyper
//! unchecked.

use super::framing::{Chunks, Framing, at_most};
use super::heads::{Found, HeadLimits, Heads, Role};

/// Splits the requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    heads: Heads,
    stage: Stage,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The head of a request, or the rest of one.
    Head,
    /// This many bytes of a body.
    Body(u64),
    /// A chunked body.
    Chunks(Chunks),
    /// Unknown.
    Unknown,
}

/// A part of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes of the input that belong to it. The bytes after them belong to the next request.
    pub(super) length: usize,
    /// The bytes to give hyper in its place; `None`: unchanged.
    pub(super) instead: Option<Vec<u8>>,
}

impl Requests {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self { heads: Heads::new(Role::Request, limits), stage: Stage::Head }
    }

    /// Passes everything after this to hyper unchanged: the connection was upgraded.
    pub(super) fn stop(&mut self) {
        self.stage = Stage::Unknown;
    }

    /// Checks received bytes, up to the end of the current request.
    pub(super) fn read(&mut self, bytes: &[u8], found: &mut Found) -> Piece {
        let mut piece = Piece { length: 0, instead: None };
        if self.stage == Stage::Head {
            self.heads.expect();
            (piece.length, piece.instead) = self.heads.read_head(bytes, found);
            match self.heads.take_framing() {
                None | Some(Framing::Empty | Framing::Length(0)) => return piece,
                Some(Framing::Length(length)) => self.stage = Stage::Body(length),
                Some(Framing::Chunked) => self.stage = Stage::Chunks(Chunks::Begin),
                Some(Framing::Unknown) => self.stage = Stage::Unknown,
            }
        }
        let rest = &bytes[piece.length..];
        let length = self.read_body(rest);
        if let Some(instead) = &mut piece.instead {
            instead.extend_from_slice(&rest[..length]);
        }
        piece.length += length;
        piece
    }

    /// How many of these bytes belong to the body.
    fn read_body(&mut self, bytes: &[u8]) -> usize {
        let (next, length) = match self.stage {
            Stage::Head => (Stage::Head, 0),
            Stage::Body(left) => {
                let length = at_most(left, bytes.len());
                let left = left - length as u64;
                (if left == 0 { Stage::Head } else { Stage::Body(left) }, length)
            }
            Stage::Chunks(mut chunks) => match chunks.read(bytes) {
                Some(length) if chunks == Chunks::End => (Stage::Head, length),
                Some(length) => (Stage::Chunks(chunks), length),
                None => (Stage::Unknown, bytes.len()),
            },
            Stage::Unknown => (Stage::Unknown, bytes.len()),
        };
        self.stage = next;
        length
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::{Requests, Stage};
    use crate::server::http1::heads::{Found, HeadLimits};

    const LIMITS: HeadLimits = HeadLimits { fields: 1000, bytes: 64 << 10 };

    /// The bytes hyper reads of one request, and the fields that are set aside.
    type Read = (Vec<u8>, Vec<(HeaderName, HeaderValue)>);

    /// Reads requests as the socket does: bytes of the next request are passed in again.
    fn read(pieces: &[&[u8]]) -> Vec<Read> {
        let (mut requests, mut found) = (Requests::new(LIMITS), Found::default());
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let piece = requests.read(rest, &mut found);
                assert!(piece.length > 0, "every call makes progress");
                match piece.instead {
                    Some(instead) => out.extend(instead),
                    None => out.extend_from_slice(&rest[..piece.length]),
                }
                rest = &rest[piece.length..];
                let is_begun = found.fields.is_empty() && out.is_empty();
                if requests.stage == Stage::Head && !requests.heads.is_within() && !is_begun {
                    all.push((std::mem::take(&mut out), std::mem::take(&mut found.fields)));
                }
            }
        }
        assert_eq!(requests.stage, Stage::Head, "the last request is complete");
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
                let (mut requests, mut found) = (Requests::new(LIMITS), Found::default());
                let mut out = Vec::new();
                for part in [&all[..cut], &all[cut..]] {
                    let mut rest = part.as_bytes();
                    while !rest.is_empty() {
                        let piece = requests.read(rest, &mut found);
                        let (same, other) = rest.split_at(piece.length);
                        out.extend(piece.instead.unwrap_or_else(|| same.to_vec()));
                        rest = other;
                    }
                }
                assert_eq!(
                    (out, found.fields.len()),
                    (all.clone().into_bytes(), 0),
                    "{framing} {cut}"
                );
            }
        }
    }
}
