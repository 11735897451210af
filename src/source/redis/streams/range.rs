//! Reads a range of a stream's past, for a client that resumes: one command, or two.
//!
//! The range starts with the entry that the client knows. If that entry still exists, nothing after
//! it was trimmed, and the range is complete. If not, a subsequent `XINFO STREAM` shows whether
//! anything can be missing: streams are only ever trimmed at their start.

use ssegate_hub::EntryId;
use ssegate_hub::{GapReason, LogRange, LogRead, LogReadResult};
use ssegate_resp::Value;
use ssegate_sse::Event;

use super::entry::{EntriesReply, ReplyBudget, StreamEntry, decode};
use super::info::StreamInfo;
use crate::metrics::Metrics;

/// Entries requested together.
const MAX_ENTRIES: usize = 200;

/// A range read in progress.
#[derive(Debug)]
pub(super) struct RangeRead {
    pub(super) call: LogRead,
    /// The entries that were read, while `XINFO STREAM` is pending.
    read: Option<ReadEntries>,
    /// The client's entry still exists, and is so large that nothing after it was read.
    is_known: bool,
    /// The reader of the stream has detected the reset as well.
    pub(super) is_reset_known: bool,
}

#[derive(Debug, Default)]
struct ReadEntries {
    entries: Vec<StreamEntry>,
    is_all: bool,
}

/// The next step of a range read.
#[derive(Debug)]
pub(super) enum RangeStep {
    /// Send the command once more.
    Retry(RangeRead),
    /// Send `XINFO STREAM`.
    FetchInfo(RangeRead),
    /// It is complete. `is_reset`: the stream is not the one that the client knew.
    Done { call: LogRead, past: LogReadResult, is_reset: bool },
    /// The reply is malformed.
    Malformed,
}

impl RangeRead {
    pub(super) fn new(call: LogRead) -> Self {
        Self { call, read: None, is_known: false, is_reset_known: false }
    }

    /// The first command to send, and its arguments.
    pub(super) fn command(&self) -> (&'static str, Vec<String>) {
        let name = self.call.log.to_string();
        let count = |count: usize| vec!["COUNT".to_owned(), count.to_string()];
        let (command, mut arguments, count) = match self.call.range {
            LogRange::After { after, until } if until <= after => {
                ("XRANGE", vec![name, after.to_string(), after.to_string()], count(1))
            }
            LogRange::After { after, until } => {
                let start = if self.is_known { format!("({after}") } else { after.to_string() };
                ("XRANGE", vec![name, start, until.to_string()], count(MAX_ENTRIES + 1))
            }
            LogRange::BeforeNewest(usize::MAX) => {
                ("XRANGE", vec![name, "-".to_owned(), "+".to_owned()], count(1))
            }
            LogRange::BeforeNewest(newest) => {
                ("XREVRANGE", vec![name, "+".to_owned(), "-".to_owned()], count(newest))
            }
        };
        arguments.extend(count);
        (command, arguments)
    }

    /// Handles the reply to that command.
    pub(super) fn handle_entries(
        self,
        reply: Value,
        max_event_bytes: usize,
        metrics: &Metrics,
    ) -> RangeStep {
        let Some(read) = EntriesReply::parse(reply, &mut ReplyBudget::default(), max_event_bytes)
        else {
            return RangeStep::Malformed;
        };
        let EntriesReply { mut entries, is_truncated } = read;
        let LogRange::After { after, until } = self.call.range else {
            return match entries.iter().map(|entry| entry.id).min() {
                Some(oldest) => self.done(LogReadResult::Start(oldest.previous()), false),
                None => RangeStep::FetchInfo(Self { read: Some(ReadEntries::default()), ..self }),
            };
        };
        let is_all = !is_truncated && (until <= after || entries.len() <= MAX_ENTRIES);
        let is_there = entries.first().is_some_and(|first| first.id == after);
        if is_there {
            entries.remove(0);
        }
        if is_there && is_truncated && entries.is_empty() {
            return RangeStep::Retry(Self { is_known: true, ..self });
        }
        if is_there || self.is_known {
            let past = log_past(&self.call, None, entries, is_all, metrics);
            return self.done(past, false);
        }
        RangeStep::FetchInfo(Self { read: Some(ReadEntries { entries, is_all }), ..self })
    }

    /// Handles the reply to `XINFO STREAM`. `rolled_back_to` is the entry after which the client
    /// has to resume if its own was lost in a rollback.
    pub(super) fn handle_info(
        self,
        info: &StreamInfo,
        rolled_back_to: Option<EntryId>,
        metrics: &Metrics,
    ) -> RangeStep {
        let ReadEntries { entries, is_all } = self.read.unwrap_or_default();
        let LogRange::After { after, until } = self.call.range else {
            let (call, past) = (self.call, LogReadResult::Start(info.last));
            return RangeStep::Done { call, past, is_reset: false };
        };
        let gap = match (rolled_back_to, info.missing_after(after)) {
            (Some(position), _) => Some((GapReason::RolledBack, position)),
            (None, Some((GapReason::Trimmed, position))) => {
                // Entries read before they were trimmed are not missing, nor are those in the
                // history.
                let read = entries.first().map(|first| first.id.previous());
                let position = read.map_or(position, |read| read.min(position));
                let position = if until > after { position.min(until) } else { position };
                Some((GapReason::Trimmed, position)).filter(|_| position > after)
            }
            (None, gap) => gap,
        };
        let is_reset = gap.is_some_and(|(reason, _)| reason.goes_back());
        // The entries follow an id of another stream.
        let (entries, is_all) = if is_reset { (Vec::new(), false) } else { (entries, is_all) };
        let past = log_past(&self.call, gap, entries, is_all, metrics);
        RangeStep::Done { call: self.call, past, is_reset }
    }

    fn done(self, past: LogReadResult, is_reset: bool) -> RangeStep {
        RangeStep::Done { call: self.call, past, is_reset }
    }
}

fn log_past(
    call: &LogRead,
    gap: Option<(GapReason, EntryId)>,
    entries: Vec<StreamEntry>,
    is_all: bool,
    metrics: &Metrics,
) -> LogReadResult {
    let event = |entry: StreamEntry| -> (EntryId, Option<Event>) {
        let fields = entry.fields.as_deref();
        let decoded = fields.map(|fields| decode(call.format, fields));
        if decoded.as_ref().is_some_and(|decoded| decoded.is_malformed) {
            metrics.event_malformed();
        }
        (entry.id, decoded.map(|decoded| decoded.event))
    };
    LogReadResult::Entries { gap, entries: entries.into_iter().map(event).collect(), is_all }
}
