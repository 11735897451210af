#![no_main]
//! A stream reads the same wherever its bytes are cut.

use libfuzzer_sys::fuzz_target;
use ssegate::sse::parse::{Item, Parser};

fn items<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Item> {
    let mut parser = Parser::new(64);
    let mut items = Vec::new();
    for piece in pieces {
        parser.feed(piece, |item| items.push(item));
    }
    items
}

fuzz_target!(|input: (usize, Vec<u8>)| {
    let (size, bytes) = input;
    let whole = items(std::iter::once(&*bytes));
    assert_eq!(items(bytes.chunks(size % 16 + 1)), whole);
});
