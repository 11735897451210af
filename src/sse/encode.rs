//! An event as the text of a stream.
//!
//! Total: any bytes at all become a frame that says the same, forges no field and ends once. The
//! grammar is WHATWG HTML 9.2.5 ("Parsing an event stream"). Who the frame is for is not known here.

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::frame::{Draft, Frame};
use super::place::Place;
use crate::event::Event;

/// What the fields beside the data take, as a rule: room for an id and a name.
const FIELDS_BYTES: usize = 48;

/// The comment that keeps a quiet stream alive: a comment line and the empty line after it.
pub fn empty_comment() -> Frame {
    Frame::of_text(b":\n\n")
}

/// What keeps a quiet stream alive where somebody wants a text of its own: as it is, and an end to
/// the line and the block that it leaves open.
pub fn keep_alive(text: &[u8]) -> Frame {
    let place = Place::Start.after(text);
    Frame::of_text(&[text, place.block_end().as_bytes()].concat())
}

/// The frame of `event`, with `id` as its `id` field.
///
/// The data is split at LF, CR and CRLF; invalid UTF-8 becomes U+FFFD; empty data is one empty
/// `data` line. Name and id have been checked where they were decoded, by [`is_field_value`].
pub fn frame(event: &Event, id: Option<&str>) -> Frame {
    debug_assert!(id.is_none_or(is_field_value));
    debug_assert!(event.name.as_deref().is_none_or(is_field_value));
    let text = String::from_utf8_lossy(&event.data);
    let mut draft = Draft::new(text.len() + FIELDS_BYTES);
    let out = draft.text();
    if let Some(id) = id {
        field(out, "id", id);
    }
    if let Some(name) = &event.name {
        field(out, "event", name);
    }
    if let Some(retry) = event.retry {
        writeln!(out, "retry: {retry}").expect("a buffer takes any text");
    }
    data(out, &text);
    out.put_u8(b'\n');
    draft.finish()
}

/// The same frame with another `id`, in place of the one that it begins with.
pub fn with_id(frame: &Frame, id: &str) -> Frame {
    debug_assert!(is_field_value(id));
    let text = frame.text();
    let rest = match (frame.id(), memchr::memchr(b'\n', text)) {
        (Some(_), Some(end)) => &text[end + 1..],
        _ => text,
    };
    let mut draft = Draft::new(text.len() + id.len() + FIELDS_BYTES);
    field(draft.text(), "id", id);
    draft.text().put_slice(rest);
    draft.finish()
}

/// The block that tells a client how long to wait before it returns.
pub fn retry(wait: Duration) -> Frame {
    block(format_args!("retry: {}\n\n", wait.as_millis()))
}

/// The block that tells a client that it is subscribed, and up to where it has been served.
///
/// It has no data, so it sets the last event id and dispatches nothing (WHATWG HTML 9.2.6).
pub fn ready(position: Option<&str>) -> Frame {
    match position {
        Some(position) => block(format_args!("id: {position}\n: ready\n\n")),
        None => block(format_args!(": ready\n\n")),
    }
}

/// The last block of a stream that the gateway ends: how long to wait before coming back, and up to
/// where the client has been served.
pub fn farewell(wait: Duration, position: Option<&str>) -> Frame {
    let wait = wait.as_millis();
    match position {
        Some(position) => block(format_args!("id: {position}\nretry: {wait}\n\n")),
        None => block(format_args!("retry: {wait}\n\n")),
    }
}

fn block(text: fmt::Arguments<'_>) -> Frame {
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

    use super::{empty_comment, ready, retry};
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
    fn fields_come_before_the_data() {
        let event = Event {
            name: Some("tick".into()),
            data: Bytes::from_static(b"x"),
            retry: Some(700),
            ..Event::default()
        };
        assert_eq!(frame(&event, Some("r-1")), "id: r-1\nevent: tick\nretry: 700\ndata: x\n\n");
    }

    #[test]
    fn an_id_takes_the_place_of_another() {
        let one = super::frame(&data(b"id: x"), Some("1-0"));
        assert_eq!(one.id(), Some("1-0"));
        assert_eq!(text(&super::with_id(&one, "1-0~2-5")), "id: 1-0~2-5\ndata: id: x\n\n");
        let none = super::frame(&data(b"x"), None);
        assert_eq!(none.id(), None);
        assert_eq!(text(&super::with_id(&none, "1-0")), "id: 1-0\ndata: x\n\n");
    }

    #[test]
    fn a_keep_alive_of_ones_own_leaves_nothing_open() {
        for (of_ones_own, expected) in [
            (":", ":\n\n"),
            (":\n", ":\n\n"),
            (":\r", ":\r\n\n"),
            ("\n", "\n"),
            (": a\n\n", ": a\n\n"),
            ("event: ping\ndata:", "event: ping\ndata:\n\n"),
        ] {
            assert_eq!(text(&super::keep_alive(of_ones_own.as_bytes())), expected);
        }
    }

    #[test]
    fn blocks_without_data_dispatch_nothing() {
        assert_eq!(text(&retry(Duration::from_secs(3))), "retry: 3000\n\n");
        assert_eq!(text(&ready(Some("r-7"))), "id: r-7\n: ready\n\n");
        assert_eq!(text(&empty_comment()), ":\n\n");
        assert_eq!(text(&ready(None)), ": ready\n\n");
    }
}
