#![no_main]
//! RESP, of clients of the embedded bus and in the answers of Redis, reads the same wherever it is cut.

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ssegate::source::resp::{Decoder, Limits, RequestDecoder};

fn limits() -> Limits {
    Limits { max_bulk_bytes: 64, max_elements: 64, max_depth: 4, max_line_bytes: 64 }
}

macro_rules! read {
    ($decoder:expr, $pieces:expr) => {{
        let (mut decoder, mut buffer, mut read) = ($decoder, BytesMut::new(), Vec::new());
        'all: for piece in $pieces {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(value)) => read.push(format!("{value:?}")),
                    Ok(None) => break,
                    Err(_) => {
                        read.push("error".to_owned());
                        break 'all;
                    }
                }
            }
        }
        read
    }};
}

fuzz_target!(|input: (usize, Vec<u8>)| {
    let (size, bytes) = input;
    let size = size % 16 + 1;
    let whole = read!(Decoder::new(limits()), std::iter::once(&*bytes));
    assert_eq!(read!(Decoder::new(limits()), bytes.chunks(size)), whole);
    let whole = read!(RequestDecoder::new(limits()), std::iter::once(&*bytes));
    assert_eq!(read!(RequestDecoder::new(limits()), bytes.chunks(size)), whole);
});
