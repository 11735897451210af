#![no_main]
//! A stream reads as the standard says, wherever its bytes are cut, and wherever a keep-alive comment is in it.

#[path = "../../../fuzz/fuzz_targets/pieces.rs"]
mod pieces;

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ssegate_sse::comments::CommentInserter;
use ssegate_sse::parse::{Parser, SseItem};

/// A bound that inputs reach.
const BOUND: usize = 64;

fn read<'a>(bound: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<SseItem> {
    let mut parser = Parser::new(bound);
    let mut items = Vec::new();
    for piece in pieces {
        parser.feed(piece, |item| items.push(item));
    }
    items
}

/// What matters to a page: name, data and last id of an event, or how long to wait.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Event(String, String, String),
    Retry(Duration),
}

fn seen(item: SseItem) -> Option<Seen> {
    match item {
        SseItem::Event { event, last_event_id } => Some(Seen::Event(
            event.name.map_or_else(|| "message".to_owned(), Into::into),
            String::from_utf8(event.data.into()).expect("data is UTF-8"),
            last_event_id.to_string(),
        )),
        SseItem::Retry(wait) => Some(Seen::Retry(wait)),
        SseItem::Comment(_) => None,
        SseItem::TooLarge(bytes) => panic!("{bytes} bytes are not too large"),
    }
}

/// WHATWG HTML, section 9.2.6, word for word, of the whole stream.
fn as_the_standard_says(stream: &[u8]) -> Vec<Seen> {
    let stream = String::from_utf8_lossy(stream);
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(&stream);
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    // What follows the last line end is not a complete line.
    let Some((lines, _)) = stream.rsplit_once('\n') else { return Vec::new() };
    let (mut data, mut name, mut id) = (String::new(), String::new(), String::new());
    let mut seen = Vec::new();
    for line in lines.split('\n') {
        if line.is_empty() {
            let event = std::mem::take(&mut name);
            let event = if event.is_empty() { "message".to_owned() } else { event };
            if let Some(data) = data.strip_suffix('\n') {
                seen.push(Seen::Event(event, data.to_owned(), id.clone()));
            }
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data.extend([value, "\n"]),
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                seen.push(Seen::Retry(Duration::from_millis(value.parse().unwrap_or(u64::MAX))));
            }
            _ => {}
        }
    }
    seen
}

fuzz_target!(|input: &[u8]| {
    let (stream, pieces) = pieces::cut(input);
    let whole = read(BOUND, [stream]);
    for item in &whole {
        match item {
            // Each byte that is not valid UTF-8 becomes three bytes.
            SseItem::Event { event, .. } => assert!(event.data.len() <= 3 * BOUND),
            SseItem::TooLarge(bytes) => assert!(*bytes > BOUND as u64),
            SseItem::Comment(_) | SseItem::Retry(_) => {}
        }
    }
    assert_eq!(read(BOUND, pieces.iter().copied()), whole);

    let expected = as_the_standard_says(stream);
    let all: Vec<_> = read(usize::MAX, [stream]).into_iter().filter_map(seen).collect();
    assert_eq!(all, expected);

    let (mut inserter, mut out) = (CommentInserter::default(), Vec::new());
    for piece in pieces {
        out.extend(inserter.comment().unwrap_or_default());
        out.extend(inserter.pass(Bytes::copy_from_slice(piece)));
    }
    out.extend(inserter.finish());
    let kept_alive: Vec<_> = read(usize::MAX, [&*out]).into_iter().filter_map(seen).collect();
    assert_eq!(kept_alive, expected);
});
