//! Prints events, as text or as JSON lines, and the state of the streams.

use std::io::{self, IsTerminal};

use http::{Uri, Version};
use serde::Serialize;
use ssegate_sse::Event;

use super::follow::StreamUpdate;
use crate::cli::{CliError, output};

/// Prints events on stdout, and connects and disconnects on stderr.
pub(super) struct Printer {
    json: bool,
    // Whether each event names its stream.
    several: bool,
    is_terminal: bool,
    // <https://no-color.org>
    no_color: bool,
}

impl Printer {
    /// `several`: there is more than one stream, so each event names its own.
    pub(super) fn new(json: bool, several: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, several, is_terminal: io::stdout().is_terminal(), no_color }
    }

    /// Prints an event or a state change, and flushes.
    pub(super) fn print(&self, update: StreamUpdate) -> Result<(), CliError> {
        match update {
            StreamUpdate::Event { from, event, last_event_id } if self.json => {
                output::line(json(&from, &event, &last_event_id))?;
            }
            StreamUpdate::Event { from, event, last_event_id } => {
                output::bytes(self.text(&from, &event, &last_event_id).as_bytes())?;
            }
            StreamUpdate::Waiting { from, url } => {
                note(&from, format_args!("waiting for a response{}", at(&from, &url)));
            }
            StreamUpdate::Open { from, url, version } => {
                note(&from, format_args!("connected over {}{}", name(version), at(&from, &url)));
            }
            StreamUpdate::Lost { from, reason, retry, .. } => {
                note(&from, format_args!("{reason}; reconnecting in {retry:?}"));
            }
            StreamUpdate::TooLarge { from, bytes } => {
                note(&from, format_args!("skipped an event of {bytes} bytes: the limit is 64 MiB"));
            }
            // A stream that never opened is reported at the end.
            StreamUpdate::Stopped { .. } => {}
        }
        Ok(())
    }

    /// The event as it would stand in a stream, with the empty line at its end.
    fn text(&self, from: &str, event: &Event, id: &str) -> String {
        let mut text = String::new();
        if self.several {
            self.field(&mut text, "from", from);
        }
        if !id.is_empty() {
            self.field(&mut text, "id", id);
        }
        if let Some(name) = &event.name {
            self.field(&mut text, "event", name);
        }
        for line in String::from_utf8_lossy(&event.data).split('\n') {
            self.field(&mut text, "data", line);
        }
        text.push('\n');
        text
    }

    fn field(&self, text: &mut String, name: &str, value: &str) {
        // Control characters are escaped: an event must not send escape sequences to the terminal.
        text.push_str(&match (self.is_terminal, self.no_color) {
            (true, false) => format!("\x1b[2m{name}:\x1b[0m {}\n", escaped(value)),
            (true, true) => format!("{name}: {}\n", escaped(value)),
            (false, _) => format!("{name}: {value}\n"),
        });
    }
}

/// The URL, unless the stream's name is the URL.
fn at(from: &str, url: &Uri) -> String {
    if url == from { String::new() } else { format!(" at {url}") }
}

fn note(from: &str, text: impl std::fmt::Display) {
    output::to_stderr(format_args!("ssegate: {from}: {text}"));
}

fn name(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The event as one line of JSON. Newlines in the data are escaped.
fn json(from: &str, event: &Event, id: &str) -> String {
    #[derive(Serialize)]
    struct JsonLine<'a> {
        from: &'a str,
        event: &'a str,
        id: &'a str,
        data: &'a str,
    }
    let data = String::from_utf8_lossy(&event.data);
    let event = event.name.as_deref().unwrap_or("message");
    serde_json::to_string(&JsonLine { from, event, id, data: &data }).expect("strings are JSON")
}

#[cfg(test)]
mod tests {
    use ssegate_sse::Event;

    use super::{Printer, json};

    fn event() -> Event {
        Event { name: Some("ping".into()), data: "a\n\u{1b}[2J".into(), ..Event::default() }
    }

    #[test]
    fn json_is_one_line_with_the_fields_of_a_message_event() {
        assert_eq!(
            json("news", &event(), "7"),
            r#"{"from":"news","event":"ping","id":"7","data":"a\n\u001b[2J"}"#
        );
        let unnamed = Event { data: "x".into(), ..Event::default() };
        assert_eq!(json("n", &unnamed, ""), r#"{"from":"n","event":"message","id":"","data":"x"}"#);
    }

    #[test]
    fn text_on_a_pipe_is_a_valid_event_stream() {
        let pipe = Printer { json: false, several: true, is_terminal: false, no_color: false };
        assert_eq!(
            pipe.text("news", &event(), "7"),
            "from: news\nid: 7\nevent: ping\ndata: a\ndata: \u{1b}[2J\n\n"
        );
    }

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        let terminal = Printer { json: false, several: false, is_terminal: true, no_color: true };
        let text = terminal.text("news", &event(), "");
        assert!(text.contains(r"\u{1b}[2J"), "{text}");
        assert!(!text.contains("\u{1b}[2J"));
    }
}
