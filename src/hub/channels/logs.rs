//! Logs: channels whose source keeps their entries, and numbers them itself.
//!
//! What is live goes the way of every event. What a client missed is in the history as far as that
//! reaches, and is otherwise read again by the source, in pieces, up to where the history begins;
//! so the two meet without a hole, however fast the log grows meanwhile.

use std::collections::HashMap;

use tokio::time::Instant;

use super::channel::Confirmation;
use super::hub_state::HubState;
use crate::event::{ChannelName, EntryId, Event, Format};
use crate::hub::gap::GapReason;
use crate::hub::history::RecordContent;
use crate::hub::history::page::{ChannelPast, merged};
use crate::hub::inbox::{ChannelIndex, LogPage, LogReplayed, LogReplayedWhat, Message};
use crate::hub::position::resume::{LogStart, Resume};
use crate::hub::requests::shard_request::{Caller, ReplayCall};
use crate::hub::subject::Subject;
use crate::sse::encode;

/// A piece of a log's past that the source is to read again.
#[derive(Clone, Debug)]
pub struct PastCall {
    /// Which log.
    pub log: ChannelName,
    /// How its entries are decoded.
    pub format: Format,
    /// Which of its entries.
    pub wanted: PastWanted,
    key: PastKey,
}

/// Which entries of a log are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastWanted {
    /// The first of those after `after`, up to `until`; and whether any are missing right after
    /// `after`.
    After {
        /// An entry that a client knows.
        after: EntryId,
        /// The last that is wanted.
        until: EntryId,
    },
    /// The id before the newest entries, so many.
    BeforeNewest(usize),
}

/// Whom a piece of the past is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PastKey {
    caller: Caller,
    ticket: u64,
}

/// What the source answers to a [`PastCall`].
#[derive(Debug)]
pub enum LogPast {
    /// To [`PastWanted::After`].
    Entries {
        /// What is missing right after the client's entry, and the id up to which.
        gap: Option<(GapReason, EntryId)>,
        /// The first entries after that; one that is too large is `None`.
        entries: Vec<(EntryId, Option<Event>)>,
        /// Whether these are all.
        is_all: bool,
    },
    /// To [`PastWanted::BeforeNewest`].
    Start(EntryId),
}

impl PastKey {
    pub(super) fn caller(self) -> Caller {
        self.caller
    }
}

impl PastCall {
    /// Whom it is for.
    pub fn key(&self) -> PastKey {
        self.key
    }
}

/// Calls for the past of logs that the source is to answer.
#[derive(Debug, Default)]
pub(super) struct LogCalls {
    // The source reads.
    asked: HashMap<Caller, Asked>,
}

impl LogCalls {
    pub(super) fn withdraw(&mut self, caller: Caller) {
        self.asked.remove(&caller);
    }
}

#[derive(Debug)]
struct Asked {
    call: ReplayCall,
    starts: Box<[LogStart]>,
    // Which of the logs.
    log: usize,
    wanted: PastWanted,
}

impl HubState {
    /// The source reads this log, from the entry `id` on. Answers calls that the source is to serve.
    pub(super) fn begin_log(&mut self, name: &str, id: EntryId) -> Vec<PastCall> {
        let mut callers = Vec::new();
        let number = self.numbers.newest();
        for &index in self.names.readings_of_log(name) {
            let channel = &mut self.channels[index as usize];
            if channel.confirmation == Confirmation::Given {
                continue;
            }
            channel.confirmation = Confirmation::Given;
            channel.entry = id;
            channel.change_history(&mut self.memory, |history| history.begin_log(number, id));
            callers.append(&mut channel.awaited_by);
            let message = || Message::Confirmed { channel: index, number, entry: id };
            self.ports.deal(channel.shards, message);
        }
        let again = |caller| {
            let call = self.waiting.remove(&caller)?;
            self.look_into(caller, call)
        };
        callers.into_iter().filter_map(again).collect()
    }

    /// An entry of the log: `decode` makes an event of it for each format in which the log is read,
    /// or `None` where it is too large.
    pub(super) fn entry(
        &mut self,
        name: &str,
        id: EntryId,
        received: Instant,
        mut decode: impl FnMut(Format) -> Option<Event>,
    ) {
        let number = self.numbers.take_aside();
        for &index in self.names.readings_of_log(name) {
            let channel = &mut self.channels[index as usize];
            if channel.confirmation != Confirmation::Given || id <= channel.entry {
                continue;
            }
            channel.entry = id;
            let Some(event) = decode(channel.topic.format) else {
                let reason = GapReason::TooLarge;
                channel.keep(index, number, RecordContent::Gap(reason), received, &mut self.memory);
                let gap = || Message::LogGap { reason, channel: index, entry: id, number };
                self.ports.deal(channel.shards, gap);
                continue;
            };
            let frame = encode::frame(&event, Some(&id.to_string()));
            self.ports.deal(channel.shards, || Message::Entry {
                channel: index,
                number,
                id,
                frame: frame.clone(),
                received,
            });
            let kept = RecordContent::Event(frame, Subject::of(index));
            channel.keep(index, number, kept, received, &mut self.memory);
        }
        self.stay_within_memory();
    }

    /// Entries of the log are missing up to `entry`; or the log was begun anew there, or has come back
    /// without what followed.
    pub(super) fn log_gap(&mut self, name: &str, reason: GapReason, entry: EntryId) {
        let number = self.numbers.take_aside();
        for &index in self.names.readings_of_log(name) {
            let channel = &mut self.channels[index as usize];
            if channel.confirmation != Confirmation::Given {
                continue;
            }
            if reason == GapReason::Reset {
                channel.entry = entry;
                channel.change_history(&mut self.memory, |history| {
                    history.begin_log(number, entry);
                });
            } else if reason == GapReason::RolledBack {
                let newest = std::mem::replace(&mut channel.entry, entry);
                channel.change_history(&mut self.memory, |history| {
                    history.roll_back(number, entry, newest);
                });
                let now = Instant::now();
                channel.keep(index, number, RecordContent::Gap(reason), now, &mut self.memory);
            } else {
                channel.entry = channel.entry.max(entry);
                let now = Instant::now();
                channel.keep(index, number, RecordContent::Gap(reason), now, &mut self.memory);
            }
            let entry = channel.entry;
            let gap = || Message::LogGap { reason, channel: index, entry, number };
            self.ports.deal(channel.shards, gap);
        }
    }

    /// What the source is asked and has not answered: to be asked again on a new connection.
    pub(super) fn unanswered(&self) -> Vec<PastCall> {
        let again = |(&caller, asked): (&Caller, &Asked)| asked.past_call(caller);
        self.log_calls.asked.iter().map(again).collect()
    }

    /// Sends a piece of the past, where that is all in the histories; else returns what the source is
    /// to read first.
    pub(super) fn replay_logs(
        &mut self,
        caller: Caller,
        mut call: ReplayCall,
        indices: &[ChannelIndex],
    ) -> Option<PastCall> {
        let mut unknown = None;
        let resume = std::mem::replace(&mut call.resume, Resume::Unknown);
        let mut starts = match resume {
            Resume::Logs(starts) => starts,
            _ => {
                unknown = Some(GapReason::UnknownId);
                vec![LogStart::Now; indices.len()].into()
            }
        };
        let wanted = self.locate(indices, &mut starts).or_else(|| self.uncovered(indices, &starts));
        if let Some((log, wanted)) = wanted {
            let asked = Asked { call, starts, log, wanted };
            let past_call = asked.past_call(caller);
            self.log_calls.asked.insert(caller, asked);
            return Some(past_call);
        }
        let page = self.log_page(indices, &starts, unknown, call.max_bytes);
        self.tell_log_page(caller, call, page);
        None
    }

    /// What the source has read. Answers what it is to read next for the same call.
    pub(super) fn past(&mut self, key: PastKey, past: LogPast) -> Option<PastCall> {
        let PastKey { caller, ticket } = key;
        // It is gone, or has asked for something else since.
        let asked = self.log_calls.asked.remove(&caller)?;
        if asked.call.ticket != ticket {
            self.log_calls.asked.insert(caller, asked);
            return None;
        }
        let Asked { mut call, mut starts, log, wanted } = asked;
        let (gap, entries, is_all) = match past {
            LogPast::Start(id) => {
                starts[log] = LogStart::After(id);
                (None, Vec::new(), true)
            }
            LogPast::Entries { gap, entries, is_all } => {
                if let (PastWanted::After { after, until }, None, true) = (wanted, gap, is_all) {
                    starts[log] = LogStart::Ahead(after.max(until));
                }
                (gap, entries, is_all)
            }
        };
        if gap.is_none() && entries.is_empty() && is_all {
            call.resume = Resume::Logs(starts);
            return self.look_into(caller, call);
        }
        // The client has it up to here; what this page has it will have then.
        if let PastWanted::After { after, .. } = wanted {
            starts[log] = LogStart::After(after);
        }
        let page = read_page(log, &starts, gap, entries, call.max_bytes);
        self.tell_log_page(caller, call, page);
        None
    }

    /// Gives every start an entry; answers what the source has to be asked for that.
    fn locate(
        &self,
        indices: &[ChannelIndex],
        starts: &mut [LogStart],
    ) -> Option<(usize, PastWanted)> {
        for (log, (&index, start)) in indices.iter().zip(starts).enumerate() {
            let channel = &self.channels[index as usize];
            *start = match *start {
                LogStart::Now => LogStart::After(channel.entry),
                LogStart::Newest(count) => {
                    let history = channel.history.as_ref();
                    match history.and_then(|history| history.id_before_newest(count)) {
                        Some(id) => LogStart::After(id),
                        None => return Some((log, PastWanted::BeforeNewest(count))),
                    }
                }
                known => known,
            };
        }
        None
    }

    /// The first of the logs whose history does not reach back to where the client is.
    fn uncovered(
        &self,
        indices: &[ChannelIndex],
        starts: &[LogStart],
    ) -> Option<(usize, PastWanted)> {
        let wanted = |(log, (&index, start)): (usize, (&ChannelIndex, &LogStart))| {
            let channel = &self.channels[index as usize];
            let floor = channel.history.as_ref().map_or(EntryId::MAX, |h| h.log_floor());
            let (after, is_covered) = match *start {
                LogStart::After(id) => {
                    let has_vanished =
                        || channel.history.as_ref().is_some_and(|h| h.has_vanished(id));
                    (id, floor <= id && id <= channel.entry && !has_vanished())
                }
                LogStart::Ahead(id) => (id, floor <= id),
                LogStart::Now | LogStart::Newest(_) => return None,
            };
            (!is_covered).then_some((log, PastWanted::After { after, until: floor }))
        };
        indices.iter().zip(starts).enumerate().find_map(wanted)
    }

    /// A piece of the past out of the histories.
    fn log_page(
        &self,
        indices: &[ChannelIndex],
        starts: &[LogStart],
        unknown: Option<GapReason>,
        max_bytes: usize,
    ) -> LogPage {
        let places = places(starts);
        let past = |(log, &channel): (usize, &ChannelIndex)| {
            let history = self.channels[channel as usize].history.as_ref()?;
            let after = history.number_at(places[log]?);
            Some(ChannelPast { channel, history, after })
        };
        let pasts: Vec<_> = indices.iter().enumerate().filter_map(past).collect();
        debug_assert_eq!(pasts.len(), indices.len(), "every log keeps a little");
        let mut entries: Vec<LogReplayed> = Vec::new();
        // One gap for all of them.
        if let (Some(reason), Some(id)) = (unknown, places[0]) {
            entries.push(LogReplayed { log: 0, id, what: LogReplayedWhat::Gap(reason) });
        }
        let mut bytes = 0;
        let mut is_last = true;
        for item in merged(&pasts) {
            if bytes >= max_bytes {
                is_last = false;
                break;
            }
            let Some(id) = item.id else { continue };
            let what = match &item.entry.kept {
                RecordContent::Event(frame, _) => {
                    bytes += frame.len();
                    LogReplayedWhat::Event { frame: frame.clone(), received: item.entry.received }
                }
                RecordContent::Gap(reason) => LogReplayedWhat::Gap(*reason),
            };
            entries.push(LogReplayed { log: item.at, id, what });
        }
        LogPage { places, entries, is_last }
    }

    fn tell_log_page(&mut self, (shard, member): Caller, call: ReplayCall, page: LogPage) {
        let (ReplayCall { topics, ticket, .. }, number) = (call, self.numbers.settled());
        self.ports.tell(shard, Message::LogReplay { member, ticket, topics, page, number });
    }
}

impl Asked {
    fn past_call(&self, caller: Caller) -> PastCall {
        let topic = &self.call.topics[self.log];
        PastCall {
            log: topic.subscription.name.clone(),
            format: topic.format,
            wanted: self.wanted,
            key: PastKey { caller, ticket: self.call.ticket },
        }
    }
}

/// A piece of the past that the source has read again. At least one entry goes with it.
fn read_page(
    log: usize,
    starts: &[LogStart],
    gap: Option<(GapReason, EntryId)>,
    read: Vec<(EntryId, Option<Event>)>,
    max_bytes: usize,
) -> LogPage {
    let now = Instant::now();
    let gap = gap.map(|(reason, id)| LogReplayed { log, id, what: LogReplayedWhat::Gap(reason) });
    let mut entries: Vec<_> = gap.into_iter().collect();
    let mut bytes = 0;
    for (id, event) in read {
        if bytes >= max_bytes {
            break;
        }
        let what = match event {
            Some(event) => {
                let frame = encode::frame(&event, Some(&id.to_string()));
                bytes += frame.len();
                LogReplayedWhat::Event { frame, received: now }
            }
            None => LogReplayedWhat::Gap(GapReason::TooLarge),
        };
        entries.push(LogReplayed { log, id, what });
    }
    LogPage { places: places(starts), entries, is_last: false }
}

fn places(starts: &[LogStart]) -> Box<[Option<EntryId>]> {
    let place = |start: &LogStart| match *start {
        LogStart::After(id) | LogStart::Ahead(id) => Some(id),
        LogStart::Now | LogStart::Newest(_) => None,
    };
    starts.iter().map(place).collect()
}
