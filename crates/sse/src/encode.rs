//! Encodes events as event stream text.
//!
//! Encoding never fails: any bytes become a frame that carries the same data, cannot inject a field
//! and ends exactly once. The grammar is WHATWG HTML §9.2.5 "Parsing an event stream". Does not
//! know who receives a frame.

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::Event;
use super::frame::{Frame, FrameDraft};
use super::tail::Tail;

/// Typical size of what the gateway says by itself, in bytes: space for an id.
const TEXT_BYTES: usize = 80;

/// The keep-alive of an idle stream: a comment.
///
/// A single line: an empty line after it would end a block without data, which some clients
/// dispatch as an event.
pub fn comment() -> Frame {
    Frame::of_text(b":\n")
}

/// The keep-alive of an idle stream with a text that the backend chose, followed by the line
/// endings that complete the line and the event that the text leaves open.
pub fn keep_alive(text: &[u8]) -> Frame {
    let mut tail = Tail::default();
    // Other lines precede it, so a leading byte order mark does not start the stream.
    tail.push(b"\n");
    tail.push(text);
    Frame::of_text(&[text, tail.end().as_bytes()].concat())
}

/// Encodes `event`, with `id` as its `id` field.
///
/// The data is split at LF, CR and CRLF; invalid UTF-8 becomes U+FFFD; empty data becomes one empty
/// `data` line. The name has no line break, and the id was validated with [`is_field_value`].
///
/// `id` is the last field: a client that stores it as soon as it has read the line
/// (@microsoft/fetch-event-source does) would otherwise resume after an event whose data never
/// arrived.
pub fn frame(event: &Event, id: Option<&str>) -> Frame {
    debug_assert!(id.is_none_or(is_field_value));
    debug_assert!(event.name.as_deref().is_none_or(|name| !name.contains(['\r', '\n'])));
    let text = String::from_utf8_lossy(&event.data);
    // A buffer that has to grow is twice as large, for as long as a history keeps the event.
    let name = event.name.as_deref().map_or(0, |name| "event: \n".len() + name.len());
    let retry = event.retry.map_or(0, |_| "retry: 18446744073709551615\n".len());
    let id_field = id.map_or(0, |id| "id: \n".len() + id.len());
    let fields = name + retry + "data: \n\n".len() + id_field;
    let mut draft = FrameDraft::new(text.len() + fields);
    let out = draft.text();
    if let Some(name) = &event.name {
        field(out, "event", name);
    }
    if let Some(retry) = event.retry {
        writeln!(out, "retry: {retry}").expect("writing to a buffer cannot fail");
    }
    data(out, &text);
    if let Some(id) = id {
        field(out, "id", id);
    }
    out.put_u8(b'\n');
    draft.finish()
}

/// Returns the frame with `id` in place of its own id.
pub fn with_id(frame: &Frame, id: &str) -> Frame {
    debug_assert!(is_field_value(id));
    let fields = frame.text_before_id();
    let mut draft = FrameDraft::new(fields.len() + "id: \n\n".len() + id.len());
    let out = draft.text();
    out.put_slice(fields);
    field(out, "id", id);
    out.put_u8(b'\n');
    draft.finish()
}

/// The start of a stream: a comment, so that the first byte is sent at once, and the reconnection
/// time. Both lines belong to the first block.
pub fn opening(retry: Duration) -> Frame {
    text(format_args!(":\nretry: {}\n", retry.as_millis()))
}

/// The reconnection time: the last line of a stream that the gateway ends, and the only line of a
/// stream that it cannot serve now.
///
/// The field takes effect when its line is read (WHATWG HTML §9.2.6), so no empty line follows,
/// which some clients would dispatch as an event.
pub fn retry(wait: Duration) -> Frame {
    text(format_args!("retry: {}\n", wait.as_millis()))
}

/// The reason why the gateway ends a stream: a one-line comment before [`retry`].
pub fn reason(reason: &str) -> Frame {
    debug_assert!(!reason.contains(['\r', '\n']), "{reason}");
    text(format_args!(": {reason}\n"))
}

/// Confirms to a client that it is subscribed.
///
/// Without a `position`, a comment line. With one, a block that sets the last event ID and
/// dispatches nothing (WHATWG HTML §9.2.6), for a client that is known to support such a block.
pub fn ready(position: Option<&str>) -> Frame {
    match position {
        Some(position) => text(format_args!("id: {position}\n: ready\n\n")),
        None => text(format_args!(": ready\n")),
    }
}

/// The position of a stream, for a client that supports such a block: it sets the last event ID and
/// dispatches nothing, as [`ready`].
pub fn position(position: &str) -> Frame {
    text(format_args!("id: {position}\n: position\n\n"))
}

fn text(text: fmt::Arguments<'_>) -> Frame {
    let mut draft = FrameDraft::new(TEXT_BYTES);
    draft.text().write_fmt(text).expect("writing to a buffer cannot fail");
    draft.finish()
}

/// Whether `text` is valid in an `id` or `event` field: without control characters it cannot end
/// its line, and has no NUL, with which clients ignore an id.
pub fn is_field_value(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn field(out: &mut BytesMut, name: &str, value: &str) {
    out.reserve(name.len() + value.len() + 3);
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_u8(b'\n');
}

fn data(out: &mut BytesMut, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
        line(out, &rest[..end]);
        let is_crlf = rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n');
        rest = &rest[end + 1 + usize::from(is_crlf)..];
    }
    line(out, rest);
}

fn line(out: &mut BytesMut, line: &[u8]) {
    out.reserve(line.len() + "data: \n".len());
    out.put_slice(b"data: ");
    out.put_slice(line);
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::Event;
    use super::{comment, opening, ready, reason, retry};
    use crate::frame::{Form, Frame};

    fn text(frame: &Frame) -> Bytes {
        frame.bytes(Form::Text)
    }

    fn frame(event: &Event, id: Option<&str>) -> Bytes {
        text(&super::frame(event, id))
    }

    fn data(data: &'static [u8]) -> Event {
        Event { data: Bytes::from_static(data), ..Event::default() }
    }

    #[test]
    fn a_name_is_as_the_parser_has_read_it() {
        let event = Event { name: Some("a\tb\0".into()), ..data(b"x") };
        assert_eq!(frame(&event, None), "event: a\tb\0\ndata: x\n\n");
    }

    #[test]
    fn data_is_split_at_every_kind_of_line_end() {
        for (payload, expected) in [
            (&b"hello"[..], "data: hello\n\n"),
            (b"", "data: \n\n"),
            (b"a\nb", "data: a\ndata: b\n\n"),
            (b"a\rb", "data: a\ndata: b\n\n"),
            (b"a\r\nb", "data: a\ndata: b\n\n"),
            (b"a\n\rb", "data: a\ndata: \ndata: b\n\n"),
            (b"a\n", "data: a\ndata: \n\n"),
            (b"\r\n", "data: \ndata: \n\n"),
            (b" lead", "data:  lead\n\n"),
            (
                b"id: 1\nevent: x\n\ndata: y",
                "data: id: 1\ndata: event: x\ndata: \ndata: data: y\n\n",
            ),
            (b"a\xffb", "data: a\u{fffd}b\n\n"),
            (b"\xef\xbb\xbfbom\0nul", "data: \u{feff}bom\0nul\n\n"),
        ] {
            assert_eq!(frame(&data(payload), None), expected, "{payload:?}");
        }
    }

    #[test]
    fn the_id_is_the_last_field() {
        let event = Event {
            name: Some("tick".into()),
            data: Bytes::from_static(b"x\ny"),
            retry: Some(700),
            ..Event::default()
        };
        let expected = "event: tick\nretry: 700\ndata: x\ndata: y\nid: r-1\n\n";
        assert_eq!(frame(&event, Some("r-1")), expected);
    }

    #[test]
    fn with_id_replaces_the_id() {
        let one = super::frame(&data(b"id: x"), Some("1-0"));
        assert_eq!(one.id(), Some("1-0"));
        assert_eq!(text(&super::with_id(&one, "1-0~2-5")), "data: id: x\nid: 1-0~2-5\n\n");
        for payload in [&b"x"[..], b"", b"id: 7", b"a\nid: 7\n", b"\n\nid: 7\n\n"] {
            let without_id = super::frame(&data(payload), None);
            assert_eq!(without_id.id(), None, "{payload:?}");
            let with_id = super::with_id(&without_id, "1-0");
            assert_eq!(with_id.id(), Some("1-0"), "{payload:?}");
            let expected = [&without_id.text()[..without_id.len() - 1], b"id: 1-0\n\n"].concat();
            assert_eq!(text(&with_id), expected, "{payload:?}");
        }
    }

    #[test]
    fn a_custom_keep_alive_leaves_no_line_and_no_event_open() {
        for (keep_alive, expected) in [
            (":", ":\n"),
            (":\n", ":\n"),
            (":\r", ":\r\n"),
            ("\n", "\n"),
            (": a\n\n", ": a\n\n"),
            ("retry: 7", "retry: 7\n"),
            ("\u{feff}", "\u{feff}\n"),
            ("event: ping\ndata:", "event: ping\ndata:\n\n"),
            ("event: ping\r\ndata:\r", "event: ping\r\ndata:\r\n\n"),
        ] {
            assert_eq!(text(&super::keep_alive(keep_alive.as_bytes())), expected);
        }
    }

    #[test]
    fn a_frame_without_an_event_has_no_empty_line_unless_it_sets_a_position() {
        assert_eq!(text(&opening(Duration::from_secs(3))), ":\nretry: 3000\n");
        assert_eq!(text(&retry(Duration::from_millis(3456))), "retry: 3456\n");
        assert_eq!(text(&ready(Some("r-7"))), "id: r-7\n: ready\n\n");
        assert_eq!(text(&reason("no room")), ": no room\n");
        assert_eq!(text(&comment()), ":\n");
        assert_eq!(text(&ready(None)), ": ready\n");
    }
}
