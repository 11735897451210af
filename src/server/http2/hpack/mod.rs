//! The compression of header fields (HPACK, RFC 7541).
//!
//! What clients send is decoded in full, dynamic table and Huffman code included. What we send uses
//! the static table and plain strings: a stream is answered once and then runs for hours, so what a
//! dynamic table of ours would save is not worth holding it for every connection.

mod decoder;
mod encoder;
mod field;
mod huffman;
mod static_table;

pub(crate) use self::decoder::{Decoder, Refused};
pub(crate) use self::encoder::Encoder;
pub(crate) use self::field::{BadValue, Field, Name};
