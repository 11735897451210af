#![no_main]
//! An event of any bytes becomes one block, in either form, and reads back as that event alone.

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use ssegate_sse::Event;
use ssegate_sse::encode::{self, is_field_value};
use ssegate_sse::frame::{Form, Frame};
use ssegate_sse::parse::{Parser, SseItem};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    name: Option<&'a str>,
    id: Option<&'a str>,
    retry: Option<u64>,
    keep_alive: &'a [u8],
    data: &'a [u8],
}

fn events(stream: &[u8]) -> Vec<(Event, String)> {
    let (mut parser, mut events) = (Parser::new(usize::MAX), Vec::new());
    parser.feed(stream, |item| match item {
        SseItem::Event { event, last_event_id } => events.push((event, last_event_id.to_string())),
        SseItem::Retry(_) | SseItem::Comment(_) => {}
        SseItem::TooLarge(bytes) => panic!("{bytes} bytes are not too large"),
    });
    events
}

fn check_forms(frame: &Frame) {
    let text = frame.text();
    assert_eq!(frame.bytes(Form::Text), text);
    let chunk = [format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
    assert_eq!(frame.bytes(Form::Chunk), chunk);
}

fuzz_target!(|input: Input<'_>| {
    let name = input.name.filter(|name| !name.is_empty() && !name.contains(['\r', '\n']));
    let id = input.id.filter(|id| is_field_value(id)).map(str::to_owned);
    let data = Bytes::copy_from_slice(input.data);
    let event = Event { name: name.map(Into::into), data, id: None, retry: input.retry };
    let frame = encode::frame(&event, id.as_deref());
    let text = frame.text();
    assert!(text.ends_with(b"\n\n") && !text.contains(&b'\r'), "one block, one kind of line end");
    assert!(std::str::from_utf8(text).is_ok(), "a stream is UTF-8");
    check_forms(&frame);

    let lines = String::from_utf8_lossy(input.data).replace("\r\n", "\n").replace('\r', "\n");
    let read_back = |id: Option<&str>| {
        let event = Event { data: lines.clone().into(), id: id.map(Into::into), ..event.clone() };
        (event, id.unwrap_or_default().to_owned())
    };
    assert_eq!(events(text), [read_back(id.as_deref())]);

    let other = encode::with_id(&frame, "abcdef-7");
    check_forms(&other);
    assert_eq!(events(other.text()), [read_back(Some("abcdef-7"))]);
    assert_eq!((frame.id(), other.id()), (id.as_deref(), Some("abcdef-7")));

    // A custom keep-alive text does not change the next block.
    if !input.keep_alive.is_empty() {
        let keep_alive = encode::keep_alive(input.keep_alive);
        check_forms(&keep_alive);
        let stream = [b"data: before\n\n", keep_alive.text(), other.text()].concat();
        let events = events(&stream);
        assert_eq!(events.first().expect("the first").0.data, "before");
        let (mut last, id) = events.last().expect("the last").clone();
        // A `retry` of the text counts at its own line, and is read with the next event.
        last.retry = input.retry;
        assert_eq!((last, id), read_back(Some("abcdef-7")));
    }
});
