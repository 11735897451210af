//! Completes a stream that a backend started, before the gateway appends its own frames.
//!
//! A line or an event left open would absorb what follows. Pure.

use super::line_state::LineState;
use super::parse::{Parser, SseItem};

/// Tracks what was written so far, without storing it.
#[derive(Debug)]
pub struct Tail {
    state: LineState,
    parser: Parser,
    has_retry: bool,
}

impl Default for Tail {
    fn default() -> Self {
        Self { state: LineState::default(), parser: Parser::new(0), has_retry: false }
    }
}

impl Tail {
    /// Tracks the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.state = self.state.after(bytes);
        let has_retry = &mut self.has_retry;
        self.parser.feed(bytes, |item| *has_retry |= matches!(item, SseItem::Retry(_)));
    }

    /// Returns the line endings that complete the open line, and the open event if there is one.
    /// Comments and `retry` lines do not open an event: after them, some clients would dispatch an
    /// empty line as an event.
    pub fn end(&mut self) -> &'static str {
        let line_end = self.state.line_end();
        self.push(line_end.as_bytes());
        match (line_end, self.parser.is_in_event()) {
            ("", false) => "",
            ("", true) | (_, false) => "\n",
            (_, true) => "\n\n",
        }
    }

    /// Whether any line was a `retry` field.
    pub fn has_retry(&self) -> bool {
        self.has_retry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Tail;
    use crate::parse::{Parser, SseItem};

    #[test]
    fn an_open_line_and_an_open_event_are_completed() {
        for (stream, end) in [
            ("", ""),
            ("\u{feff}", ""),
            ("data: x", "\n\n"),
            ("data: x\n", "\n"),
            ("data: x\r", "\n\n"),
            ("data: x\r\n", "\n"),
            ("data: x\n\n", ""),
            ("data: x\r\r", "\n"),
            ("data: x\r\n\r\n", ""),
            (": open", "\n"),
            (": open\n", ""),
            (": open\r", "\n"),
            (": open\n\n", ""),
            ("retry: 7\n", ""),
            ("unknown: 7\n", ""),
            ("event: x\n", "\n"),
            ("id: 7\n", "\n"),
            ("data: x\n\n: open\n", ""),
            ("data: x\n: in it\n", "\n"),
        ] {
            let mut tail = Tail::default();
            tail.push(stream.as_bytes());
            assert_eq!(tail.end(), end, "{stream:?}");
        }
    }

    #[test]
    fn a_retry_field_is_detected_when_its_line_is_complete() {
        for (stream, has_retry) in [
            ("retry: 7\n", true),
            ("retry: 7\n\ndata: x\n\n", true),
            ("retry: x\n", false),
            ("data: retry: 7\n", false),
            (": retry: 7\n", false),
        ] {
            let mut tail = Tail::default();
            tail.push(stream.as_bytes());
            assert_eq!(tail.has_retry(), has_retry, "{stream:?}");
        }
        let mut tail = Tail::default();
        tail.push(b"retry: 7");
        assert_eq!(tail.end(), "\n");
        assert!(tail.has_retry(), "end() completed the line");
    }

    proptest! {
        #[test]
        fn an_event_appended_after_the_end_is_intact(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "\n", "\r", "\r\n", "data: a", "data", "event: e", "id: 7", "retry: 7", ": c", "x",
                    "\u{feff}",
                ]),
                0..12,
            ),
        ) {
            let stream = words.concat();
            let mut tail = Tail::default();
            tail.push(stream.as_bytes());
            let whole = stream.clone() + tail.end() + ":\nretry: 3000\ndata: ours\nid: 1\n\n";
            let mut events = Vec::new();
            Parser::new(1 << 10).feed(whole.as_bytes(), |item| {
                if let SseItem::Event { event, .. } = item {
                    events.push(event);
                }
            });
            let ours = events.pop().expect("an event");
            prop_assert_eq!(ours.data, "ours");
            prop_assert_eq!((ours.name, ours.id.as_deref(), ours.retry), (None, Some("1"), Some(3000)));
        }
    }
}
