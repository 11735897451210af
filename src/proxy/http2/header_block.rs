//! Decodes a header block that arrives in HEADERS and CONTINUATION frames (RFC 9113, section 4.3).
//!
//! Fields are decoded as the frames arrive, and dropped when they exceed the limit. So a block of
//! any size takes bounded memory, and fails only its own stream: the HPACK dynamic table stays in
//! sync with the backend's.

use std::ops::ControlFlow;

use ssegate_http2::error::ErrorCode;
use ssegate_http2::hpack::HpackDecoder;

use super::head::ResponseHeadBuilder;
use super::reason::ProtocolViolation;

/// The maximum size of one encoded field, in octets: a field is buffered until it is complete.
const MAX_FIELD: usize = 4 << 20;

/// An incomplete header block.
#[derive(Debug)]
pub(super) struct HeaderBlock {
    /// Its stream.
    pub(super) stream: u32,
    /// Whether its HEADERS frame has END_STREAM.
    pub(super) ends_stream: bool,
    builder: ResponseHeadBuilder,
    // The beginning of an incomplete field.
    rest: Vec<u8>,
    is_begun: bool,
}

impl HeaderBlock {
    pub(super) fn new(stream: u32, ends_stream: bool, max_size: usize) -> Self {
        let builder = ResponseHeadBuilder::new(max_size);
        Self { stream, ends_stream, builder, rest: Vec::new(), is_begun: false }
    }

    /// Decodes the payload of the next frame.
    ///
    /// # Errors
    /// Invalid HPACK, or a field larger than 4 MiB: a connection error.
    pub(super) fn push(
        &mut self,
        octets: &[u8],
        decoder: &mut HpackDecoder,
    ) -> Result<(), ProtocolViolation> {
        if self.rest.is_empty() {
            let used = self.decode(octets, decoder)?;
            self.rest = octets[used..].to_vec();
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(octets);
            let used = self.decode(&all, decoder)?;
            all.drain(..used);
            self.rest = all;
        }
        if self.rest.len() > MAX_FIELD {
            let what = "a header field over 4 MiB";
            return Err(ProtocolViolation::Connection(ErrorCode::ENHANCE_YOUR_CALM, what));
        }
        Ok(())
    }

    fn decode(
        &mut self,
        octets: &[u8],
        decoder: &mut HpackDecoder,
    ) -> Result<usize, ProtocolViolation> {
        let builder = &mut self.builder;
        let add = |field: &_| {
            builder.add(field);
            ControlFlow::Continue(())
        };
        let decoded = decoder.decode_part(octets, &mut self.is_begun, add);
        decoded.map_err(|_| {
            ProtocolViolation::Connection(ErrorCode::COMPRESSION_ERROR, "invalid HPACK")
        })
    }

    /// Completes the block.
    ///
    /// # Errors
    /// It ends within a field: a connection error.
    pub(super) fn finish(self) -> Result<ResponseHeadBuilder, ProtocolViolation> {
        if self.rest.is_empty() {
            Ok(self.builder)
        } else {
            Err(ProtocolViolation::Connection(
                ErrorCode::COMPRESSION_ERROR,
                "a truncated header block",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use ssegate_http2::hpack::HpackDecoder;

    use super::super::head::HeaderError;
    use super::{HeaderBlock, MAX_FIELD, ProtocolViolation};

    const LIMIT: usize = 64 << 10;

    #[test]
    fn a_block_far_over_the_limit_takes_little_memory_and_keeps_the_dynamic_table_in_sync() {
        let mut decoder = HpackDecoder::default();
        let mut block = HeaderBlock::new(1, true, LIMIT);
        // A literal with incremental indexing.
        let field = [&[0x40, 0x01, b'a', 100][..], &[b'x'; 100]].concat();
        block.push(&[0x88], &mut decoder).expect("valid");
        let frame = field.repeat(150);
        for _ in 0..1000 {
            block.push(&frame[..70], &mut decoder).expect("valid");
            block.push(&frame[70..], &mut decoder).expect("valid");
            assert!(block.rest.is_empty());
        }
        let builder = block.finish().expect("complete");
        assert_eq!(builder.into_response().err(), Some(HeaderError::TooLarge));
        let mut next = HeaderBlock::new(3, true, LIMIT);
        next.push(&[0x88, 0xbe], &mut decoder).expect("valid");
        let response = next.finish().expect("complete").into_response().expect("a response");
        assert_eq!(response.headers()["a"].len(), 100);
    }

    #[test]
    fn a_field_split_over_many_frames_is_decoded() {
        let mut decoder = HpackDecoder::default();
        let mut block = HeaderBlock::new(1, true, LIMIT);
        let octets = [&[0x88, 0x00, 0x01, b'a', 0x7f, 0xe9, 0x06][..], &[b'x'; 1000]].concat();
        for octet in octets.chunks(7) {
            block.push(octet, &mut decoder).expect("valid");
        }
        let response = block.finish().expect("complete").into_response().expect("a response");
        assert_eq!(response.headers()["a"].len(), 1000);
    }

    #[test]
    fn an_endless_field_is_a_connection_error() {
        let mut decoder = HpackDecoder::default();
        let mut block = HeaderBlock::new(1, true, LIMIT);
        block.push(&[0x00, 0x01, b'a', 0x7f, 0xff, 0xff, 0xff, 0x3f], &mut decoder).expect("valid");
        let frame = [b'x'; 16 << 10];
        let failed = (0..=MAX_FIELD / frame.len())
            .find_map(|_| block.push(&frame, &mut decoder).err().zip(Some(block.rest.len())));
        let Some((ProtocolViolation::Connection(..), size)) = failed else { panic!("{failed:?}") };
        assert!(size <= MAX_FIELD + frame.len(), "{size}");
    }
}
