//! Filters HTTP/1.1 heads before hyper reads them. For requests and for backends' responses.
//!
//! hyper accepts 100 fields by default. With a higher limit it reserves memory for that many in
//! every head: a limit of 1,000 cost 10 % of a forwarded request in a measurement. So fields after
//! the first ninety are set aside here, except those that hyper acts on, and the caller adds them
//! to the message that hyper parsed.
//!
//! Also keeps what hyper drops of a response: a reason phrase with bytes above 0x7F, and interim
//! responses.
//!
//! Anything malformed passes unchanged, for hyper to reject. A head that exceeds the limits is
//! padded until hyper rejects it. Bodies are not inspected; of a request the framing is kept, to
//! find the next head ([`request_splitter`](super::request_splitter)).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use memchr::{memchr, memchr_iter, memmem};

use super::framing::{Framing, readable_length};
use ssegate_http2::field_value::trim_blanks;

/// Lines of a head that hyper always sees: the first line and ninety fields.
const MAX_HYPER_LINES: usize = 91;

/// The most bytes to buffer of a line that arrives in pieces. A longer line passes unchecked.
const MAX_PARTIAL_LINE: usize = 64 << 10;

/// 101 fields, which makes hyper reject the head.
const TOO_MANY_FIELDS: [u8; 404] = {
    let mut fields = [b'x'; 404];
    let mut n = 0;
    while n < fields.len() {
        fields[n + 1] = b':';
        fields[n + 2] = b'\r';
        fields[n + 3] = b'\n';
        n += 4;
    }
    fields
};

/// The most interim responses to keep until they are taken. Further ones are dropped; they are
/// optional.
const MAX_INTERIM: usize = 16;

/// Which kind of head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadKind {
    /// Of requests.
    Request,
    /// Of responses.
    Response,
}

/// The limits of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Number of fields.
    pub(crate) fields: usize,
    /// Total bytes.
    pub(crate) bytes: usize,
}

/// What hyper does not see of a head.
#[derive(Debug, Default)]
pub(crate) struct HeadExtras {
    /// Fields that were set aside, in order.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// A reason phrase with bytes above 0x7F.
    pub(crate) reason: Option<Bytes>,
    /// Interim responses other than 100 and 101.
    pub(crate) interim: Vec<(StatusCode, HeaderMap)>,
}

/// Filters the heads of one connection.
#[derive(Debug)]
pub(crate) struct HeadFilter {
    kind: HeadKind,
    limits: HeadLimits,
    phase: HeadPhase,
    // The start of a line whose end has not arrived.
    partial_line: Vec<u8>,
    // The framing of the current request so far; and that of a head that has just ended.
    framing: Framing,
    ended_framing: Option<Framing>,
}

#[derive(Debug)]
enum HeadPhase {
    /// No head is expected.
    Body,
    /// A head is expected; none of it has arrived.
    Begin,
    /// Inside a head that arrived in pieces, or that the fast path does not handle.
    Inside(Box<PartialHead>),
}

/// A head that is read line by line.
#[derive(Debug, Default)]
struct PartialHead {
    lines: usize,
    bytes: usize,
    // Whether the unfinished line has any byte but a CR.
    is_in_line: bool,
    // Whether the last field was set aside.
    was_set_aside: bool,
    // Whether the rest passes unchecked, because the head exceeds a limit.
    is_passed_through: bool,
    // Whether it was padded, so that hyper rejects it.
    is_padded: bool,
    // Status and fields, if this is an interim response.
    interim: Option<(StatusCode, HeaderMap)>,
}

impl HeadFilter {
    pub(crate) fn new(kind: HeadKind, limits: HeadLimits) -> Self {
        let (phase, partial_line) = (HeadPhase::Body, Vec::new());
        Self { kind, limits, phase, partial_line, framing: Framing::default(), ended_framing: None }
    }

    /// The next bytes are a head, or the rest of one.
    pub(crate) fn expect_head(&mut self) {
        if matches!(self.phase, HeadPhase::Body) {
            self.phase = HeadPhase::Begin;
        }
    }

    /// Takes the body framing of a request head that has just ended.
    pub(super) fn take_framing(&mut self) -> Option<Framing> {
        self.ended_framing.take()
    }

    /// Filters received bytes. Returns what hyper reads in their place; `None`: unchanged.
    pub(crate) fn filter(&mut self, bytes: &[u8], extras: &mut HeadExtras) -> Option<Vec<u8>> {
        let (length, replacement) = self.filter_head(bytes, extras);
        replacement.map(|mut out| {
            out.extend_from_slice(&bytes[length..]);
            out
        })
    }

    /// Filters received bytes up to the end of the head. Returns how many these are, and what hyper
    /// reads in their place; `None`: unchanged.
    pub(super) fn filter_head(
        &mut self,
        bytes: &[u8],
        extras: &mut HeadExtras,
    ) -> (usize, Option<Vec<u8>>) {
        match self.phase {
            HeadPhase::Body => return (0, None),
            HeadPhase::Begin => {
                if let Some(end) = self.fast_path_end(bytes) {
                    self.phase = HeadPhase::Body;
                    return (end, None);
                }
            }
            HeadPhase::Inside(_) => {}
        }
        let mut out = Vec::with_capacity(bytes.len() + self.partial_line.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut head = match std::mem::replace(&mut self.phase, HeadPhase::Body) {
                HeadPhase::Inside(head) => head,
                HeadPhase::Begin => Box::default(),
                HeadPhase::Body => break,
            };
            let end;
            (rest, end) = self.read_line(&mut head, rest, &mut out, extras);
            self.phase = match end {
                HeadEnd::NotYet => HeadPhase::Inside(head),
                HeadEnd::Interim => HeadPhase::Begin,
                HeadEnd::Final => HeadPhase::Body,
            };
        }
        (bytes.len() - rest.len(), Some(out))
    }

    /// The fast path: returns the end of a complete head that passes unchanged. Scans it twice.
    fn fast_path_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let lines = &bytes[..end - 2];
        match self.kind {
            HeadKind::Request => {
                self.ended_framing = Some(Framing::of_head(lines, MAX_HYPER_LINES)?)
            }
            HeadKind::Response => {
                if memchr_iter(b'\n', lines).count() > MAX_HYPER_LINES {
                    return None;
                }
                let first = memchr(b'\n', lines).map_or(lines, |end| &lines[..end]);
                if !first.is_ascii() || is_interim(first) {
                    return None;
                }
            }
        }
        Some(end)
    }

    /// Reads one line, or the part of it that has arrived. Returns the bytes after it.
    fn read_line<'b>(
        &mut self,
        head: &mut PartialHead,
        bytes: &'b [u8],
        out: &mut Vec<u8>,
        extras: &mut HeadExtras,
    ) -> (&'b [u8], HeadEnd) {
        let end = memchr(b'\n', bytes).map(|end| end + 1);
        let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        head.bytes += piece.len();
        head.is_passed_through |= head.bytes > self.limits.bytes || head.lines > self.limits.fields;
        if end.is_none() {
            head.is_in_line |= piece != b"\r";
            let most = MAX_PARTIAL_LINE.max(self.limits.bytes);
            let is_buffered =
                self.must_buffer(head) && self.partial_line.len() + piece.len() <= most;
            if is_buffered {
                self.partial_line.extend_from_slice(piece);
            } else {
                head.is_passed_through |= self.must_buffer(head);
                out.append(&mut self.partial_line);
                out.extend_from_slice(piece);
            }
            return (rest, HeadEnd::NotYet);
        }
        let is_empty = !std::mem::take(&mut head.is_in_line) && matches!(piece, b"\n" | b"\r\n");
        let mut line = std::mem::take(&mut self.partial_line);
        let line: &[u8] = if line.is_empty() {
            piece
        } else {
            line.extend_from_slice(piece);
            &line
        };
        if is_empty {
            out.extend_from_slice(line);
            // Empty lines before a request line are ignored (RFC 9112, section 2.2).
            return if head.lines == 0 {
                (rest, HeadEnd::NotYet)
            } else {
                (rest, self.end(head, extras))
            };
        }
        head.lines += 1;
        let is_set_aside = match (head.lines, self.kind) {
            (1, HeadKind::Request) => false,
            (1, HeadKind::Response) => {
                head.read_status_line(line, extras);
                false
            }
            _ => {
                self.framing.add(strip_line_end(line));
                head.read_field(line, self.kind, extras)
            }
        };
        if !is_set_aside {
            let readable = readable_length(line).filter(|_| self.kind == HeadKind::Request);
            out.extend_from_slice(readable.unwrap_or(line));
        }
        if head.is_passed_through && !std::mem::replace(&mut head.is_padded, true) {
            out.extend_from_slice(&TOO_MANY_FIELDS);
        }
        (rest, HeadEnd::NotYet)
    }

    /// Whether a partial line must be buffered until it is complete.
    fn must_buffer(&self, head: &PartialHead) -> bool {
        let is_status = head.lines == 0 && self.kind == HeadKind::Response;
        let is_looked_at = self.kind == HeadKind::Request || head.interim.is_some();
        let is_field = head.lines >= MAX_HYPER_LINES || (is_looked_at && head.lines > 0);
        !head.is_passed_through && (is_status || is_field)
    }

    fn end(&mut self, head: &mut PartialHead, extras: &mut HeadExtras) -> HeadEnd {
        let framing = std::mem::take(&mut self.framing);
        if self.kind == HeadKind::Request {
            self.ended_framing =
                Some(if head.is_passed_through { Framing::Unknown } else { framing });
        }
        head.end(extras)
    }

    /// Whether a head has begun and is not over.
    #[cfg(test)]
    pub(super) fn is_inside_head(&self) -> bool {
        matches!(self.phase, HeadPhase::Inside(_))
    }
}

/// Whether a head has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadEnd {
    NotYet,
    /// It was an interim response: another head follows.
    Interim,
    Final,
}

impl PartialHead {
    /// Keeps what hyper drops of a status line (RFC 9112, section 4).
    fn read_status_line(&mut self, line: &[u8], extras: &mut HeadExtras) {
        let line = line.trim_ascii_end();
        if is_interim(line) {
            let status = line.get(9..12).and_then(|code| StatusCode::from_bytes(code).ok());
            self.interim = status.map(|status| (status, HeaderMap::new()));
        } else if !line.is_ascii() {
            extras.reason = line.get(13..).map(Bytes::copy_from_slice);
        }
    }

    /// Reads a field line. Returns whether it was set aside, so that hyper must not see it.
    fn read_field(&mut self, line: &[u8], kind: HeadKind, extras: &mut HeadExtras) -> bool {
        let is_beyond = self.lines > MAX_HYPER_LINES && !self.is_passed_through;
        let is_fold = matches!(line.first(), Some(b' ' | b'\t'));
        let was_set_aside = std::mem::take(&mut self.was_set_aside);
        if is_fold {
            // Obsolete line folding (RFC 9112, section 5.2) continues the field before it. Allowed
            // in responses only.
            self.was_set_aside = kind == HeadKind::Response
                && was_set_aside
                && append_folded_line(line, &mut extras.fields);
            return self.was_set_aside;
        }
        let Some((name, value)) = parse_field(line, kind) else { return false };
        if let Some((_, headers)) = &mut self.interim {
            // Beyond the capacity of `HeaderMap` a field is dropped.
            drop(headers.try_append(name, value));
            return false;
        }
        if is_beyond && !is_acted_on(&name) {
            extras.fields.push((name, value));
            self.was_set_aside = true;
        }
        self.was_set_aside
    }

    fn end(&mut self, extras: &mut HeadExtras) -> HeadEnd {
        match self.interim.take() {
            // After 101 hyper reads no other head.
            Some((StatusCode::SWITCHING_PROTOCOLS, _)) | None => HeadEnd::Final,
            Some((StatusCode::CONTINUE, _)) => HeadEnd::Interim,
            Some(interim) => {
                if extras.interim.len() < MAX_INTERIM {
                    extras.interim.push(interim);
                }
                HeadEnd::Interim
            }
        }
    }
}

/// Strips the line ending.
fn strip_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_interim(line: &[u8]) -> bool {
    line.starts_with(b"HTTP/1.") && line.get(8..10) == Some(b" 1")
}

/// Parses a field line as hyper would; `None` if hyper would reject it. Whitespace before the colon
/// is allowed in responses only (RFC 9112, section 5.1).
fn parse_field(line: &[u8], kind: HeadKind) -> Option<(HeaderName, HeaderValue)> {
    let colon = memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let name = if kind == HeadKind::Response { name.trim_ascii_end() } else { name };
    let value = trim_blanks(strip_line_end(value));
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// Appends a folded line to the last field. Returns whether the result is valid.
fn append_folded_line(line: &[u8], fields: &mut [(HeaderName, HeaderValue)]) -> bool {
    let Some((_, value)) = fields.last_mut() else { return false };
    let unfolded = [value.as_bytes(), b" ", line.trim_ascii()].concat();
    HeaderValue::from_bytes(&unfolded).is_ok_and(|unfolded| {
        *value = unfolded;
        true
    })
}

/// Whether hyper acts on this field, and so must see it.
fn is_acted_on(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests;
