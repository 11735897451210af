//! Encodes header blocks (RFC 7541, section 3).

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, StatusCode};
use rustc_hash::FxHashMap;

use super::static_table;

/// Encodes the header blocks of one connection, without a dynamic table.
#[derive(Debug, Default)]
pub struct HpackEncoder {
    has_begun: bool,
}

impl HpackEncoder {
    /// Encodes the header of a response.
    pub fn response(&mut self, status: StatusCode, headers: &HeaderMap, block: &mut Vec<u8>) {
        self.begin(block);
        pseudo(block, ":status", status.as_str());
        fields(headers, block);
    }

    /// Encodes the header of a request: its pseudo-header fields in the order given, then its
    /// fields.
    pub fn request(
        &mut self,
        pseudo_headers: &[(&str, &str)],
        headers: &HeaderMap,
        block: &mut Vec<u8>,
    ) {
        self.begin(block);
        for (name, value) in pseudo_headers {
            pseudo(block, name, value);
        }
        fields(headers, block);
    }

    /// Encodes trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap, block: &mut Vec<u8>) {
        self.begin(block);
        fields(trailers, block);
    }

    /// Begins the first block with a table size update to 0: a peer that lowered the size of the
    /// table must see one (RFC 7541, section 4.2).
    fn begin(&mut self, block: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            integer(block, 0x20, 5, 0);
        }
    }
}

/// Encodes a pseudo-header field: the static table has the common values of most.
fn pseudo(block: &mut Vec<u8>, name: &str, value: &str) {
    match static_index(name, Some(value)) {
        Some(index) => integer(block, 0x80, 7, index),
        None => literal(block, name, value.as_bytes(), false),
    }
}

fn fields(headers: &HeaderMap, block: &mut Vec<u8>) {
    for (name, value) in headers {
        literal(block, HeaderName::as_str(name), value.as_bytes(), value.is_sensitive());
    }
}

/// Encodes a literal header field, without indexing or never indexed (sections 6.2.2 and 6.2.3).
fn literal(block: &mut Vec<u8>, name: &str, value: &[u8], is_sensitive: bool) {
    let first = if is_sensitive { 0x10 } else { 0x00 };
    match static_index(name, None) {
        Some(index) => integer(block, first, 4, index),
        None => {
            block.push(first);
            string(block, name.as_bytes());
        }
    }
    string(block, value);
}

/// The index of a field in the static table; with `None`, the first index of its name.
fn static_index(name: &str, value: Option<&str>) -> Option<usize> {
    static FIRST: LazyLock<FxHashMap<&'static str, usize>> = LazyLock::new(|| {
        // From the end, so that the first entry of each name wins.
        let entries = static_table::ENTRIES.iter().enumerate().rev();
        entries.map(|(place, (name, _))| (*name, place + 1)).collect()
    });
    let first = *FIRST.get(name)?;
    let Some(value) = value else { return Some(first) };
    let same = static_table::ENTRIES[first - 1..].iter().take_while(|entry| entry.0 == name);
    same.zip(first..).find(|(entry, _)| entry.1 == value).map(|(_, index)| index)
}

/// Encodes a string literal (section 5.2), without Huffman coding.
fn string(block: &mut Vec<u8>, octets: &[u8]) {
    integer(block, 0x00, 7, octets.len());
    block.extend_from_slice(octets);
}

/// Encodes an integer (section 5.1).
fn integer(block: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let most = (1_usize << prefix) - 1;
    let low = |value: usize| u8::try_from(value).expect("masked to an octet");
    if value < most {
        block.push(first | low(value));
        return;
    }
    block.push(first | low(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(0x80 | low(rest & 0x7f));
        rest >>= 7;
    }
    block.push(low(rest));
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::{HpackEncoder, integer};
    use crate::hpack::{FieldName, HpackDecoder};

    #[test]
    fn a_decoded_block_equals_what_was_encoded() {
        let mut headers = HeaderMap::new();
        let long = "x".repeat(20_000);
        for (name, value) in
            [("content-type", "text/event-stream"), ("x-own", ""), ("x-long", &long), ("vary", "a")]
        {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        let (mut encoder, mut block) = (HpackEncoder::default(), Vec::new());
        encoder.trailers(&headers, &mut block);
        encoder.trailers(&headers, &mut block);
        assert_eq!(block[0], 0x20, "no dynamic table");
        let mut decoded = HeaderMap::new();
        HpackDecoder::default()
            .decode(&block, |field| {
                let FieldName::Regular(name) = field.name.clone() else { panic!("{field:?}") };
                decoded.append(name, field.value.clone().expect("a value"));
                ControlFlow::Continue(())
            })
            .expect("valid");
        assert_eq!(decoded.len(), 2 * headers.len());
        assert!(headers.iter().all(|(name, value)| decoded.get(name) == Some(value)));
    }

    #[test]
    fn a_status_in_the_static_table_takes_one_octet() {
        for (status, expected) in [
            (StatusCode::OK, &[0x88][..]),
            (StatusCode::NOT_FOUND, &[0x8d]),
            (StatusCode::FORBIDDEN, b"\x08\x03403"),
        ] {
            let (mut encoder, mut block) = (HpackEncoder { has_begun: true }, Vec::new());
            encoder.response(status, &HeaderMap::new(), &mut block);
            assert_eq!(block, expected, "{status}");
        }
    }

    /// RFC 7541, appendix C.1.
    #[test]
    fn integers_are_encoded_as_in_rfc_7541() {
        for (value, prefix, expected) in
            [(10, 5, &[10][..]), (1337, 5, &[31, 154, 10]), (42, 8, &[42])]
        {
            let mut block = Vec::new();
            integer(&mut block, 0, prefix, value);
            assert_eq!(block, expected);
        }
    }
}
