//! A stream as a Redis has it, for tests: what its commands return, without a Redis.

use ssegate_hub::EntryId;

use super::entry::{EntriesReply, StreamEntry};
use super::fork_search::{ForkOutcome, ForkSearch, SearchStep};
use super::info::StreamInfo;
use super::progress::{Comparison, StreamProgress};

/// Commands that a search may take: one for each checkpoint, and pages.
const MAX_COMMANDS: usize = 100;

/// A stream. The contents of an entry are a number.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelStream {
    pub(super) entries: Vec<(EntryId, u32)>,
    pub(super) last: EntryId,
    pub(super) added: u64,
    pub(super) max_deleted: EntryId,
    /// It is of a Redis before 7.
    pub(super) is_old: bool,
}

impl ModelStream {
    /// A stream with entries of these milliseconds, whose contents are their ids.
    pub(super) fn of(milliseconds: impl IntoIterator<Item = u64>) -> Self {
        let mut stream = Self::default();
        for ms in milliseconds {
            stream.add(EntryId { milliseconds: ms, sequence: 0 }, u32::try_from(ms).unwrap());
        }
        stream
    }

    /// `XADD`.
    pub(super) fn add(&mut self, id: EntryId, contents: u32) {
        assert!(id > self.last, "{id} after {}", self.last);
        self.entries.push((id, contents));
        self.last = id;
        self.added += 1;
    }

    /// `XTRIM MAXLEN`.
    pub(super) fn trim(&mut self, length: usize) {
        self.entries.drain(..self.entries.len().saturating_sub(length));
    }

    /// `XDEL`.
    pub(super) fn delete(&mut self, id: EntryId) {
        self.entries.retain(|(known, _)| *known != id);
        self.max_deleted = self.max_deleted.max(id);
    }

    /// `XINFO STREAM`.
    pub(super) fn info(&self) -> StreamInfo {
        if self.last == EntryId::ZERO {
            return StreamInfo::ABSENT;
        }
        let newest = self.entries.last().filter(|(id, _)| *id == self.last);
        StreamInfo {
            last: self.last,
            first: self.entries.first().map(|(id, _)| *id),
            length: self.entries.len() as u64,
            added: (!self.is_old).then_some(self.added),
            max_deleted: (!self.is_old).then_some(self.max_deleted),
            last_fingerprint: newest.map(|(_, contents)| *contents),
        }
    }

    /// What a gateway does on a new connection.
    pub(super) fn connect(&self, progress: &mut StreamProgress) -> Comparison {
        self.compare(progress, true)
    }

    /// What it does now and then.
    pub(super) fn check(&self, progress: &mut StreamProgress) -> Comparison {
        self.compare(progress, false)
    }

    /// `XREAD`, of so many entries: each with what is missing before it.
    pub(super) fn read(
        &self,
        progress: &mut StreamProgress,
        count: usize,
    ) -> Vec<(EntryId, u32, Comparison)> {
        let last = progress.last.expect("reading has started");
        let due = self.entries.iter().filter(|(id, _)| *id > last).take(count);
        let read = |&(id, contents): &(EntryId, u32)| {
            (id, contents, progress.record_entry(id, Some(contents)))
        };
        due.map(read).collect()
    }

    fn compare(&self, progress: &mut StreamProgress, is_new_connection: bool) -> Comparison {
        progress.begin_check();
        let info = self.info();
        match progress.compare(&info, is_new_connection) {
            Comparison::Doubtful => {
                let outcome = self.search(progress, info);
                progress.conclude(outcome, &info, is_new_connection)
            }
            comparison => comparison,
        }
    }

    fn search(&self, progress: &StreamProgress, info: StreamInfo) -> ForkOutcome {
        let trail = progress.trail().expect("reading has started");
        let mut step = ForkSearch::begin(info, &trail);
        for _ in 0..MAX_COMMANDS {
            match step {
                SearchStep::Done(outcome) => return outcome,
                SearchStep::Fetch(fork) => {
                    let reply = self.reply(&fork);
                    step = fork.handle(&reply, &trail);
                }
            }
        }
        panic!("a search does not end: {step:?}");
    }

    fn reply(&self, fork: &ForkSearch) -> EntriesReply {
        let (command, arguments) = fork.command("s");
        let [_, first, last, _, count] = &arguments[..] else { panic!("{arguments:?}") };
        let count: usize = count.parse().unwrap();
        let entries: Vec<_> = match (command, &**last) {
            ("XREVRANGE", "-") => {
                let id = EntryId::parse(first.as_bytes()).unwrap();
                let entries = self.entries.iter().rev();
                entries.filter(|(known, _)| *known <= id).take(count).collect()
            }
            ("XRANGE", "+") => {
                let id = EntryId::parse(first.strip_prefix('(').unwrap().as_bytes()).unwrap();
                self.entries.iter().filter(|(known, _)| *known > id).take(count).collect()
            }
            _ => panic!("{command} {arguments:?}"),
        };
        let entry = |&&(id, contents): &&(EntryId, u32)| StreamEntry {
            id,
            fields: None,
            fingerprint: Some(contents),
        };
        EntriesReply { entries: entries.iter().map(entry).collect(), is_truncated: false }
    }
}
