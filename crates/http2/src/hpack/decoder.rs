//! Decodes header blocks (RFC 7541, section 3).

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::field::HeaderField;
use super::{huffman, static_table};

/// The largest dynamic table of a client: the default of SETTINGS_HEADER_TABLE_SIZE (RFC 9113,
/// section 6.5.2), in octets as RFC 7541, section 4.1, counts them.
const MAX_TABLE_SIZE: usize = 4096;

/// Decodes the header blocks of one connection, in the order in which they come.
#[derive(Debug, Default)]
pub struct HpackDecoder {
    // The dynamic table, the newest entry first. Allocates nothing until a client indexes a field.
    table: VecDeque<HeaderField>,
    table_size: usize,
    // What the last dynamic table size update said; `None`: MAX_TABLE_SIZE.
    max_size: Option<usize>,
}

/// Why a block was not decoded to its end. The connection cannot continue: the dynamic tables of
/// both sides may differ from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// The block is invalid: COMPRESSION_ERROR.
    Invalid,
    /// The input ends within a field.
    Incomplete,
    /// The caller stopped decoding.
    Stopped,
}

impl From<huffman::InvalidHuffman> for HpackError {
    fn from(_: huffman::InvalidHuffman) -> Self {
        Self::Invalid
    }
}

impl HpackDecoder {
    /// Passes each field of the block to `on_field`, until that breaks.
    ///
    /// # Errors
    /// The block is invalid, or `on_field` broke.
    pub fn decode(
        &mut self,
        block: &[u8],
        on_field: impl FnMut(&HeaderField) -> ControlFlow<()>,
    ) -> Result<(), HpackError> {
        let used = self.decode_part(block, &mut false, on_field)?;
        // A field that is incomplete at the end of the block stays incomplete.
        if used == block.len() { Ok(()) } else { Err(HpackError::Invalid) }
    }

    /// Passes each complete field in `part` to `on_field`; returns how many octets these fields
    /// take. The next part must begin with the octets after them. `is_begun` is kept by the caller
    /// for each block, false before the first part.
    ///
    /// # Errors
    /// The part is invalid, or `on_field` broke.
    pub fn decode_part(
        &mut self,
        part: &[u8],
        is_begun: &mut bool,
        mut on_field: impl FnMut(&HeaderField) -> ControlFlow<()>,
    ) -> Result<usize, HpackError> {
        let mut rest = part;
        while !rest.is_empty() {
            let mut input = BlockReader(rest);
            match self.decode_field(&mut input, is_begun, &mut on_field) {
                Ok(ControlFlow::Continue(())) => rest = input.0,
                Ok(ControlFlow::Break(())) => return Err(HpackError::Stopped),
                Err(HpackError::Incomplete) => break,
                Err(refused) => return Err(refused),
            }
        }
        Ok(part.len() - rest.len())
    }

    /// Decodes one field representation, or one dynamic table size update. Changes nothing if it is
    /// incomplete.
    fn decode_field(
        &mut self,
        input: &mut BlockReader<'_>,
        is_begun: &mut bool,
        on_field: &mut impl FnMut(&HeaderField) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, HpackError> {
        let first = input.peek().ok_or(HpackError::Incomplete)?;
        let flow = if first & 0x80 != 0 {
            // Section 6.1: indexed header field.
            let index = input.integer(7)?;
            on_field(self.field(index)?)
        } else if first & 0xc0 == 0x40 {
            // Section 6.2.1: literal header field with incremental indexing.
            let field = self.literal(input, 6)?;
            let flow = on_field(&field);
            self.insert(field);
            flow
        } else if first & 0xe0 == 0x20 {
            // Section 6.3: dynamic table size update, only at the beginning of a block (section
            // 4.2).
            let size = input.integer(5)?;
            if *is_begun || size > MAX_TABLE_SIZE {
                return Err(HpackError::Invalid);
            }
            self.max_size = Some(size);
            self.evict(size);
            return Ok(ControlFlow::Continue(()));
        } else {
            // Sections 6.2.2 and 6.2.3: literal header field without indexing, or never indexed.
            let field = self.literal(input, 4)?;
            on_field(&if first & 0x10 == 0 { field } else { field.never_indexed() })
        };
        *is_begun = true;
        Ok(flow)
    }

    fn literal(&self, input: &mut BlockReader<'_>, prefix: u32) -> Result<HeaderField, HpackError> {
        match input.integer(prefix)? {
            0 => {
                let name = input.string()?;
                Ok(HeaderField::new(&name, &input.string()?))
            }
            index => {
                let value = input.string()?;
                let known = self.field(index)?;
                Ok(HeaderField::named(known.name.clone(), known.name_len(), &value))
            }
        }
    }

    fn field(&self, index: usize) -> Result<&HeaderField, HpackError> {
        let dynamic = || self.table.get(index.checked_sub(static_table::ENTRIES.len() + 1)?);
        static_table::field(index).or_else(dynamic).ok_or(HpackError::Invalid)
    }

    fn insert(&mut self, field: HeaderField) {
        let max_size = self.max_size.unwrap_or(MAX_TABLE_SIZE);
        // An entry that is larger than the table empties it (section 4.4).
        self.evict(max_size.saturating_sub(field.size));
        if field.size <= max_size {
            self.table_size += field.size;
            self.table.push_front(field);
        }
        debug_assert!(self.table_size <= max_size, "the dynamic table exceeds its size");
    }

    /// Evicts the oldest entries until at most `size` octets are used.
    fn evict(&mut self, size: usize) {
        while self.table_size > size
            && let Some(oldest) = self.table.pop_back()
        {
            self.table_size -= oldest.size;
        }
    }
}

/// The rest of a block.
struct BlockReader<'a>(&'a [u8]);

impl<'a> BlockReader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Result<u8, HpackError> {
        let (&first, rest) = self.0.split_first().ok_or(HpackError::Incomplete)?;
        self.0 = rest;
        Ok(first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], HpackError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HpackError::Incomplete)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Decodes an integer (section 5.1). At most four octets after the prefix: no valid value needs
    /// more.
    fn integer(&mut self, prefix: u32) -> Result<usize, HpackError> {
        let most = (1_usize << prefix) - 1;
        let mut value = usize::from(self.next()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let octet = self.next()?;
            value += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::Invalid)
    }

    /// Decodes a string literal (section 5.2).
    fn string(&mut self) -> Result<std::borrow::Cow<'a, [u8]>, HpackError> {
        let is_huffman = self.peek().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let octets = self.take(length)?;
        if !is_huffman {
            return Ok(octets.into());
        }
        // The shortest Huffman code has five bits.
        let mut decoded = Vec::with_capacity(octets.len() * 8 / 5);
        huffman::decode(octets, &mut decoded)?;
        Ok(decoded.into())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::{HpackDecoder, HpackError};
    use crate::hpack::FieldName;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("two digits")
        };
        digits.chunks(2).map(octet).collect()
    }

    fn decode(decoder: &mut HpackDecoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
        let mut lines = Vec::new();
        decoder.decode(block, |field| {
            let name = match &field.name {
                FieldName::Regular(name) => name.to_string(),
                other => format!("{other:?}"),
            };
            let value = field.strict_value().ok();
            let value = value.map(|value| value.to_str().expect("text").to_owned());
            lines.push(format!("{name}: {}", value.as_deref().unwrap_or("(malformed)")));
            ControlFlow::Continue(())
        })?;
        Ok(lines)
    }

    /// RFC 7541, appendices C.3 and C.4: the same requests without and with Huffman coding.
    #[test]
    fn the_requests_of_rfc_7541_are_decoded() {
        for blocks in [
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
        ] {
            let mut decoder = HpackDecoder::default();
            let mut decoded = blocks.map(|block| decode(&mut decoder, &hex(block)).expect("valid"));
            decoded[2].push(decoder.table_size.to_string());
            assert_eq!(
                decoded.concat(),
                [
                    "Method: GET",
                    "Scheme: http",
                    "Path: /",
                    "Authority: www.example.com",
                    "Method: GET",
                    "Scheme: http",
                    "Path: /",
                    "Authority: www.example.com",
                    "cache-control: no-cache",
                    "Method: GET",
                    "Scheme: https",
                    "Path: /index.html",
                    "Authority: www.example.com",
                    "custom-key: custom-value",
                    "164",
                ]
            );
        }
    }

    #[test]
    fn invalid_header_blocks_are_refused() {
        for (what, block) in [
            ("index 0", "80"),
            ("an index above both tables", "ff00"),
            ("an integer that does not end", "ffffffffffff"),
            ("a string longer than the block", "00036162"),
            ("a table size above the limit", "3fe21f"),
            ("a table size update in the middle of a block", "8220"),
            ("a Huffman string with EOS", "0084ffffffff0161"),
            ("a Huffman string padded with zeros", "0081180161"),
            ("a Huffman string with eight bits of padding", "00821fff0161"),
        ] {
            let decoded = decode(&mut HpackDecoder::default(), &hex(block));
            assert_eq!(decoded, Err(HpackError::Invalid), "{what}");
        }
    }

    #[test]
    fn the_dynamic_table_never_exceeds_its_size() {
        let mut decoder = HpackDecoder::default();
        for number in 0..1000 {
            let mut block = vec![0x40, 0x01, b'a', 100];
            block.extend(format!("{number:0100}").bytes());
            decode(&mut decoder, &block).expect("valid");
            assert!(decoder.table_size <= 4096);
        }
        assert_eq!(decoder.table.len(), 4096 / 133);
        decode(&mut decoder, &[0x20]).expect("valid");
        assert_eq!((decoder.table.len(), decoder.table_size), (0, 0));
        // Larger than the table: not an error.
        decode(&mut decoder, &[0x40, 0x01, b'a', 0x01, b'b']).expect("valid");
        assert_eq!(decoder.table.len(), 0);
    }

    #[test]
    fn a_block_in_two_parts_decodes_like_the_whole() {
        let block = hex(concat!(
            "828684410f7777772e6578616d706c652e636f6d",
            "400a637573746f6d2d6b65790c637573746f6d2d76616c7565be0001610162",
        ));
        let expected = decode(&mut HpackDecoder::default(), &block).expect("valid");
        for cut in 0..=block.len() {
            let (mut decoder, mut fields, mut is_begun) = (HpackDecoder::default(), 0, false);
            let mut count = |_: &super::HeaderField| {
                fields += 1;
                ControlFlow::Continue(())
            };
            let used = decoder.decode_part(&block[..cut], &mut is_begun, &mut count);
            let used = used.expect("valid so far");
            assert!(used <= cut && is_begun == (used > 0), "{used} of {cut}");
            let rest = decoder.decode_part(&block[used..], &mut is_begun, &mut count);
            assert_eq!(rest, Ok(block.len() - used), "cut at {cut}");
            assert_eq!(fields, expected.len(), "cut at {cut}");
        }
    }

    #[test]
    fn decoding_stops_when_the_caller_breaks() {
        let broken = HpackDecoder::default().decode(&[0x82, 0x82], |_| ControlFlow::Break(()));
        assert_eq!(broken, Err(HpackError::Stopped));
    }

    #[test]
    fn a_malformed_name_counts_in_the_dynamic_table() {
        let mut decoder = HpackDecoder::default();
        // The second entry takes its name from the first.
        decode(&mut decoder, &[0x40, 0x03, b'A', b'B', b'C', 0x01, b'x']).expect("valid HPACK");
        decode(&mut decoder, &[0x7e, 0x01, b'y']).expect("valid HPACK");
        let sizes: Vec<_> = decoder.table.iter().map(|field| field.size).collect();
        assert_eq!(sizes, [36, 36]);
    }

    #[test]
    fn a_never_indexed_field_is_marked_sensitive() {
        for (first, expected) in [(0x00, false), (0x10, true)] {
            let mut is_sensitive = None;
            let on_field = |field: &super::HeaderField| {
                is_sensitive = field.value.as_ref().ok().map(http::HeaderValue::is_sensitive);
                ControlFlow::Continue(())
            };
            HpackDecoder::default()
                .decode(&[first, 0x01, b'a', 0x01, b'b'], on_field)
                .expect("valid");
            assert_eq!(is_sensitive, Some(expected));
        }
    }

    #[test]
    fn fields_that_http_does_not_allow_are_marked() {
        let block =
            [&[0x00, 0x01, b'A', 0x01, b'b'][..], &[0x00, 0x01, b'a', 0x01, b'\n']].concat();
        let decoded = decode(&mut HpackDecoder::default(), &block).expect("valid HPACK");
        assert_eq!(decoded, ["Malformed { octets: 1 }: b", "a: (malformed)"]);
        let block = [0x00, 0x01, b'a', 0x02, b' ', b'b'];
        let decoded = decode(&mut HpackDecoder::default(), &block).expect("valid HPACK");
        assert_eq!(decoded, ["a: (malformed)"]);
    }
}
