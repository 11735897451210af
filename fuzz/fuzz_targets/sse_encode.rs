#![no_main]
//! An event of any bytes becomes one block, and reads back as that event alone.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ssegate::sse::encode;
use ssegate::sse::parse::{Item, Parser};

fuzz_target!(|input: (Vec<u8>, String, String, bool)| {
    let (data, name, id, is_envelope) = input;
    let format = if is_envelope { ssegate::event::Format::Envelope } else { ssegate::event::Format::Raw };
    let decoded = ssegate::source::decode::decode(format, &Bytes::from(data));
    let id = Some(&*id).filter(|id| encode::is_field_value(id));
    let mut event = decoded.event;
    if encode::is_field_value(&name) && !name.is_empty() {
        event.name = Some(name.into());
    }
    let frame = encode::frame(&event, id);
    let text = frame.text();
    assert!(text.ends_with(b"\n\n") && !text.contains(&b'\r'), "one block, one kind of line end");
    assert!(std::str::from_utf8(text).is_ok(), "a stream is UTF-8");
    let mut parser = Parser::new(usize::MAX);
    let mut events = 0;
    parser.feed(text, |item| events += u32::from(matches!(item, Item::Event { .. })));
    assert_eq!(events, 1, "neither more nor less than the event");
});
