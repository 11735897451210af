//! Finds where the body of a request ends (RFC 9112, section 6).
//!
//! hyper decides that for itself; this predicts it, so that hyper is not given bytes of the next
//! request too early. It is stricter than hyper: for an unusual head or chunk the result is
//! [`Framing::Unknown`], and the caller must not guess.

use memchr::{memchr, memchr_iter};

use ssegate_http2::field_value::trim_blanks;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    #[default]
    Empty,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// A `Content-Length` that hyper does not read. [`readable_length`] replaces it.
    Huge,
    /// `Transfer-Encoding: chunked`, and no other coding.
    Chunked,
    /// The head is ambiguous or unusual.
    Unknown,
}

impl Framing {
    /// Returns the body framing of a request with these head lines. `None` if they cannot go to hyper as they
    /// are: there are more than `max_lines`, one does not end in CRLF or is empty, so that the head may begin or
    /// end elsewhere, or the length is [`Huge`](Self::Huge).
    pub(super) fn of_head(lines: &[u8], max_lines: usize) -> Option<Self> {
        let mut framing = Self::default();
        let (mut begin, mut count) = (0, 0);
        for end in memchr_iter(b'\n', lines) {
            let line = lines[begin..end].strip_suffix(b"\r").filter(|line| !line.is_empty())?;
            if count > 0 {
                framing.add(line);
            }
            (begin, count) = (end + 1, count + 1);
        }
        (count <= max_lines && framing != Self::Huge).then_some(framing)
    }

    /// Takes a field line, without its line ending, into account.
    pub(super) fn add(&mut self, line: &[u8]) {
        match line.first() {
            // Obsolete line folding: hyper rejects the request.
            None | Some(b' ' | b'\t') => *self = Self::Unknown,
            Some(b'c' | b'C' | b't' | b'T') => self.add_field(line),
            Some(_) => {}
        }
    }

    fn add_field(&mut self, line: &[u8]) {
        let Some(colon) = memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], trim_blanks(&line[colon + 1..]));
        if name.eq_ignore_ascii_case(b"content-length") {
            *self = match (*self, number(value)) {
                (Self::Empty | Self::Huge, _) if is_huge(value) => Self::Huge,
                (Self::Empty, Some(length)) => Self::Length(length),
                (Self::Length(known), Some(length)) if known == length => *self,
                _ => Self::Unknown,
            };
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_chunked = *self == Self::Empty && value.eq_ignore_ascii_case(b"chunked");
            *self = if is_chunked { Self::Chunked } else { Self::Unknown };
        }
    }
}

/// The longest body that hyper reads, in bytes. hyper rejects a larger number as too long a header, with 431 and
/// no text.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// Returns a field line that hyper reads in place of a [`Huge`](Framing::Huge) length. The service then refuses
/// the request with a text. `None` for any other line.
pub(super) fn readable_length(line: &[u8]) -> Option<&'static [u8]> {
    const LINE: &[u8] = b"Content-Length: 18446744073709551613\r\n";
    let mut framing = Framing::Empty;
    framing.add(line.trim_ascii_end());
    (framing == Framing::Huge).then_some(LINE)
}

fn is_huge(text: &[u8]) -> bool {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number && number(text).is_none_or(|length| length > MAX_LENGTH)
}

/// Parses `Content-Length`: digits only, no sign, no list.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if is_number { str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// A parser of the chunked transfer coding (RFC 9112, section 7.1). Each variant is what it expects
/// next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkParser {
    /// The first digit of a chunk size.
    Begin,
    /// Another digit, an extension, or the CR.
    Size(u64),
    /// The rest of a chunk extension, up to the CR.
    Extension(u64),
    SizeLf(u64),
    /// This many bytes of chunk data.
    Data(u64),
    DataCr,
    DataLf,
    /// A trailer field, or the CR of the final empty line.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    /// Nothing: the body is complete.
    End,
}

impl ChunkParser {
    /// Consumes `bytes` up to the end of the body. Returns how many belong to the body; `None` if
    /// they are not valid chunks.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::End {
            if let Self::Data(left) = *self {
                let length = min_length(left, bytes.len() - at);
                at += length;
                let left = left - length as u64;
                *self = if left == 0 { Self::DataCr } else { Self::Data(left) };
            } else {
                *self = self.after(bytes[at])?;
                at += 1;
            }
        }
        Some(at)
    }

    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Begin, digit) => Self::Size(hex(digit)?),
            (Self::Size(size) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Size(size), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(size), digit) => {
                Self::Size(size.checked_mul(16)?.checked_add(hex(digit)?)?)
            }
            (Self::Extension(size), byte) if byte != b'\n' => Self::Extension(size),
            (Self::SizeLf(0), b'\n') => Self::Line,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Begin,
            (Self::Line, b'\r') => Self::EndLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::Line | Self::Trailer, _) => Self::Trailer,
            (Self::TrailerLf, b'\n') => Self::Line,
            (Self::EndLf, b'\n') => Self::End,
            _ => return None,
        })
    }
}

fn hex(digit: u8) -> Option<u64> {
    char::from(digit).to_digit(16).map(u64::from)
}

/// Returns the smaller of the two.
pub(super) fn min_length(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

#[cfg(test)]
mod tests {
    use super::{ChunkParser, Framing};

    #[test]
    fn framing_is_unknown_where_a_head_is_ambiguous() {
        for (lines, expected) in [
            (&["host: a"][..], Framing::Empty),
            (&["content-length: 5"], Framing::Length(5)),
            (&["CONTENT-LENGTH:\t5 ", "Content-Length: 5"], Framing::Length(5)),
            (&["Transfer-Encoding: Chunked"], Framing::Chunked),
            (&["content-lengthy: 5", "content: 1", "te: trailers"], Framing::Empty),
            (&["content-length: 5", "content-length: 6"], Framing::Unknown),
            (&["content-length: 5", "transfer-encoding: chunked"], Framing::Unknown),
            (&["transfer-encoding: chunked", "content-length: 5"], Framing::Unknown),
            (&["transfer-encoding: chunked", "transfer-encoding: chunked"], Framing::Unknown),
            (&["transfer-encoding: gzip, chunked"], Framing::Unknown),
            (&["transfer-encoding:", " chunked"], Framing::Unknown),
            (&["content-length: +5"], Framing::Unknown),
            (&["content-length: 5, 5"], Framing::Unknown),
            (&["content-length: 18446744073709551613"], Framing::Length(u64::MAX - 2)),
            (&["content-length: 18446744073709551614"], Framing::Huge),
            (&["content-length: 99999999999999999999"], Framing::Huge),
            (&["content-length: 99999999999999999999", "Content-Length: 1"], Framing::Unknown),
            (&["Content-Length: 1", "content-length: 99999999999999999999"], Framing::Unknown),
            (&["content-length:"], Framing::Unknown),
        ] {
            let mut framing = Framing::default();
            lines.iter().for_each(|line| framing.add(line.as_bytes()));
            assert_eq!(framing, expected, "{lines:?}");
        }
    }

    #[test]
    fn a_chunked_body_ends_after_its_last_chunk_and_trailers() {
        for (body, is_known) in [
            (&b"0\r\n\r\n"[..], true),
            (b"5\r\nab\r\n0\r\n1;x=\"0\r\n0\r\n0\r\n\r\n", true),
            (b"00A \r\n0123456789\r\n000;a\r\nx-sum: 0\r\ny: \r\n\r\n", true),
            (b"\r\n", false),
            (b"5\nabcde\r\n", false),
            (b"2\r\nabc\r\n", false),
            (b"1;a\n\r\n", false),
            (b"0x5\r\n", false),
            (b"10000000000000000\r\n", false),
            (b"0\r\n\rx", false),
        ] {
            let all = [body, b"GET / HTTP/1.1\r\n\r\n"].concat();
            for cut in 0..all.len() {
                let mut chunks = ChunkParser::Begin;
                let first = chunks.read(&all[..cut]);
                let read = first.and_then(|first| Some(first + chunks.read(&all[first..])?));
                assert_eq!(read, is_known.then_some(body.len()), "{body:?} at {cut}");
                assert_eq!(chunks == ChunkParser::End, is_known);
            }
        }
    }
}
