//! The totals in one line: events, bytes, gaps, reconnects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ssegate_sse::Event;
use tokio::time::Instant;

use super::follow::StreamUpdate;
use crate::cli::count::count;
use crate::cli::printable::printable;

/// The most reasons of gaps that are told apart. ssegate has nine; a server may send anything.
const MAX_REASONS: usize = 20;

/// The reasons beyond that, together.
const OTHER: &str = "other";

/// What was received over all streams.
#[derive(Debug, Default)]
pub(super) struct SubscribeSummary {
    // When the first stream opened.
    opened: Option<Instant>,
    // The streams that have opened.
    streams: BTreeSet<Arc<str>>,
    reconnects: u64,
    events: u64,
    bytes: u64,
    skipped: u64,
    gaps: BTreeMap<String, u64>,
}

/// The data of a `gap` event, as the gateway sends it.
#[derive(Deserialize)]
struct GapData {
    reason: String,
}

/// The summary as JSON.
#[derive(Serialize)]
struct SummaryLine<'a> {
    events: u64,
    bytes: u64,
    gaps: &'a BTreeMap<String, u64>,
    reconnects: u64,
    skipped: u64,
    seconds: f64,
    events_per_second: f64,
}

impl SubscribeSummary {
    /// Records an update.
    pub(super) fn note(&mut self, update: &StreamUpdate, now: Instant) {
        match update {
            StreamUpdate::Open { from, .. } => {
                self.opened.get_or_insert(now);
                if !self.streams.insert(Arc::clone(from)) {
                    self.reconnects += 1;
                }
            }
            StreamUpdate::Event { event, .. } => match gap_reason(event) {
                Some(reason) => {
                    let is_known = self.gaps.len() < MAX_REASONS || self.gaps.contains_key(&reason);
                    let reason = if is_known { reason } else { OTHER.to_owned() };
                    *self.gaps.entry(reason).or_default() += 1;
                }
                None => {
                    self.events += 1;
                    self.bytes += event.data.len() as u64;
                }
            },
            StreamUpdate::TooLarge { .. } => self.skipped += 1,
            StreamUpdate::Waiting { .. }
            | StreamUpdate::Lost { .. }
            | StreamUpdate::Stopped { .. } => {}
        }
    }

    /// The summary for people; `None` if no stream has opened.
    pub(super) fn text(&self, now: Instant) -> Option<String> {
        let time = now.duration_since(self.opened?);
        let mut text = format!(
            "{}, {} in {:.1} s ({:.1} a second); {}; ",
            counted(self.events, "event"),
            counted(self.bytes, "byte"),
            time.as_secs_f64(),
            rate(self.events, time),
            counted(self.reconnects, "reconnect"),
        );
        if self.gaps.is_empty() {
            text.push_str("no gap");
        } else {
            let total = counted(self.gaps.values().sum(), "gap");
            let each = self.gaps.iter().map(|(reason, number)| format!("{number} {reason}"));
            text.push_str(&format!("{total}: {}", each.collect::<Vec<_>>().join(", ")));
        }
        if self.skipped > 0 {
            text.push_str(&format!("; {} skipped as too large", counted(self.skipped, "event")));
        }
        Some(text)
    }

    /// The same as one line of JSON.
    pub(super) fn json(&self, now: Instant) -> Option<String> {
        let time = now.duration_since(self.opened?);
        let line = SummaryLine {
            events: self.events,
            bytes: self.bytes,
            gaps: &self.gaps,
            reconnects: self.reconnects,
            skipped: self.skipped,
            seconds: rounded(time.as_secs_f64()),
            events_per_second: rounded(rate(self.events, time)),
        };
        let line = serde_json::to_string(&line).expect("numbers and strings are JSON");
        Some(format!("{{\"summary\":{line}}}"))
    }
}

/// The reason, if this is the gateway's `gap` event. A publisher may have events of that name, too.
fn gap_reason(event: &Event) -> Option<String> {
    let is_gap = event.name.as_deref() == Some("gap");
    let data: GapData = serde_json::from_slice(&event.data).ok().filter(|_| is_gap)?;
    Some(printable(&data.reason.chars().take(40).collect::<String>()))
}

fn counted(number: u64, thing: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), thing)
}

#[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
fn rate(events: u64, time: Duration) -> f64 {
    // A stream that was open for less counts as one of a millisecond.
    events as f64 / time.as_secs_f64().max(0.001)
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::Version;
    use ssegate_sse::Event;
    use tokio::time::Instant;

    use super::super::follow::StreamUpdate;
    use super::SubscribeSummary;

    fn open(from: &str) -> StreamUpdate {
        let url = "http://h/".parse().expect("a URL");
        StreamUpdate::Open { from: from.into(), url, version: Version::HTTP_2 }
    }

    fn event(name: Option<&str>, data: &str) -> StreamUpdate {
        let event =
            Event { name: name.map(Into::into), data: data.to_owned().into(), ..Event::default() };
        StreamUpdate::Event { from: "a".into(), event, last_event_id: Arc::from("") }
    }

    #[test]
    fn events_gaps_and_reconnects_are_counted() {
        let (mut summary, start) = (SubscribeSummary::default(), Instant::now());
        assert_eq!((summary.text(start), summary.json(start)), (None, None), "none has opened");
        let end = start + Duration::from_secs(2);
        summary.note(&open("a"), start);
        assert_eq!(
            summary.text(end).expect("one has opened"),
            "0 events, 0 bytes in 2.0 s (0.0 a second); 0 reconnects; no gap"
        );
        for update in [
            event(None, "abc"),
            open("b"),
            event(Some("ping"), "1"),
            open("a"),
            event(Some("gap"), r#"{"reason":"expired","channels":["a"]}"#),
            event(Some("gap"), r#"{"reason":"redis_away","channels":["a"]}"#),
            event(Some("gap"), r#"{"reason":"expired","channels":["b"]}"#),
            // Of a publisher.
            event(Some("gap"), "in the market"),
            StreamUpdate::TooLarge { from: "a".into(), bytes: 1 << 30 },
        ] {
            summary.note(&update, end);
        }
        assert_eq!(
            summary.text(end).expect("open"),
            "3 events, 17 bytes in 2.0 s (1.5 a second); 1 reconnect; 3 gaps: 2 expired, 1 redis_away; \
             1 event skipped as too large"
        );
        assert_eq!(
            summary.json(end).expect("open"),
            r#"{"summary":{"events":3,"bytes":17,"gaps":{"expired":2,"redis_away":1},"reconnects":1,"skipped":1,"seconds":2.0,"events_per_second":1.5}}"#
        );
    }

    #[test]
    fn a_server_cannot_make_the_summary_long_or_wild() {
        let (mut summary, now) = (SubscribeSummary::default(), Instant::now());
        summary.note(&open("a"), now);
        for number in 0..1000 {
            let long = "x".repeat(1000);
            let data = format!("{{\"reason\":\"\\u001b[2J{number}{long}\"}}");
            summary.note(&event(Some("gap"), &data), now);
        }
        let text = summary.text(now).expect("open");
        assert!(text.len() < 2000 && text.contains("980 other"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
