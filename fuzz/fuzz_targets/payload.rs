#![no_main]
//! Whatever a publisher writes, an event comes of it whose fields forge no line.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ssegate::event::Format;
use ssegate::source::decode::decode;
use ssegate::sse::encode::is_field_value;

fuzz_target!(|payload: &[u8]| {
    for format in [Format::Raw, Format::Envelope] {
        let event = decode(format, &Bytes::copy_from_slice(payload)).event;
        for field in [&event.name, &event.id].into_iter().flatten() {
            assert!(is_field_value(field));
        }
    }
});
