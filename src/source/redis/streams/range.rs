//! Reads a range of a stream's past, for a client that resumes: one command, or a few.
//!
//! The range starts with the entry that the client knows. If that entry still exists, nothing after
//! it was trimmed, and the range is complete. If not, a subsequent `XINFO STREAM` shows whether
//! anything can be missing: streams are only ever trimmed at their start. What was lost while the
//! stream was followed is known from its [`Rollbacks`].

use ssegate_hub::EntryId;
use ssegate_hub::{GapReason, LogRange, LogRead, LogReadResult};
use ssegate_resp::Value;
use ssegate_sse::Event;

use super::entry::{EntriesReply, ReplyBudget, StreamEntry, decode};
use super::info::StreamInfo;
use super::rollbacks::Rollbacks;
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
    /// Entries that the client has, or missed, are lost: it resumes after the range's first entry.
    loss: Option<GapReason>,
    /// No entry ever had the client's id: the newest entry before it is looked for.
    is_foreign: bool,
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
    /// Send the command, once more or another one.
    Send(RangeRead),
    /// Send `XINFO STREAM`.
    FetchInfo(RangeRead),
    /// The read is complete. `is_reset`: the stream is not the one that the client knew. `again` repeats the
    /// same read.
    Done { again: RangeRead, past: LogReadResult, is_reset: bool },
}

impl RangeRead {
    pub(super) fn new(call: LogRead) -> Self {
        let (is_known, is_foreign, is_reset_known) = (false, false, false);
        Self { call, read: None, is_known, loss: None, is_foreign, is_reset_known }
    }

    /// The first command to send, and its arguments.
    pub(super) fn command(&self) -> (&'static str, Vec<String>) {
        let name = self.call.log.to_string();
        let count = |count: usize| vec!["COUNT".to_owned(), count.to_string()];
        let (command, mut arguments, count) = match self.call.range {
            LogRange::After { after, .. } if self.is_foreign => {
                ("XREVRANGE", vec![name, after.to_string(), "-".to_owned()], count(1))
            }
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

    /// Handles the reply to that command; `None` if it is malformed.
    pub(super) fn handle_entries(
        self,
        reply: Value,
        max_event_bytes: usize,
        rollbacks: &Rollbacks,
        metrics: &Metrics,
    ) -> Option<RangeStep> {
        let read = EntriesReply::parse(reply, &mut ReplyBudget::default(), max_event_bytes)?;
        let EntriesReply { mut entries, is_truncated } = read;
        let LogRange::After { after, until } = self.call.range else {
            return Some(match entries.iter().map(|entry| entry.id).min() {
                Some(oldest) => self.done(LogReadResult::Start(oldest.previous()), false),
                None => RangeStep::FetchInfo(Self { read: Some(ReadEntries::default()), ..self }),
            });
        };
        if self.is_foreign {
            return Some(self.resume_at(after, until, entries.first().map(|entry| entry.id)));
        }
        let is_all = !is_truncated && (until <= after || entries.len() <= MAX_ENTRIES);
        let is_there = entries.first().is_some_and(|first| first.id == after);
        if is_there {
            entries.remove(0);
        }
        if is_there && is_truncated && entries.is_empty() {
            return Some(RangeStep::Send(Self { is_known: true, ..self }));
        }
        let read = ReadEntries { entries, is_all };
        if is_there || self.is_known {
            return Some(self.finish(None, read, rollbacks, metrics));
        }
        Some(RangeStep::FetchInfo(Self { read: Some(read), ..self }))
    }

    /// Handles the reply to `XINFO STREAM`.
    pub(super) fn handle_info(
        self,
        info: &StreamInfo,
        rollbacks: &Rollbacks,
        metrics: &Metrics,
    ) -> RangeStep {
        let LogRange::After { after, until } = self.call.range else {
            return self.done(LogReadResult::Start(info.last), false);
        };
        if let Some((reason, kept)) = rollbacks.lost(after) {
            return self.after(kept, until, reason);
        }
        if info.never_had(after) {
            return RangeStep::Send(Self { is_foreign: true, read: None, ..self });
        }
        let mut again = self;
        let read = again.read.take().unwrap_or_default();
        let gap = match info.missing_after(after) {
            Some((GapReason::Trimmed, position)) => {
                // Entries read before they were trimmed are not missing, nor are those in the
                // history.
                let first = read.entries.first().map(|first| first.id.previous());
                let position = first.map_or(position, |first| first.min(position));
                let position = if until > after { position.min(until) } else { position };
                Some((GapReason::Trimmed, position)).filter(|_| position > after)
            }
            gap => gap,
        };
        match gap {
            // The entries follow an id of another stream.
            Some((reason, _)) if reason.goes_back() => {
                let past = LogReadResult::Entries { gap, entries: Vec::new(), is_all: false };
                again.done(past, true)
            }
            gap => again.finish(gap, read, rollbacks, metrics),
        }
    }

    /// No entry here ever had the client's id, though entries before and after it exist: it was lost before
    /// this gateway followed the stream. `kept` is the newest entry before it, so that nothing is sent twice.
    fn resume_at(self, after: EntryId, until: EntryId, kept: Option<EntryId>) -> RangeStep {
        match kept.filter(|kept| *kept < after) {
            Some(kept) => self.after(kept, until, GapReason::RolledBack),
            // The entry exists now, or the entries before it were trimmed.
            None => RangeStep::Send(Self { is_foreign: false, ..self }),
        }
    }

    /// The client resumes after `kept`, with a gap.
    fn after(mut self, kept: EntryId, until: EntryId, reason: GapReason) -> RangeStep {
        self.call.range = LogRange::After { after: kept, until };
        let (loss, read) = (Some(reason), None);
        RangeStep::Send(Self { loss, read, is_foreign: false, ..self })
    }

    /// Ends with these entries, or with those before the next loss.
    fn finish(
        self,
        gap: Option<(GapReason, EntryId)>,
        ReadEntries { mut entries, mut is_all }: ReadEntries,
        rollbacks: &Rollbacks,
        metrics: &Metrics,
    ) -> RangeStep {
        let LogRange::After { after, until } = self.call.range else {
            debug_assert!(false, "only a range has entries");
            return self.done(LogReadResult::Start(EntryId::ZERO), false);
        };
        let from = gap.map_or(after, |(_, position)| position);
        let mut loss = self.loss.or_else(|| rollbacks.at(from));
        if let Some((reason, kept)) =
            rollbacks.first_between(from, until).filter(|_| loss.is_none())
        {
            let before = entries.partition_point(|entry| entry.id <= kept);
            if before == 0 {
                loss = Some(reason);
            } else if before < entries.len() {
                entries.truncate(before);
                is_all = false;
            }
        }
        // A gap moves the client's position: if no entries follow, to where the history begins.
        let end = if entries.is_empty() && is_all { from.max(until) } else { from };
        let gap = loss.map(|reason| (reason, end)).or(gap);
        let past = log_past(&self.call, gap, entries, is_all, metrics);
        self.done(past, false)
    }

    fn done(self, past: LogReadResult, is_reset: bool) -> RangeStep {
        let again = Self { is_reset_known: self.is_reset_known, ..Self::new(self.call) };
        RangeStep::Done { again, past, is_reset }
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
