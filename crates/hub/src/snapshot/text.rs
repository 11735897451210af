//! A snapshot as bytes: lines of JSON, each that of a channel followed by its frames.
//!
//! ```text
//! {"format":1,"run":"abc123","newest":17,"earlier":[],"marks":[["00000000000000ff",3]],"channels":1}
//! {"topic":["c","news","raw"],"confirmed":1,"whole_since":1,"is_followed":true,"complete_after":1,"records":[…]}
//! data: hello
//! id: abc123-17
//!
//! end
//! ```
//!
//! A text that no hub writes is an error, never a panic: a file may be truncated or changed.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use super::{ChannelSnapshot, MAX_EARLIER, MAX_MARKS, Snapshot};
use crate::fleet::marks::ReceivedMark;
use crate::fleet::message::{self, HexId, TopicText};
use crate::fleet::name::{EventName, FleetPosition, SubscriptionTag};
use crate::gap::GapReason;
use crate::history::record::{HistoryRecord, RecordContent};
use crate::position::event_id::RunTag;
use crate::subject::Subject;

const FORMAT: u32 = 1;
const END: &[u8] = b"end\n";

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadText {
    format: u32,
    run: RunTag,
    newest: u64,
    earlier: Vec<(RunTag, u64)>,
    marks: Vec<(HexId, u64)>,
    channels: usize,
}

/// The line of a channel.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PastText {
    topic: TopicText,
    confirmed: u64,
    whole_since: u64,
    is_followed: bool,
    complete_after: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropped: Option<String>,
    records: Vec<RecordText>,
}

/// A record: its number, its age in milliseconds, its name, and its content.
#[derive(Debug, Serialize, Deserialize)]
struct RecordText(u64, u64, Option<String>, ContentText);

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum ContentText {
    /// The length of a frame; for an event of a pattern, also its subject.
    Event(usize, Option<u32>),
    Gap(String),
}

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSnapshot {
    /// A line is not what this version writes.
    #[error("line {line} is not valid in a snapshot of this version: {cause}")]
    Line {
        /// Counted from 1, frames left out.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// The end is missing.
    #[error("it is truncated")]
    CutOff,
}

impl Snapshot {
    /// Greater than the number of any run. Leaves room for the numbers of the next one.
    pub const MAX_NUMBER: u64 = 1 << 62;

    /// Writes it. Ages of records count from `now`.
    ///
    /// # Errors
    /// Writing to `out` failed.
    pub fn write(&self, now: Instant, out: &mut impl Write) -> io::Result<()> {
        let marks = self.marks.iter().map(|mark| (HexId(mark.id), mark.number));
        let head = HeadText {
            format: FORMAT,
            run: self.run,
            newest: self.newest,
            earlier: self.earlier.clone(),
            marks: marks.collect(),
            channels: self.channels.len(),
        };
        out.write_all(&message::encode(&head))?;
        out.write_all(b"\n")?;
        for channel in &self.channels {
            out.write_all(&message::encode(&PastText::of(channel, now)))?;
            out.write_all(b"\n")?;
            for record in &channel.records {
                if let RecordContent::Event(frame, _) = &record.content {
                    out.write_all(frame.text())?;
                }
            }
        }
        out.write_all(END)
    }

    /// Reads what [`Snapshot::write`] has written. `now` is the time at which it was written.
    ///
    /// # Errors
    /// The bytes are not a snapshot, or one of another version.
    pub fn read(bytes: &[u8], now: Instant) -> Result<Self, InvalidSnapshot> {
        let mut lines = Lines { rest: bytes, line: 0 };
        let head: HeadText = lines.json()?;
        if head.format != FORMAT {
            return Err(lines.error(format_args!("its format is {}", head.format)));
        }
        if head.newest > Self::MAX_NUMBER {
            return Err(lines.error("its numbers are too large"));
        }
        let are_bounded = head.marks.len() <= MAX_MARKS && head.earlier.len() <= MAX_EARLIER;
        let numbers = head.marks.iter().map(|(_, number)| *number);
        if !are_bounded || !numbers.is_sorted() {
            return Err(lines.error("its marks are not in order"));
        }
        let marks = head.marks.iter().map(|&(id, number)| ReceivedMark { id: id.0, number });
        let marks = marks.filter(|mark| mark.number <= head.newest).collect();
        let mut channels = Vec::new();
        for _ in 0..head.channels {
            channels.push(lines.channel(head.newest, now)?);
        }
        if lines.rest != END {
            return Err(InvalidSnapshot::CutOff);
        }
        let HeadText { run, newest, earlier, .. } = head;
        Ok(Self { run, newest, earlier, marks, channels, left_out: 0 })
    }
}

impl PastText {
    fn of(channel: &ChannelSnapshot, now: Instant) -> Self {
        let tag = SubscriptionTag::of(&channel.topic.subscription);
        let record = |record: &HistoryRecord| {
            let age = now.saturating_duration_since(record.received).as_millis();
            let content = match &record.content {
                RecordContent::Event(frame, subject) => {
                    ContentText::Event(frame.len(), subject.hash())
                }
                RecordContent::Gap(reason) => ContentText::Gap(reason.as_str().to_owned()),
            };
            let age = u64::try_from(age).unwrap_or(u64::MAX);
            RecordText(record.number, age, name_text(tag, record.name), content)
        };
        Self {
            topic: message::topic_text(&channel.topic),
            confirmed: channel.confirmed,
            whole_since: channel.whole_since,
            is_followed: channel.is_followed,
            complete_after: channel.complete_after,
            dropped: name_text(tag, channel.dropped),
            records: channel.records.iter().map(record).collect(),
        }
    }
}

fn name_text(tag: SubscriptionTag, name: EventName) -> Option<String> {
    let name = name.known()?;
    String::from_utf8(FleetPosition { tag, name }.text().to_vec()).ok()
}

/// The name in a text, of a channel with this tag; without a text, the default name.
fn name(tag: SubscriptionTag, text: Option<&String>) -> Result<EventName, &'static str> {
    let Some(text) = text else { return Ok(EventName::default()) };
    let position = FleetPosition::parse(text.as_bytes()).filter(|position| position.tag == tag);
    position
        .and_then(|position| position.name.known())
        .ok_or("an id does not belong to its channel")
}

/// What is left to read.
struct Lines<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Lines<'_> {
    fn error(&self, cause: impl ToString) -> InvalidSnapshot {
        InvalidSnapshot::Line { line: self.line, cause: cause.to_string() }
    }

    fn json<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T, InvalidSnapshot> {
        self.line += 1;
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or(InvalidSnapshot::CutOff)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        serde_json::from_slice(line).map_err(|error| self.error(error))
    }

    fn channel(&mut self, newest: u64, now: Instant) -> Result<ChannelSnapshot, InvalidSnapshot> {
        let text: PastText = self.json()?;
        let is_followed = text.is_followed;
        let PastText { topic, confirmed, whole_since, complete_after, dropped, records, .. } = text;
        let topic =
            message::own_topic(topic).ok_or_else(|| self.error("a channel without a name"))?;
        let tag = SubscriptionTag::of(&topic.subscription);
        let dropped = name(tag, dropped.as_ref()).map_err(|cause| self.error(cause))?;
        let first = confirmed.max(whole_since).max(complete_after);
        let numbers = records.iter().map(|record| record.0);
        // A channel that was opened for a message may be complete after that message, and still keep it.
        let are_in_order = numbers.clone().is_sorted_by(|one, next| one < next)
            && numbers.clone().all(|number| complete_after <= number && number <= newest);
        if first > newest || !are_in_order {
            let numbers =
                (confirmed, whole_since, complete_after, numbers.collect::<Vec<_>>(), newest);
            return Err(self.error(format_args!("its numbers are not in order: {numbers:?}")));
        }
        let records: Result<Vec<_>, _> =
            records.into_iter().map(|record| self.record(record, tag, now)).collect();
        let records = records?;
        Ok(ChannelSnapshot {
            topic,
            confirmed,
            whole_since,
            is_followed,
            complete_after,
            dropped,
            records,
        })
    }

    fn record(
        &mut self,
        RecordText(number, age, text, content): RecordText,
        tag: SubscriptionTag,
        now: Instant,
    ) -> Result<HistoryRecord, InvalidSnapshot> {
        let name = name(tag, text.as_ref()).map_err(|cause| self.error(cause))?;
        let content = match content {
            ContentText::Event(length, subject) => {
                let frame = self.rest.split_at_checked(length).ok_or(InvalidSnapshot::CutOff)?;
                self.rest = frame.1;
                if !frame.0.ends_with(b"\n\n") {
                    return Err(self.error("a frame is not complete"));
                }
                // The place of a channel in the hub that goes on is not known yet.
                let subject = subject.map_or_else(|| Subject::of(0), Subject::of_hash);
                RecordContent::Event(Frame::of_text(frame.0), subject)
            }
            ContentText::Gap(word) => {
                let known = GapReason::ALL.into_iter().find(|reason| reason.as_str() == word);
                RecordContent::Gap(known.ok_or_else(|| self.error("an unknown reason"))?)
            }
        };
        let received = now.checked_sub(Duration::from_millis(age)).unwrap_or(now);
        Ok(HistoryRecord { number, received, name, content })
    }
}
