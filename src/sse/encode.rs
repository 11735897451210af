//! An event as the text of a stream.
//!
//! Total: any bytes at all become a frame that says the same, forges no field and ends once. The
//! grammar is WHATWG HTML 9.2.5 ("Parsing an event stream"). Who the frame is for is not known here.

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::frame::{Draft, Frame};
use super::tail::Tail;
use crate::event::Event;

/// What the fields beside the data take, as a rule: room for an id and a name.
const FIELDS_BYTES: usize = 48;

/// The comment that keeps a quiet stream alive.
///
/// A line alone: an empty line after it would end a block without data, of which some clients make
/// an event.
pub fn comment() -> Frame {
    Frame::of_text(b":\n")
}

/// What keeps a quiet stream alive where the backend gave a text of its own: the text, and the end
/// of the line and of the event that it leaves open.
pub fn keep_alive(text: &[u8]) -> Frame {
    let mut tail = Tail::default();
    // It stands behind other lines: a byte order mark at its head opens no stream.
    tail.push(b"\n");
    tail.push(text);
    Frame::of_text(&[text, tail.end().as_bytes()].concat())
}

/// The frame of `event`, with `id` as its `id` field.
///
/// The data is split at LF, CR and CRLF; invalid UTF-8 becomes U+FFFD; empty data is one empty
/// `data` line. Name and id have been checked where they were decoded, by [`is_field_value`].
///
/// `id` is the last field: a client that stores it as soon as it has read the line would resume
/// after an event whose data never arrived (@microsoft/fetch-event-source does).
pub fn frame(event: &Event, id: Option<&str>) -> Frame {
    debug_assert!(id.is_none_or(is_field_value));
    debug_assert!(event.name.as_deref().is_none_or(is_field_value));
    let text = String::from_utf8_lossy(&event.data);
    let mut draft = Draft::new(text.len() + FIELDS_BYTES);
    let out = draft.text();
    if let Some(name) = &event.name {
        field(out, "event", name);
    }
    if let Some(retry) = event.retry {
        writeln!(out, "retry: {retry}").expect("a buffer takes any text");
    }
    data(out, &text);
    if let Some(id) = id {
        field(out, "id", id);
    }
    out.put_u8(b'\n');
    draft.finish()
}

/// The same event with another `id`, in place of its own.
pub fn with_id(frame: &Frame, id: &str) -> Frame {
    debug_assert!(is_field_value(id));
    let fields = frame.text_before_id();
    let mut draft = Draft::new(fields.len() + id.len() + FIELDS_BYTES);
    let out = draft.text();
    out.put_slice(fields);
    field(out, "id", id);
    out.put_u8(b'\n');
    draft.finish()
}

/// What opens a stream: a comment, so that a first byte arrives at once, and how long a client
/// waits before it returns. Both are lines of the first block.
pub fn opening(retry: Duration) -> Frame {
    text(format_args!(":\nretry: {}\n", retry.as_millis()))
}

/// How long a client waits before it returns: the last line of a stream that the gateway ends, and
/// the only one of a stream that it cannot open now.
///
/// The field takes effect at its own line (WHATWG HTML 9.2.6), so no empty line follows, of which
/// some clients would make an event.
pub fn retry(wait: Duration) -> Frame {
    text(format_args!("retry: {}\n", wait.as_millis()))
}

/// Says why a stream is sent away: a comment of one line, before [`retry`].
pub fn reason(reason: &str) -> Frame {
    debug_assert!(!reason.contains(['\r', '\n']), "{reason}");
    text(format_args!(": {reason}\n"))
}

/// Tells a client that it is subscribed.
///
/// Without a `position` a comment line. With one, a block that sets the last event id and
/// dispatches nothing (WHATWG HTML 9.2.6): for a client that is known to read it so.
pub fn ready(position: Option<&str>) -> Frame {
    match position {
        Some(position) => text(format_args!("id: {position}\n: ready\n\n")),
        None => text(format_args!(": ready\n")),
    }
}

fn text(text: fmt::Arguments<'_>) -> Frame {
    let mut draft = Draft::new(FIELDS_BYTES);
    draft.text().write_fmt(text).expect("a buffer takes any text");
    draft.finish()
}

/// Whether `text` can stand in an `id` or `event` field: no control character, so that it cannot
/// end its line, and no NUL, with which an id would be ignored.
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
    out.reserve(line.len() + 8);
    out.put_slice(b"data: ");
    out.put_slice(line);
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::{comment, opening, ready, reason, retry};
    use crate::event::Event;
    use crate::sse::frame::{Form, Frame};

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
    fn an_id_takes_the_place_of_another() {
        let one = super::frame(&data(b"id: x"), Some("1-0"));
        assert_eq!(one.id(), Some("1-0"));
        assert_eq!(text(&super::with_id(&one, "1-0~2-5")), "data: id: x\nid: 1-0~2-5\n\n");
        for payload in [&b"x"[..], b"", b"id: 7", b"a\nid: 7\n", b"\n\nid: 7\n\n"] {
            let none = super::frame(&data(payload), None);
            assert_eq!(none.id(), None, "{payload:?}");
            let with_id = super::with_id(&none, "1-0");
            assert_eq!(with_id.id(), Some("1-0"), "{payload:?}");
            let expected = [&none.text()[..none.len() - 1], b"id: 1-0\n\n"].concat();
            assert_eq!(text(&with_id), expected, "{payload:?}");
        }
    }

    #[test]
    fn a_keep_alive_of_ones_own_leaves_no_line_and_no_event_open() {
        for (of_ones_own, expected) in [
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
            assert_eq!(text(&super::keep_alive(of_ones_own.as_bytes())), expected);
        }
    }

    #[test]
    fn what_is_no_event_is_lines_alone_but_for_a_position() {
        assert_eq!(text(&opening(Duration::from_secs(3))), ":\nretry: 3000\n");
        assert_eq!(text(&retry(Duration::from_millis(3456))), "retry: 3456\n");
        assert_eq!(text(&ready(Some("r-7"))), "id: r-7\n: ready\n\n");
        assert_eq!(text(&reason("no room")), ": no room\n");
        assert_eq!(text(&comment()), ":\n");
        assert_eq!(text(&ready(None)), ": ready\n");
    }
}
