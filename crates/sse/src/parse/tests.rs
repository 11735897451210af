//! The cases of the web platform tests (`eventsource/format-*`), and properties that no table can
//! list.

use std::time::Duration;

use proptest::prelude::*;

use super::{Parser, SseItem};

const MAX: usize = 1 << 16;

fn items_of<'a>(mut parser: Parser, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<SseItem> {
    let mut items = Vec::new();
    for chunk in chunks {
        parser.feed(chunk, |item| items.push(item));
    }
    items
}

fn read(stream: impl AsRef<[u8]>) -> Vec<SseItem> {
    items_of(Parser::new(MAX), [stream.as_ref()])
}

/// Name, data and `lastEventId` of each event, as a page would see them.
fn events(items: &[SseItem]) -> Vec<(String, String, String)> {
    let event = |item: &SseItem| match item {
        SseItem::Event { event, last_event_id } => Some((
            event.name.as_deref().unwrap_or("message").to_owned(),
            String::from_utf8(event.data.to_vec()).expect("data is UTF-8"),
            last_event_id.to_string(),
        )),
        _ => None,
    };
    items.iter().filter_map(event).collect()
}

fn data(stream: impl AsRef<[u8]>) -> Vec<String> {
    events(&read(stream)).into_iter().map(|(_, data, _)| data).collect()
}

fn ids(stream: impl AsRef<[u8]>) -> Vec<(String, String)> {
    events(&read(stream)).into_iter().map(|(_, data, id)| (data, id)).collect()
}

/// As long as the comments in format-comments.
fn long() -> String {
    "x".repeat(2 * 1024)
}

#[test]
fn data_is_what_a_browser_dispatches() {
    let comments =
        format!("data:1\r:\0\n:\r\ndata:2\n:{0}\rdata:3\n:data:fail\r:{0}\ndata:4\n\n", long());
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "event-data",
            "data:msg\ndata: msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
            &["msg\nmsg", "", "end"],
        ),
        ("format-bom", "\u{feff}data:1\n\n\u{feff}data:2\n\ndata:3\n\n", &["1", "3"]),
        ("format-bom-2", "\u{feff}\u{feff}data:1\n\ndata:2\n\ndata:3\n\n", &["2", "3"]),
        ("a byte order mark inside data is kept", "data:\u{feff}1\n\n", &["\u{feff}1"]),
        ("format-comments", &comments, &["1\n2\n3\n4"]),
        ("format-data-before-final-empty-line", "retry:1000\ndata:1\n\nid:t\ndata:2", &["1"]),
        ("one line end is not an empty line", "data:1\n\ndata:2\r\n", &["1"]),
        ("format-field-data", "data:\n\ndata\ndata\n\ndata:test\n\n", &["", "\n", "test"]),
        (
            "format-field-parsing",
            "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
            &["\0\n 2\n1\n3\n\n4"],
        ),
        (
            "format-field-unknown",
            "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
            &["test\n\ntest"],
        ),
        ("format-leading-space", "data:\ttest\rdata: \ndata:test\n\n", &["\ttest\n\ntest"]),
        ("format-newlines", "data:test\r\ndata\ndata:test\r\n\r", &["test\n\ntest"]),
        ("a lone CR is an empty line", "data:1\r\rdata:2\r\r", &["1", "2"]),
        ("CR LF CR LF is one empty line", "data:1\r\n\r\ndata:2\r\n\r\n", &["1", "2"]),
        ("LF CR is two line ends", "data:1\n\rdata:2\n\r", &["1", "2"]),
        ("format-null-character", "data:\0\n\n\n\n", &["\0"]),
        ("format-utf-8", "data:ok…\n\n", &["ok…"]),
        ("a colon belongs to the value", "data:a:b\ndata: : c\n\n", &["a:b\n: c"]),
        ("a name is not trimmed", "data :1\n data:2\ndata:3\n\n", &["3"]),
        (
            "only LF, CR and CR LF end a line",
            "data:a\u{b}\u{c}\u{85}\u{2028}b\n\n",
            &["a\u{b}\u{c}\u{85}\u{2028}b"],
        ),
        ("no event without data", "\n\r\n\r\r\n: x\n\n", &[]),
    ];
    for (name, stream, expected) in cases {
        assert_eq!(data(stream), *expected, "{name}");
    }
}

#[test]
fn the_last_event_field_is_the_type_unless_it_is_empty() {
    let name = |stream| events(&read(stream)).remove(0).0;
    assert_eq!(name("event:test\ndata:x\n\n"), "test");
    assert_eq!(name("event: \ndata:x\n\n"), "message");
    assert_eq!(name("event:a\nevent:b\ndata:x\n\n"), "b");
    assert_eq!(name("event:a\nevent\ndata:x\n\n"), "message");
    assert_eq!(name("event:a\n\ndata:x\n\n"), "message", "a type without data is discarded");
}

#[test]
fn an_id_persists_until_another_is_set() {
    let pair = |data: &str, id: &str| (data.to_owned(), id.to_owned());
    assert_eq!(
        ids("id: 1\ndata: 1\n\ndata: 2\n\nid: 2\ndata: 3\n\ndata: 4\n\n"),
        [pair("1", "1"), pair("2", "1"), pair("3", "2"), pair("4", "2")],
        "format-field-id-3, persists"
    );
    for reset in ["id:", "id", "id: "] {
        assert_eq!(
            ids(format!("id: 1\ndata: 1\n\n{reset}\ndata: 2\n\ndata: 3\n\n")),
            [pair("1", "1"), pair("2", ""), pair("3", "")],
            "format-field-id-3, resets: {reset}"
        );
    }
    for null in ["\0\0", "x\0", "\0x", "x\0x", " \0"] {
        assert_eq!(
            ids(format!("id: 1\ndata:1\n\nid:{null}\ndata:2\n\n")),
            [pair("1", "1"), pair("2", "1")],
            "format-field-id-null"
        );
    }
    assert_eq!(ids("id: …\ndata:x\n\n"), [pair("x", "…")], "format-field-id-2");
}

#[test]
fn an_id_takes_effect_at_the_end_of_its_block_even_without_data() {
    let mut parser = Parser::new(MAX);
    let mut items = Vec::new();
    parser.feed(b"data:1\n\nid:test\ndata:2", |item| items.push(item));
    assert_eq!(parser.last_event_id(), "", "format-data-before-final-empty-line");
    parser.feed(b"\n\nid: position\n", |item| items.push(item));
    assert_eq!(parser.last_event_id(), "test");
    parser.feed(b"\n", |item| items.push(item));
    assert_eq!(parser.last_event_id(), "position");
    assert_eq!(events(&items).len(), 2);
}

#[test]
fn a_resumed_stream_starts_with_the_id_it_resumed_after() {
    let items = items_of(Parser::resuming("9", MAX), [&b"data:x\n\nid:10\ndata:y\n\n"[..]]);
    let ids: Vec<_> = events(&items).into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(ids, ["9", "10"]);
    let own: Vec<_> = items
        .iter()
        .map(|item| match item {
            SseItem::Event { event, .. } => event.id.as_deref(),
            _ => None,
        })
        .collect();
    assert_eq!(own, [None, Some("10")], "an event has only the id of its own block");
}

#[test]
fn a_retry_consists_of_digits() {
    let retries = |stream: &str| -> Vec<u64> {
        let millis = |item: &SseItem| match item {
            SseItem::Retry(time) => Some(u64::try_from(time.as_millis()).expect("from u64")),
            _ => None,
        };
        read(stream).iter().filter_map(millis).collect()
    };
    assert_eq!(retries("retry:03000\ndata:x\n\n"), [3000], "format-field-retry");
    assert_eq!(retries("retry:3000\nretry:1000x\ndata:x\n\n"), [3000], "format-field-retry-bogus");
    assert_eq!(retries("retry\ndata:test\n\n"), [0; 0], "format-field-retry-empty");
    assert_eq!(retries("retry: 7\n"), [7], "it takes effect before its block ends");
    for bogus in ["retry:", "retry:-1", "retry:+1", "retry:1.5", "retry:  1", "retry:١", "retry:1 "]
    {
        assert_eq!(retries(&format!("{bogus}\n\n")), [0; 0], "{bogus}");
    }
    assert_eq!(retries("retry:99999999999999999999999\n"), [u64::MAX], "saturated");
}

#[test]
fn comments_and_retries_are_emitted_in_order() {
    assert_eq!(
        read(": ready\nretry:5\n:\n::  x \n"),
        [
            SseItem::Comment("ready".into()),
            SseItem::Retry(Duration::from_millis(5)),
            SseItem::Comment(String::new()),
            SseItem::Comment(":  x ".into()),
        ]
    );
}

#[test]
fn invalid_utf8_is_replaced_as_in_the_encoding_standard() {
    let cases: [(&[u8], &str); 5] = [
        (b"data:\xff\n\n", "\u{fffd}"),
        (b"data:a\xe2\x80\n\n", "a\u{fffd}"), // cut by the line end
        (b"data:\xe2\x80data:\xf0\x9f\n\n", "\u{fffd}data:\u{fffd}"),
        (b"data:\xc0\xaf\n\n", "\u{fffd}\u{fffd}"), // overlong
        (b"data:\xed\xa0\x80\n\n", "\u{fffd}\u{fffd}\u{fffd}"), // a surrogate
    ];
    for (stream, expected) in cases {
        assert_eq!(data(stream), [expected], "{stream:?}");
    }
}

#[test]
fn a_split_byte_order_mark_or_character_is_decoded() {
    let stream = "\u{feff}data:ä€😀\r\n\r\n".as_bytes();
    let bytes = stream.chunks(1);
    assert_eq!(events(&items_of(Parser::new(MAX), bytes)).remove(0).1, "ä€😀");
}

#[test]
fn an_event_over_the_limit_is_reported_and_the_next_is_parsed() {
    let read = |stream: String| items_of(Parser::new(10), stream.as_bytes().chunks(3));
    let next = "data:next\n\n";
    let fits = read(format!("data:{}\n\n{next}", "x".repeat(10)));
    assert_eq!(events(&fits).len(), 2, "exactly the limit");
    for (stream, size) in [
        (format!("data: {}\n\n{next}", "x".repeat(11)), 11),
        (format!("data:{}\n\n{next}", "x".repeat(1_000_000)), 1_000_000),
        (format!("data:{}\n\n{next}", "x\ndata:".repeat(8)), 16),
        (format!("{}\n{next}", "data\n".repeat(12)), 11),
        (format!("event:0123456789\ndata:x\n\n{next}"), 11),
        (format!("data:0\nid:{}\n\n{next}", "9".repeat(99)), 100),
    ] {
        let items = read(stream.clone());
        assert_eq!(items[0], SseItem::TooLarge(size), "{}", stream.escape_debug());
        assert_eq!(events(&items[1..]).remove(0).1, "next");
    }
}

#[test]
fn the_id_of_a_skipped_event_takes_effect() {
    let mut parser = Parser::new(10);
    let mut items = Vec::new();
    parser.feed(b"data:0123456789abcdef\nid:7\n\n", |item| items.push(item));
    assert_eq!(items, [SseItem::TooLarge(17)]);
    assert_eq!(parser.last_event_id(), "7");
}

#[test]
fn an_endless_line_is_not_buffered() {
    let mut parser = Parser::new(1000);
    for beginning in ["data:", ":", "unknown", "retry:", "id:"] {
        parser.feed(beginning.as_bytes(), |item| panic!("{item:?}"));
        for _ in 0..1000 {
            parser.feed(&[b'1'; 1000], |item| panic!("{item:?}"));
        }
        assert!(parser.line.kept.capacity() < 5000, "{}", parser.line.kept.capacity());
        parser.feed(b"\n", |_| {});
    }
}

/// Streams of tokens with a meaning, which random bytes would rarely form.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "data",
            "data:",
            "data: ",
            "event:",
            "id:",
            "id",
            "retry:",
            "12",
            ":",
            " ",
            "\n",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "\r\n\r\n",
            "\0",
            "\u{feff}",
            "ä€😀",
            "x",
            "unknown:",
        ])
        .prop_map(|token| token.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

/// Parses a complete stream as the standard describes it, without regard to time or memory.
fn read_slowly(stream: &[u8]) -> Vec<(String, String, String)> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines: Vec<_> = text.split('\n').collect();
    lines.pop(); // not ended
    let (mut data, mut name, mut id) = (String::new(), String::new(), String::new());
    let mut events = Vec::new();
    for line in lines {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                if let Some(data) = data.strip_suffix('\n') {
                    let name = if name.is_empty() { "message" } else { &name };
                    events.push((name.to_owned(), data.to_owned(), id.clone()));
                }
                data.clear();
                name.clear();
            }
            "data" => data = data + value + "\n",
            "event" => name = value.to_owned(),
            "id" if !value.contains('\0') => id = value.to_owned(),
            _ => {}
        }
    }
    events
}

proptest! {
    #[test]
    fn a_stream_parses_the_same_however_it_is_split(
        stream in stream(),
        cuts in prop::collection::vec(0..600_usize, 0..20),
        max in prop_oneof![Just(MAX), 0..40_usize],
    ) {
        let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= stream.len()).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
        let whole = items_of(Parser::new(max), [stream.as_slice()]);
        prop_assert_eq!(&items_of(Parser::new(max), chunks), &whole);
        prop_assert_eq!(items_of(Parser::new(max), stream.chunks(1)), whole);
    }

    #[test]
    fn it_agrees_with_the_algorithm_of_the_standard(stream in stream()) {
        prop_assert_eq!(events(&read(&stream)), read_slowly(&stream));
    }
}
