//! Prints events, as text or as JSON lines, and the state of the streams.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use http::{Uri, Version};
use serde::Serialize;
use ssegate_sse::Event;
use tokio::time::Instant;

use super::follow::StreamUpdate;
use super::summary::SubscribeSummary;
use crate::cli::printable::{acts_on_terminal, printable};
use crate::cli::{CliError, output};

const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// When events have colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    /// In a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    #[default]
    Auto,
    /// Also in a pipe, such as to `less -R`.
    Always,
    /// Nowhere.
    Never,
}

/// Prints events on stdout, and connects and disconnects on stderr.
pub(super) struct Printer {
    json: bool,
    // Whether each event names its stream.
    several: bool,
    // Whether what is printed ends in a terminal, which an event must not send escape sequences to.
    escapes: bool,
    has_colors: bool,
}

impl Printer {
    /// `several`: there is more than one stream, so each event names its own.
    pub(super) fn new(json: bool, several: bool, color: ColorChoice) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::with(json, several, has_colors(color, is_terminal, no_color), is_terminal)
    }

    fn with(json: bool, several: bool, has_colors: bool, is_terminal: bool) -> Self {
        // Who wants colours in a pipe has a terminal behind it.
        Self { json, several, escapes: is_terminal || has_colors, has_colors }
    }

    /// Prints what there was, on stderr.
    pub(super) fn summary(&self, summary: &SubscribeSummary, now: Instant) {
        let line = match self.json {
            true => summary.json(now),
            false => summary.text(now).map(|text| format!("ssegate: {text}")),
        };
        if let Some(line) = line {
            output::to_stderr(line);
        }
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
            self.field(&mut text, "from", from, "");
        }
        if !id.is_empty() {
            self.field(&mut text, "id", id, DIM);
        }
        // What it says of missing events should not be overlooked.
        let is_gap = event.name.as_deref() == Some("gap");
        if let Some(name) = &event.name {
            self.field(&mut text, "event", name, if is_gap { YELLOW } else { CYAN });
        }
        for line in String::from_utf8_lossy(&event.data).split('\n') {
            self.field(&mut text, "data", line, if is_gap { YELLOW } else { "" });
        }
        text.push('\n');
        text
    }

    fn field(&self, text: &mut String, name: &str, value: &str, color: &str) {
        let value = if self.escapes { printable(value).into() } else { Cow::from(value) };
        text.push_str(&match (self.has_colors, color) {
            (true, "") => format!("{DIM}{name}:{PLAIN} {value}\n"),
            (true, color) => format!("{DIM}{name}:{PLAIN} {color}{value}{PLAIN}\n"),
            (false, _) => format!("{name}: {value}\n"),
        });
    }
}

fn has_colors(color: ColorChoice, is_terminal: bool, no_color: bool) -> bool {
    match color {
        ColorChoice::Auto => is_terminal && !no_color,
        ColorChoice::Always => true,
        ColorChoice::Never => false,
    }
}

/// The URL, unless the stream's name is the URL.
fn at(from: &str, url: &Uri) -> String {
    if url == from { String::new() } else { format!(" at {url}") }
}

fn note(from: &str, text: impl std::fmt::Display) {
    // A reason may be a comment of the server, and the URL one that it redirected to.
    output::to_stderr(printable(&format!("ssegate: {from}: {text}")));
}

fn name(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
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
    let line = JsonLine { from, event, id, data: &data };
    escaped_json(&serde_json::to_string(&line).expect("strings are JSON"))
}

/// Escapes in JSON what JSON allows as it is, but a terminal would act on: DEL, C1 and direction characters. They
/// occur only in strings.
fn escaped_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match acts_on_terminal(c) {
            // All of them are below U+10000, so that four digits are enough (RFC 8259, section 7).
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use ssegate_sse::Event;

    use super::{ColorChoice, Printer, has_colors, json};

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
    fn json_has_no_control_characters() {
        let wild = "\u{9b}2J\u{7f}\u{202e}\u{1b}[2J";
        let event = Event { data: wild.into(), ..Event::default() };
        let line = json(wild, &event, wild);
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!([&value["data"], &value["from"], &value["id"]], [wild; 3]);
    }

    #[test]
    fn text_on_a_pipe_is_a_valid_event_stream() {
        let pipe = Printer::with(false, true, false, false);
        assert_eq!(
            pipe.text("news", &event(), "7"),
            "from: news\nid: 7\nevent: ping\ndata: a\ndata: \u{1b}[2J\n\n"
        );
    }

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        // Nor what shows a pipe on one.
        for (has_colors, is_terminal) in [(false, true), (true, true), (true, false)] {
            let printer = Printer::with(false, false, has_colors, is_terminal);
            let wild = Event { name: Some("\u{1b}[1m".into()), ..event() };
            let text = printer.text("news", &wild, "\u{9b}1m");
            assert!(text.contains(r"\u{1b}[2J") && text.contains(r"\u{1b}[1m"), "{text}");
            for sequence in ["\u{1b}[2J", "\u{1b}[1m", "\u{9b}"] {
                assert!(!text.contains(sequence), "{text:?}");
            }
        }
    }

    #[test]
    fn colours_are_there_where_they_are_wanted() {
        use ColorChoice::{Always, Auto, Never};
        for (color, is_terminal, no_color, expected) in [
            (Auto, true, false, true),
            (Auto, true, true, false),
            (Auto, false, false, false),
            (Always, false, true, true),
            (Never, true, false, false),
        ] {
            assert_eq!(has_colors(color, is_terminal, no_color), expected, "{color:?}");
        }
        let text = Printer::with(false, false, true, true).text("news", &event(), "7");
        assert!(text.starts_with("\u{1b}[2mid:\u{1b}[0m \u{1b}[2m7\u{1b}[0m\n"), "{text:?}");
        let gap = Event { name: Some("gap".into()), data: "{}".into(), ..Event::default() };
        let text = Printer::with(false, false, true, true).text("news", &gap, "");
        assert!(text.contains("data:\u{1b}[0m \u{1b}[33m{}\u{1b}[0m\n"), "{text:?}");
    }
}
