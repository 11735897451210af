//! A line in the combined log format of Apache and nginx, which many programs read.
//!
//! `client - id [time] "request" status bytes "referer" "user agent"`
//! (<https://httpd.apache.org/docs/2.4/logs.html#combined>). It has one line for each request: a stream has its one
//! when it is closed.

use std::time::SystemTime;

use time::{Month, OffsetDateTime};

use super::{Asked, LineSubject, Outcome, RenderedRequest, most, protocol};
use crate::log::escape::{self, put};

/// The three parts around the time and the status.
pub(super) fn request(asked: &Asked<'_>) -> RenderedRequest {
    let mut text = String::with_capacity(256 + asked.target.len());
    put(&mut text, format_args!("{} - ", asked.client));
    word(&mut text, asked.identity.unwrap_or_default().as_bytes(), most::OTHER);
    let who = part_end(&text);
    text.push('"');
    word(&mut text, asked.method.as_bytes(), most::METHOD);
    if !asked.target.is_empty() {
        text.push(' ');
        word(&mut text, asked.target.as_bytes(), most::TARGET);
        put(&mut text, format_args!(" {}", protocol(asked.version)));
    }
    text.push('"');
    let what = part_end(&text);
    for value in [asked.referer, asked.user_agent] {
        text.push_str(" \"");
        match value.is_empty() {
            true => text.push('-'),
            false => escape::combined(&mut text, value, most::OTHER, false),
        }
        text.push('"');
    }
    text.push('\n');
    RenderedRequest { text: text.into(), parts: [who, what] }
}

/// The whole line; empty for the opening of a stream.
pub(super) fn line(
    RenderedRequest { text, parts: [who, what] }: &RenderedRequest,
    subject: LineSubject,
    outcome: &Outcome<'_>,
    now: SystemTime,
) -> String {
    if subject == LineSubject::StreamOpened {
        return String::new();
    }
    let (who, what) = (usize::from(*who), usize::from(*what));
    let mut line = String::with_capacity(text.len() + 64);
    let now = OffsetDateTime::from(now);
    put(
        &mut line,
        format_args!(
            "{} [{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000] {} {} {}{}",
            &text[..who],
            now.day(),
            month(now.month()),
            now.year(),
            now.hour(),
            now.minute(),
            now.second(),
            &text[who..what],
            outcome.status,
            outcome.bytes,
            &text[what..]
        ),
    );
    line
}

/// A text without spaces; a hyphen if it is empty.
fn word(text: &mut String, value: &[u8], most: usize) {
    match value.is_empty() {
        true => text.push('-'),
        false => escape::combined(text, value, most, true),
    }
}

fn part_end(text: &str) -> u16 {
    u16::try_from(text.len()).expect("the parts are bounded")
}

fn month(month: Month) -> &'static str {
    match month {
        Month::January => "Jan",
        Month::February => "Feb",
        Month::March => "Mar",
        Month::April => "Apr",
        Month::May => "May",
        Month::June => "Jun",
        Month::July => "Jul",
        Month::August => "Aug",
        Month::September => "Sep",
        Month::October => "Oct",
        Month::November => "Nov",
        Month::December => "Dec",
    }
}
