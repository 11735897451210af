//! A line as one JSON object. Its keys, in their order, are listed in docs/ACCESS_LOG.md.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::{Asked, LineSubject, Outcome, RenderedRequest, most, protocol};
use crate::log::escape::{self, put};

/// The keys of the request.
pub(super) fn request(asked: &Asked<'_>) -> RenderedRequest {
    let mut text = String::with_capacity(256 + asked.target.len());
    put(&mut text, format_args!("\"client\":\"{}\"", asked.client));
    for (key, value, most) in [
        ("id", asked.identity.unwrap_or_default().as_bytes(), most::OTHER),
        ("method", asked.method.as_bytes(), most::METHOD),
        ("host", asked.host, most::OTHER),
        ("path", asked.target.as_bytes(), most::TARGET),
        ("protocol", protocol(asked.version).as_bytes(), most::OTHER),
        ("route", asked.route.as_bytes(), most::ROUTE),
        ("referer", asked.referer, most::OTHER),
        ("user_agent", asked.user_agent, most::OTHER),
        ("traceparent", asked.traceparent.unwrap_or_default().as_bytes(), most::OTHER),
    ] {
        if !value.is_empty() {
            put(&mut text, format_args!(",\"{key}\":\""));
            escape::json(&mut text, value, most);
            text.push('"');
        }
    }
    RenderedRequest { text: text.into(), parts: [0; 2] }
}

/// The whole line.
pub(super) fn line(
    request: &RenderedRequest,
    subject: LineSubject,
    outcome: &Outcome<'_>,
    now: SystemTime,
) -> String {
    let mut line = String::with_capacity(request.text.len() + 256);
    let now = OffsetDateTime::from(now);
    put(
        &mut line,
        format_args!(
            "{{\"time\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z\",\"event\":\"{}\",{}",
            now.year(),
            u8::from(now.month()),
            now.day(),
            now.hour(),
            now.minute(),
            now.second(),
            now.microsecond(),
            subject.as_str(),
            request.text
        ),
    );
    put(&mut line, format_args!(",\"status\":{}", outcome.status));
    let bytes = Some(outcome.bytes).filter(|_| subject != LineSubject::StreamOpened);
    let channels = outcome.channels.map(|channels| channels as u64);
    let counts = [
        ("channels", channels),
        ("events", outcome.events),
        ("bytes", bytes),
        ("bytes_received", outcome.bytes_received),
    ];
    for (key, count) in counts {
        if let Some(count) = count {
            put(&mut line, format_args!(",\"{key}\":{count}"));
        }
    }
    for (key, duration) in [("duration_ms", outcome.duration), ("upstream_ms", outcome.upstream)] {
        if let Some(duration) = duration {
            put(&mut line, format_args!(",\"{key}\":{}", Milliseconds(duration)));
        }
    }
    // These values are words of the gateway, so they need no escaping.
    for (key, word) in
        [("error", outcome.error), ("reason", outcome.reason), ("resumed", outcome.resumed)]
    {
        if let Some(word) = word {
            put(&mut line, format_args!(",\"{key}\":\"{word}\""));
        }
    }
    line.push_str("}\n");
    line
}

/// A duration in milliseconds, to the microsecond.
struct Milliseconds(Duration);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}
