//! Pieces of a stream's past, for clients that come back: one question to Redis, or two.
//!
//! The entry that the client knows is asked for too. Where it is still there nothing after it has
//! been trimmed, and that is all there is to ask. Where it is not, what Redis says of the stream
//! afterwards tells whether anything can be missing: streams are only ever trimmed at their
//! beginning.

use super::entry::{Entries, Entry, Room, decode};
use super::info::Info;
use crate::event::{EntryId, Event};
use crate::hub::{GapReason, LogRange, LogRead, LogReadResult};
use crate::metrics::Metrics;
use crate::source::resp::Value;

/// Entries that are asked for together.
const COUNT: usize = 200;

/// A call that is being answered.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) call: LogRead,
    /// What was read, while it is asked what may be missing before it.
    read: Option<Read>,
    /// The client's entry is still there, and so large that nothing after it was read.
    is_known: bool,
    /// That the stream is another one was seen by its reader too.
    pub(super) is_reset_known: bool,
}

#[derive(Debug, Default)]
struct Read {
    entries: Vec<Entry>,
    is_all: bool,
}

/// What is to be done with a call.
#[derive(Debug)]
pub(super) enum Next {
    /// It is to be asked for once more.
    Ask(Past),
    /// What is known of the stream is to be asked too.
    AskForInfo(Past),
    /// It is answered. `reset`: the stream is not the one that the client knew.
    Answered { call: LogRead, past: LogReadResult, is_reset: bool },
    /// The answer makes no sense.
    Nonsense,
}

impl Past {
    pub(super) fn new(call: LogRead) -> Self {
        Self { call, read: None, is_known: false, is_reset_known: false }
    }

    /// The command to send first, and its arguments.
    pub(super) fn command(&self) -> (&'static str, Vec<String>) {
        let name = self.call.log.to_string();
        let count = |count: usize| vec!["COUNT".to_owned(), count.to_string()];
        let (command, mut arguments, count) = match self.call.range {
            LogRange::After { after, until } if until <= after => {
                ("XRANGE", vec![name, after.to_string(), after.to_string()], count(1))
            }
            LogRange::After { after, until } => {
                let start = if self.is_known { format!("({after}") } else { after.to_string() };
                ("XRANGE", vec![name, start, until.to_string()], count(COUNT + 1))
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

    /// Takes the answer to that command.
    pub(super) fn take(self, answer: Value, max_event_bytes: usize, metrics: &Metrics) -> Next {
        let Some(read) = Entries::read(answer, &mut Room::default(), max_event_bytes) else {
            return Next::Nonsense;
        };
        let Entries { mut entries, is_cut } = read;
        let LogRange::After { after, until } = self.call.range else {
            return match entries.iter().map(|entry| entry.id).min() {
                Some(oldest) => self.answered(LogReadResult::Start(oldest.previous()), false),
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

    /// Takes what is known of the stream, and where the client has to go on if its entry has vanished.
    pub(super) fn take_info(
        self,
        info: &Info,
        returned_to: Option<EntryId>,
        metrics: &Metrics,
    ) -> Next {
        let Read { entries, is_all } = self.read.unwrap_or_default();
        let LogRange::After { after, until } = self.call.range else {
            let (call, past) = (self.call, LogReadResult::Start(info.last));
            return Next::Answered { call, past, is_reset: false };
        };
        let gap = match (returned_to, info.missing_after(after)) {
            (Some(place), _) => Some((GapReason::RolledBack, place)),
            (None, Some((GapReason::Trimmed, place))) => {
                // What was read before it was trimmed is not missing, nor is what is kept here.
                let read = entries.first().map(|first| first.id.previous());
                let place = read.map_or(place, |read| read.min(place));
                let place = if until > after { place.min(until) } else { place };
                Some((GapReason::Trimmed, place)).filter(|_| place > after)
            }
            (None, gap) => gap,
        };
        let is_reset = gap.is_some_and(|(reason, _)| reason.goes_back());
        // What was read of it is behind an id of another stream.
        let (entries, is_all) = if is_reset { (Vec::new(), false) } else { (entries, is_all) };
        let past = past(&self.call, gap, entries, is_all, metrics);
        Next::Answered { call: self.call, past, is_reset }
    }

    fn answered(self, past: LogReadResult, is_reset: bool) -> Next {
        Next::Answered { call: self.call, past, is_reset }
    }
}

fn past(
    call: &LogRead,
    gap: Option<(GapReason, EntryId)>,
    entries: Vec<Entry>,
    is_all: bool,
    metrics: &Metrics,
) -> LogReadResult {
    let event = |entry: Entry| -> (EntryId, Option<Event>) {
        let fields = entry.fields.as_deref();
        let decoded = fields.map(|fields| decode(call.format, fields));
        if decoded.as_ref().is_some_and(|decoded| decoded.is_malformed) {
            metrics.event_malformed();
        }
        (entry.id, decoded.map(|decoded| decoded.event))
    };
    LogReadResult::Entries { gap, entries: entries.into_iter().map(event).collect(), is_all }
}
