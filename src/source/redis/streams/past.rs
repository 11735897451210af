//! Reads a range of a stream's past, for a client that resumes: one command, or two.
//!
//! The range starts with the entry that the client knows. If that entry still exists, nothing after
//! it was trimmed, and the range is complete. If not, a subsequent `XINFO STREAM` shows whether
//! anything can be missing: streams are only ever trimmed at their start.

use super::entry::{Entries, Entry, Room, decode};
use super::info::Info;
use crate::event::{EntryId, Event};
use crate::hub::{GapReason, LogPast, PastCall, PastWanted};
use crate::metrics::Metrics;
use crate::source::resp::Value;

/// Entries requested together.
const COUNT: usize = 200;

/// A range read in progress.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) call: PastCall,
    /// The entries that were read, while `XINFO STREAM` is pending.
    read: Option<Read>,
    /// The client's entry still exists, and is so large that nothing after it was read.
    is_known: bool,
    /// The reader of the stream has detected the reset as well.
    pub(super) is_reset_known: bool,
}

#[derive(Debug, Default)]
struct Read {
    entries: Vec<Entry>,
    is_all: bool,
}

/// The next step of a range read.
#[derive(Debug)]
pub(super) enum Next {
    /// Send the command once more.
    Ask(Past),
    /// Send `XINFO STREAM`.
    AskForInfo(Past),
    /// It is complete. `is_reset`: the stream is not the one that the client knew.
    Answered { call: PastCall, past: LogPast, is_reset: bool },
    /// The reply is malformed.
    Nonsense,
}

impl Past {
    pub(super) fn new(call: PastCall) -> Self {
        Self { call, read: None, is_known: false, is_reset_known: false }
    }

    /// The first command to send, and its arguments.
    pub(super) fn command(&self) -> (&'static str, Vec<String>) {
        let name = self.call.log.to_string();
        let count = |count: usize| vec!["COUNT".to_owned(), count.to_string()];
        let (command, mut arguments, count) = match self.call.wanted {
            PastWanted::After { after, until } if until <= after => {
                ("XRANGE", vec![name, after.to_string(), after.to_string()], count(1))
            }
            PastWanted::After { after, until } => {
                let start = if self.is_known { format!("({after}") } else { after.to_string() };
                ("XRANGE", vec![name, start, until.to_string()], count(COUNT + 1))
            }
            PastWanted::BeforeNewest(usize::MAX) => {
                ("XRANGE", vec![name, "-".to_owned(), "+".to_owned()], count(1))
            }
            PastWanted::BeforeNewest(newest) => {
                ("XREVRANGE", vec![name, "+".to_owned(), "-".to_owned()], count(newest))
            }
        };
        arguments.extend(count);
        (command, arguments)
    }

    /// Handles the reply to that command.
    pub(super) fn take(self, answer: Value, max_event_bytes: usize, metrics: &Metrics) -> Next {
        let Some(read) = Entries::read(answer, &mut Room::default(), max_event_bytes) else {
            return Next::Nonsense;
        };
        let Entries { mut entries, is_cut } = read;
        let PastWanted::After { after, until } = self.call.wanted else {
            return match entries.iter().map(|entry| entry.id).min() {
                Some(oldest) => self.answered(LogPast::Start(oldest.previous()), false),
                None => Next::AskForInfo(Self { read: Some(Read::default()), ..self }),
            };
        };
        let is_all = !is_cut && (until <= after || entries.len() <= COUNT);
        let is_there = entries.first().is_some_and(|first| first.id == after);
        if is_there {
            entries.remove(0);
        }
        if is_there && is_cut && entries.is_empty() {
            return Next::Ask(Self { is_known: true, ..self });
        }
        if is_there || self.is_known {
            let past = past(&self.call, None, entries, is_all, metrics);
            return self.answered(past, false);
        }
        Next::AskForInfo(Self { read: Some(Read { entries, is_all }), ..self })
    }

    /// Handles the reply to `XINFO STREAM`. `returned_to` is the entry after which the client has
    /// to resume if its own was lost in a rollback.
    pub(super) fn take_info(
        self,
        info: &Info,
        returned_to: Option<EntryId>,
        metrics: &Metrics,
    ) -> Next {
        let Read { entries, is_all } = self.read.unwrap_or_default();
        let PastWanted::After { after, until } = self.call.wanted else {
            let (call, past) = (self.call, LogPast::Start(info.last));
            return Next::Answered { call, past, is_reset: false };
        };
        let gap = match (returned_to, info.missing_after(after)) {
            (Some(place), _) => Some((GapReason::RolledBack, place)),
            (None, Some((GapReason::Trimmed, place))) => {
                // Entries read before they were trimmed are not missing, nor are those in the
                // history.
                let read = entries.first().map(|first| first.id.previous());
                let place = read.map_or(place, |read| read.min(place));
                let place = if until > after { place.min(until) } else { place };
                Some((GapReason::Trimmed, place)).filter(|_| place > after)
            }
            (None, gap) => gap,
        };
        let is_reset = gap.is_some_and(|(reason, _)| reason.goes_back());
        // The entries follow an id of another stream.
        let (entries, is_all) = if is_reset { (Vec::new(), false) } else { (entries, is_all) };
        let past = past(&self.call, gap, entries, is_all, metrics);
        Next::Answered { call: self.call, past, is_reset }
    }

    fn answered(self, past: LogPast, is_reset: bool) -> Next {
        Next::Answered { call: self.call, past, is_reset }
    }
}

fn past(
    call: &PastCall,
    gap: Option<(GapReason, EntryId)>,
    entries: Vec<Entry>,
    is_all: bool,
    metrics: &Metrics,
) -> LogPast {
    let event = |entry: Entry| -> (EntryId, Option<Event>) {
        let fields = entry.fields.as_deref();
        let decoded = fields.map(|fields| decode(call.format, fields));
        if decoded.as_ref().is_some_and(|decoded| decoded.is_malformed) {
            metrics.event_malformed();
        }
        (entry.id, decoded.map(|decoded| decoded.event))
    };
    LogPast::Entries { gap, entries: entries.into_iter().map(event).collect(), is_all }
}
