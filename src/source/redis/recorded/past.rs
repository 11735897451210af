//! Reads of a log, for a client that resumes or for a channel that missed messages.

use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::{ChannelName, EntryId, GapReason, LogRange, LogRead};
use ssegate_resp::Value;
use tokio::time::Instant;

use super::channel::RecordedPayload;

/// Entries and bytes that are read together, at most.
const MAX_ENTRIES: usize = 200;
const MAX_BYTES: usize = 256 << 10;
/// A log that does not reach far enough yet is read again after this.
const READ_AGAIN: Duration = Duration::from_millis(40);
/// After this long the missing part counts as lost. Redis may refuse writes, for example.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A part of a log that is to be read.
#[derive(Debug)]
pub(in super::super) struct PastRead {
    pub(super) channel: ChannelName,
    pub(super) reader: PastReader,
    pub(super) range: LogRange,
    began: Instant,
    pub(super) not_before: Instant,
    /// Others were asked to complete the log.
    pub(super) is_asked: bool,
}

/// Who the read is for.
#[derive(Debug)]
pub(super) enum PastReader {
    Client(LogRead),
    CatchUp,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct ReadPast {
    pub(super) gap: Option<(GapReason, EntryId)>,
    pub(super) entries: Vec<(EntryId, RecordedPayload)>,
    pub(super) is_all: bool,
}

impl PastRead {
    /// For a client.
    pub(super) fn of_client(call: LogRead, now: Instant) -> Self {
        let (channel, range) = (call.log.clone(), call.range);
        let (reader, is_asked) = (PastReader::Client(call), false);
        Self { channel, reader, range, began: now, not_before: now, is_asked }
    }

    /// For a channel that has its messages up to `after`, and again from `until` on.
    pub(super) fn catch_up(
        channel: ChannelName,
        (after, until): (EntryId, EntryId),
        now: Instant,
    ) -> Self {
        let (reader, range) = (PastReader::CatchUp, LogRange::After { after, until });
        Self { channel, reader, range, began: now, not_before: now, is_asked: false }
    }

    /// Whether it is for a channel that missed messages.
    pub(super) fn is_catch_up(&self) -> bool {
        matches!(self.reader, PastReader::CatchUp)
    }

    /// The arguments of the script.
    pub(super) fn arguments(&self) -> Vec<Bytes> {
        let text = |text: String| Bytes::from(text);
        match self.range {
            LogRange::After { after, until } => vec![
                text(after.to_string()),
                text(until.to_string()),
                text(MAX_ENTRIES.to_string()),
                text(MAX_BYTES.to_string()),
            ],
            LogRange::BeforeNewest(usize::MAX) => vec![text("0".to_owned())],
            LogRange::BeforeNewest(count) => vec![text(count.to_string())],
        }
    }

    /// The log does not reach far enough. Returns whether it is read again.
    pub(super) fn wait(&mut self, now: Instant) -> bool {
        self.not_before = now + READ_AGAIN;
        now < self.began + GIVE_UP
    }
}

impl ReadPast {
    /// The result when it is not known what was published up to `until`.
    pub(super) fn unknown(until: EntryId) -> Self {
        let gap = Some((GapReason::Unrecorded, until));
        Self { gap, entries: Vec::new(), is_all: true }
    }

    /// Parses the reply of the script for what follows `after`: the newest id of the log, and what was read if the log
    /// reaches far enough. `None` if it is malformed.
    pub(super) fn parse(
        reply: &Value,
        (after, until): (EntryId, EntryId),
    ) -> Option<(EntryId, Option<Self>)> {
        let Value::Array(parts) = reply else { return None };
        let top = EntryId::parse(parts.first()?.as_bytes()?)?;
        let [_, first, is_trimmed, is_all, Value::Array(list), is_cut] = &parts[..] else {
            return Some((top, None));
        };
        let first = EntryId::parse(first.as_bytes()?);
        let (is_trimmed, mut is_all) =
            (*is_trimmed == Value::Integer(1), *is_all == Value::Integer(1));
        let mut gap = match first {
            Some(first) if first <= after || first.previous() == after => None,
            Some(first) if is_trimmed => Some((GapReason::Trimmed, first.previous().min(until))),
            Some(_) => None,
            None => (until > after).then_some((GapReason::Trimmed, until)),
        };
        let mut entries = Vec::with_capacity(list.len());
        for entry in list {
            let (id, payload) = parse_entry(entry)?;
            match payload {
                Some(payload) => entries.push((id, payload)),
                // A read from the beginning of the log gets no gap for what came before it.
                None if entries.is_empty() && after == EntryId::ZERO => {}
                // A gap stands at the beginning of what is read.
                None if entries.is_empty() => gap = Some((GapReason::Unrecorded, id)),
                None => {
                    is_all = false;
                    break;
                }
            }
        }
        if is_all && *is_cut == Value::Integer(1) {
            match entries.is_empty() {
                // A gap stands behind what is read, and begins before its end.
                true if after != EntryId::ZERO => gap = Some((GapReason::Unrecorded, until)),
                true => {}
                // It stands at the beginning of what is read next.
                false => is_all = false,
            }
        }
        Some((top, Some(Self { gap, entries, is_all })))
    }
}

/// An entry; its payload is `None` for a gap.
fn parse_entry(entry: &Value) -> Option<(EntryId, Option<RecordedPayload>)> {
    let Value::Array(parts) = entry else { return None };
    let [id, Value::Array(fields)] = &parts[..] else { return None };
    let id = EntryId::parse(id.as_bytes()?)?;
    let (kind, value) = (fields.first()?.as_bytes()?, fields.get(1)?);
    Some((
        id,
        match (&kind[..], value) {
            (b"g", _) => None,
            (b"m", Value::Bulk(payload)) => Some(RecordedPayload::Whole(payload.clone())),
            _ => Some(RecordedPayload::TooLarge),
        },
    ))
}

/// Parses the reply about the newest entries: the id after which they begin; `None` in it if there are none.
pub(super) fn parse_newest(reply: &Value) -> Option<Option<EntryId>> {
    let Value::Array(parts) = reply else { return None };
    let Some(id) = parts.first() else { return Some(None) };
    let id = EntryId::parse(id.as_bytes()?)?;
    let is_gap = parts.get(1) == Some(&Value::Integer(1));
    Some(Some(if is_gap { id } else { id.previous() }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_hub::{EntryId, GapReason};
    use ssegate_resp::Value;

    use super::{ReadPast, parse_newest};

    fn bulk(text: &str) -> Value {
        Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn id(text: &str) -> EntryId {
        EntryId::parse(text.as_bytes()).expect("an id")
    }

    fn entry(id: &str, kind: &str) -> Value {
        Value::Array(vec![bulk(id), Value::Array(vec![bulk(kind), bulk("x")])])
    }

    fn reply(first: &str, is_trimmed: i64, entries: Vec<Value>) -> Value {
        cut(first, is_trimmed, entries, 0)
    }

    fn cut(first: &str, is_trimmed: i64, entries: Vec<Value>, is_cut: i64) -> Value {
        Value::Array(vec![
            bulk("9-0"),
            bulk(first),
            Value::Integer(is_trimmed),
            Value::Integer(1),
            Value::Array(entries),
            Value::Integer(is_cut),
        ])
    }

    #[test]
    fn a_gap_is_told_where_it_stands() {
        let read = |reply: &Value| {
            let (top, past) = ReadPast::parse(reply, (id("5-1"), id("8-0"))).expect("well-formed");
            assert_eq!(top, id("9-0"));
            let past = past.expect("the log reaches far enough");
            (past.gap, past.entries.len(), past.is_all)
        };
        let (m, g) = (|id| entry(id, "m"), |id| entry(id, "g"));
        let trimmed = |first| Some((GapReason::Trimmed, id(first).previous()));
        let unrecorded = |at| Some((GapReason::Unrecorded, id(at)));
        for (reply, expected) in [
            (reply("4-0", 1, vec![m("5-2"), m("7-1")]), (None, 2, true)),
            (reply("6-1", 1, vec![m("6-1")]), (trimmed("6-1"), 1, true)),
            (reply("6-0", 0, vec![g("6-0"), m("6-1")]), (unrecorded("6-0"), 1, true)),
            (reply("4-0", 0, vec![m("5-2"), g("7-0"), m("7-1")]), (None, 1, false)),
            (cut("4-0", 0, vec![m("5-2")], 1), (None, 1, false)),
            (cut("4-0", 0, vec![], 1), (unrecorded("8-0"), 0, true)),
            (cut("9-0", 0, vec![], 1), (unrecorded("8-0"), 0, true)),
            (reply("", 1, vec![]), (Some((GapReason::Trimmed, id("8-0"))), 0, true)),
        ] {
            assert_eq!(read(&reply), expected, "{reply:?}");
        }
    }

    #[test]
    fn a_log_that_is_too_short_has_no_past_yet() {
        let short = Value::Array(vec![bulk("4-1")]);
        assert_eq!(ReadPast::parse(&short, (id("3-1"), id("5-0"))), Some((id("4-1"), None)));
        assert_eq!(ReadPast::parse(&bulk("4-1"), (id("3-1"), id("5-0"))), None);
    }

    #[test]
    fn the_newest_entries_begin_behind_a_gap() {
        let newest = |parts: Vec<Value>| parse_newest(&Value::Array(parts)).expect("well-formed");
        assert_eq!(newest(vec![]), None);
        assert_eq!(newest(vec![bulk("5-3"), Value::Integer(0)]), Some(id("5-2")));
        assert_eq!(newest(vec![bulk("5-0"), Value::Integer(1)]), Some(id("5-0")));
    }
}
