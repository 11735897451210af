//! HPACK: header compression for HTTP/2 (RFC 7541).
//!
//! Decoding is complete, with the dynamic table and Huffman coding. Encoding uses the static table
//! and plain strings only: an event stream has one header and then runs for hours, so a dynamic
//! table would hold memory for every connection and save next to nothing.

mod decoder;
mod encoder;
mod field;
mod huffman;
mod static_table;

pub use self::decoder::{HpackDecoder, HpackError};
pub use self::encoder::HpackEncoder;
pub use self::field::{FieldName, HeaderField, InvalidValue};
