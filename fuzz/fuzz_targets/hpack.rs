#![no_main]
//! Header blocks of any octets.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    // One block after the other, of the length that the first octet says.
    let mut rest = octets;
    let blocks = std::iter::from_fn(move || {
        let (&length, more) = rest.split_first()?;
        let (block, left) = more.split_at(usize::from(length).min(more.len()));
        rest = left;
        Some(block)
    });
    ssegate::server::decode_header_blocks(blocks);
});
