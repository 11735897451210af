//! Pages of the past of logs.
//!
//! What a client missed is in the histories as far as they reach. What is older is read again by the
//! source, in pieces, up to where the history begins: so the two meet without a hole, however fast the
//! log grows meanwhile.

use std::ops::Range;

use ssegate_sse::{Event, encode};
use tokio::time::Instant;

use super::hub_state::HubState;
use super::pending_log_read::{LogStart, PendingLogRead};
use crate::EntryId;
use crate::gap::GapReason;
use crate::history::History;
use crate::history::page::ReplayPage;
use crate::position::cursor::LogEntry;
use crate::position::resume::Resume;
use crate::requests::shard_request::ReplayRequest;
use crate::requests::source_request::{LogRange, LogRead, LogReadKey, LogReadResult};
use crate::subject::{ChannelIndex, Subject};

impl HubState {
    /// Sends a page, if all of it is in the histories; otherwise returns what the source must read first.
    pub(super) fn replay_logs(
        &mut self,
        request: ReplayRequest,
        channels: &[ChannelIndex],
    ) -> Option<LogRead> {
        let start = |entry: Option<EntryId>| entry.map_or(LogStart::Now, LogStart::After);
        let starts = match &request.resume {
            Resume::After { cursor, .. } => cursor.logs().iter().map(start).collect(),
            Resume::Newest(count) => vec![LogStart::Newest(*count); channels.len()].into(),
            Resume::Whole | Resume::AfterId(_) | Resume::Foreign(_) | Resume::Unknown => {
                vec![LogStart::Now; channels.len()].into()
            }
        };
        self.replay_logs_from(request, channels, starts)
    }

    /// What the source was requested to read and has not: to be requested again on a new connection.
    pub(super) fn unfinished_log_reads(&self) -> Vec<LogRead> {
        self.pending_log_reads.values().map(PendingLogRead::log_read).collect()
    }

    /// Whether this request is neither finished nor given up.
    pub(super) fn awaits_log_read(&self, key: LogReadKey) -> bool {
        let pending = self.pending_log_reads.get(&key.stream);
        pending.is_some_and(|pending| pending.request.ticket == key.ticket)
    }

    /// Takes what the source has read. Returns what it must read next for the same request.
    pub(super) fn finish_log_read(
        &mut self,
        key: LogReadKey,
        result: LogReadResult,
    ) -> Option<LogRead> {
        // The stream may have left, or requested something else since.
        let pending = self.pending_log_reads.get(&key.stream)?;
        if pending.request.ticket != key.ticket {
            return None;
        }
        let PendingLogRead { request, mut starts, log, range } =
            self.pending_log_reads.remove(&key.stream)?;
        let channels = self.channels_of(&request)?;
        let (gap, entries, is_all) = match result {
            LogReadResult::Start(id) => {
                starts[log] = LogStart::First(id);
                (None, Vec::new(), true)
            }
            LogReadResult::Entries { gap, entries, is_all } => (gap, entries, is_all),
        };
        let reached = request.resume.reached();
        let history = self.channels[channels[log] as usize].history.as_ref();
        let gap = match range {
            LogRange::After { after, until } if entries.is_empty() && is_all => {
                gap.or_else(|| forgotten_loss(history?, after.max(until), reached))
            }
            _ => gap,
        };
        let loss = gap.filter(|(reason, _)| reason.goes_back());
        let number = loss.zip(history).and_then(|((_, id), history)| history.loss_at(id));
        let number = number
            .filter(|number| !self.has_earlier_loss((&channels, &starts), log, reached..*number));
        if let (LogRange::After { after, until }, None, true) = (range, gap, is_all) {
            starts[log] = LogStart::Ahead(after.max(until));
        }
        if gap.is_none() && entries.is_empty() && is_all {
            self.touch(&channels);
            return self.replay_logs_from(request, &channels, starts);
        }
        // Where the stream stands before this page.
        if let LogRange::After { after, .. } = range {
            starts[log] = LogStart::After(after);
        }
        let subject = Subject::of(channels[log]);
        let gap = gap.map(|(reason, id)| (reason, id, number.unwrap_or(0)));
        let mut page = read_page((log, subject), gap, entries, request.max_bytes);
        page.start = entries_of(&starts);
        self.send_page(request, page);
        None
    }

    /// Whether a log other than `log` has a loss at its start whose number is in `untold`. The stream has one
    /// number for all its logs: it must not pass a loss before it was sent the gap for it.
    fn has_earlier_loss(
        &self,
        (channels, starts): (&[ChannelIndex], &[LogStart]),
        log: usize,
        untold: Range<u64>,
    ) -> bool {
        let loss = |(channel, start): (&ChannelIndex, &LogStart)| {
            self.channels[*channel as usize].history.as_ref()?.loss_at(start.entry()?)
        };
        let others = channels.iter().zip(starts).enumerate().filter(|(other, _)| *other != log);
        others
            .filter_map(|(_, other)| loss(other))
            .any(|number| number > untold.start && number < untold.end)
    }

    fn replay_logs_from(
        &mut self,
        request: ReplayRequest,
        channels: &[ChannelIndex],
        mut starts: Box<[LogStart]>,
    ) -> Option<LogRead> {
        let reached = request.resume.reached();
        let read = self.locate(channels, &mut starts);
        let read = read.or_else(|| self.uncovered(channels, &starts, reached));
        if let Some((log, range)) = read {
            let pending = PendingLogRead { request, starts, log, range };
            let log_read = pending.log_read();
            self.pending_log_reads.insert(pending.request.stream, pending);
            return Some(log_read);
        }
        let start = entries_of(&starts);
        let slices = self.slices(channels, |log| {
            let history = self.channels[channels[log] as usize].history.as_ref();
            let is_first = matches!(starts[log], LogStart::First(_));
            let reached = if is_first { u64::MAX } else { reached };
            let number =
                history.zip(start[log]).map(|(history, id)| history.number_at(id, reached));
            number.unwrap_or(u64::MAX)
        });
        let settled = self.numbers.settled();
        let mut page = ReplayPage::read(&slices, settled, request.max_bytes, false);
        page.start = start;
        self.send_page(request, page);
        None
    }

    /// Finds the entry of every start; returns what the source must read for that.
    fn locate(
        &self,
        channels: &[ChannelIndex],
        starts: &mut [LogStart],
    ) -> Option<(usize, LogRange)> {
        for (log, (&index, start)) in channels.iter().zip(starts).enumerate() {
            let channel = &self.channels[index as usize];
            *start = match *start {
                LogStart::Now => LogStart::First(channel.newest_entry),
                LogStart::Newest(count) => {
                    let history = channel.history.as_ref();
                    match history.and_then(|history| history.id_before_newest(count)) {
                        Some(id) => LogStart::First(id),
                        None => return Some((log, LogRange::BeforeNewest(count))),
                    }
                }
                known => known,
            };
        }
        None
    }

    /// The first of the logs whose history does not reach back to its start, or does not know it. `reached`
    /// is a number that the stream has come up to, at least. Of logs that begin with a loss, the one with the
    /// smallest number comes first: the stream must not pass a loss before it was sent the gap for it.
    fn uncovered(
        &self,
        channels: &[ChannelIndex],
        starts: &[LogStart],
        reached: u64,
    ) -> Option<(usize, LogRange)> {
        let range = |(log, (&index, start)): (usize, (&ChannelIndex, &LogStart))| {
            let channel = &self.channels[index as usize];
            let history = channel.history.as_ref();
            let floor = history.map_or(EntryId::MAX, |history| history.log_complete_after());
            let is_known = |id| history.is_some_and(|history| history.knows(id, reached));
            let (after, is_covered) = match *start {
                LogStart::After(id) => (id, is_known(id)),
                LogStart::Ahead(id) => (id, floor < id || (floor == id && is_known(id))),
                LogStart::First(id) => (id, floor <= id),
                LogStart::Now | LogStart::Newest(_) => return None,
            };
            let loss = history.and_then(|history| history.dropped_loss(after));
            let number = loss.map_or(0, |(number, _)| number);
            (!is_covered).then_some((number, (log, LogRange::After { after, until: floor })))
        };
        let uncovered = channels.iter().zip(starts).enumerate().filter_map(range);
        uncovered.min_by_key(|(number, _)| *number).map(|(_, read)| read)
    }
}

/// The gap for a stream that has everything up to `id` and has come up to the number `reached`, if the log
/// lost what followed `id`. Needed because the source remembers only some losses: where it has forgotten one,
/// it says that nothing is missing.
fn forgotten_loss(history: &History, id: EntryId, reached: u64) -> Option<(GapReason, EntryId)> {
    let (number, reason) = history.dropped_loss(id)?;
    (number > reached).then_some((reason, id))
}

/// A page of what the source has read again of one log. It has at least one entry; more pages follow.
fn read_page(
    (log, subject): (usize, Subject),
    gap: Option<(GapReason, EntryId, u64)>,
    entries: Vec<(EntryId, Option<Event>)>,
    max_bytes: usize,
) -> ReplayPage {
    let now = Instant::now();
    let mut page = ReplayPage::default();
    if let Some((reason, id, number)) = gap {
        page.push_gap(number, Some(LogEntry { log, id }), reason, vec![log]);
    }
    let mut bytes = 0;
    for (id, event) in entries {
        if bytes >= max_bytes && !page.records.is_empty() {
            break;
        }
        let frame = event.map(|event| encode::frame(&event, Some(&id.to_string())));
        bytes += frame.as_ref().map_or(0, |frame| frame.len());
        page.push_entry(LogEntry { log, id }, frame.map(|frame| (frame, subject)), now);
    }
    page
}

fn entries_of(starts: &[LogStart]) -> Box<[Option<EntryId>]> {
    starts.iter().map(|start| start.entry()).collect()
}
