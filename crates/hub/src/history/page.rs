//! A page of a replay: a piece of the past of all channels of a stream, in one order.

use std::sync::Arc;

use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use super::merge::{HistorySlice, MergedRecord, merge};
use super::record::{HistoryRecord, RecordContent};
use crate::EntryId;
use crate::gap::GapReason;
use crate::position::cursor::LogEntry;
use crate::subject::Subject;

/// A page. Channels are numbered in the order in which the stream names them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplayPage {
    /// Where the stream stands in its logs before the first record.
    pub(crate) start: Box<[Option<EntryId>]>,
    pub(crate) records: Vec<ReplayRecord>,
    /// Whether no page follows.
    pub(crate) is_last: bool,
    /// The next page has only the records of each channel after this number.
    pub(crate) floors: Option<Arc<[u64]>>,
}

/// A record of a page.
#[derive(Clone, Debug)]
pub(crate) struct ReplayRecord {
    /// 0 for entries that the source has read again: only live events are numbered.
    pub(crate) number: u64,
    /// Where the channels are logs.
    pub(crate) entry: Option<LogEntry>,
    pub(crate) content: ReplayContent,
}

#[derive(Clone, Debug)]
pub(crate) enum ReplayContent {
    Event {
        frame: Frame,
        subject: Subject,
        received: Instant,
    },
    Gap {
        reason: GapReason,
        channels: Vec<usize>,
    },
    /// Where the client stood on these channels is unknown: what comes next on them was published after now.
    ///
    /// It has no id: a client that is cut off before its next event comes back with the id that it has.
    UnknownPlace {
        reason: GapReason,
        channels: Vec<usize>,
    },
}

impl ReplayPage {
    /// The page for a client whose id is unknown: one gap on all channels. A stream of logs begins behind
    /// the entries at `start`.
    pub(crate) fn unknown_id(channels: usize, number: u64, start: Box<[Option<EntryId>]>) -> Self {
        let entry = start.first().copied().flatten().map(|id| LogEntry { log: 0, id });
        let mut page = Self { start, is_last: true, ..Self::default() };
        page.push_gap(number, entry, GapReason::UnknownId, (0..channels).collect());
        page
    }

    /// The page for a client whose id is older than all that is kept, and was given by another gateway: one
    /// gap on all channels.
    pub(crate) fn expired(channels: usize, number: u64) -> Self {
        let mut page = Self { is_last: true, ..Self::default() };
        page.push_gap(number, None, GapReason::Expired, (0..channels).collect());
        page
    }

    /// Reads the records of `slices` up to about `max_bytes`, but at least one. Each slice is of one
    /// channel of the stream. Everything up to `settled` has come on all of them.
    ///
    /// Where histories no longer reach back far enough, one gap names all of these channels. It comes before
    /// the first record after which one of them is complete: a client with that record's id, but without the
    /// gap, would be taken for complete when it comes back. With `is_gap_first` it comes before every record:
    /// other gateways know the ids of the records, and may have the channels complete after them.
    pub(crate) fn read(
        slices: &[HistorySlice<'_>],
        settled: u64,
        max_bytes: usize,
        is_gap_first: bool,
    ) -> Self {
        let mut expired = ExpiredChannels::find(slices);
        let mut page = Self::default();
        let mut bytes = 0;
        for merged in merge(slices) {
            if is_gap_first && page.records.is_empty() {
                expired.first = 0;
            }
            let number = merged.record.number;
            // Before the page may end: the next page begins behind the last record of this one, and would
            // not find the gap.
            page.push_expired(&mut expired, number, slices);
            let is_full = bytes >= max_bytes && !page.records.is_empty();
            // Records with one number, of several channels, are on one page.
            if is_full && page.records.last().is_some_and(|last| last.number < number) {
                return page;
            }
            bytes += page.push(&merged);
        }
        // Another copy of the newest message may follow, and comes behind the gap.
        page.push_expired(&mut expired, settled + 1, slices);
        page.is_last = true;
        page
    }

    /// Puts a gap first, for the channels on which the client's position is unknown, with the reason.
    pub(crate) fn begin_without_place(&mut self, reason: GapReason, channels: Vec<usize>) {
        let content = ReplayContent::UnknownPlace { reason, channels };
        self.records.insert(0, ReplayRecord { number: 0, entry: None, content });
    }

    /// Adds an entry of a log that was read again; `None`: it is too large.
    pub(crate) fn push_entry(
        &mut self,
        entry: LogEntry,
        event: Option<(Frame, Subject)>,
        received: Instant,
    ) {
        match event {
            Some((frame, subject)) => {
                let content = ReplayContent::Event { frame, subject, received };
                self.records.push(ReplayRecord { number: 0, entry: Some(entry), content });
            }
            None => self.push_gap(0, Some(entry), GapReason::TooLarge, vec![entry.log]),
        }
    }

    pub(crate) fn push_gap(
        &mut self,
        number: u64,
        entry: Option<LogEntry>,
        reason: GapReason,
        channels: Vec<usize>,
    ) {
        let content = ReplayContent::Gap { reason, channels };
        self.records.push(ReplayRecord { number, entry, content });
    }

    /// Adds a record; returns its bytes.
    fn push(&mut self, merged: &MergedRecord<'_>) -> usize {
        let MergedRecord { slice, record, entry } = *merged;
        if entry.is_none() && self.is_shared(slice, record) {
            return 0;
        }
        let entry = entry.map(|id| LogEntry { log: slice, id });
        match &record.content {
            RecordContent::Event(frame, subject) => {
                let (frame, subject, received) = (frame.clone(), *subject, record.received);
                let content = ReplayContent::Event { frame, subject, received };
                self.records.push(ReplayRecord { number: record.number, entry, content });
            }
            RecordContent::Gap(reason) => self.push_gap(record.number, entry, *reason, vec![slice]),
        }
        record.content.bytes()
    }

    /// Whether the last record is the same on another channel: a message that matched several subscriptions,
    /// or a gap on several channels. Such a gap gets this channel, too.
    fn is_shared(&mut self, channel: usize, record: &HistoryRecord) -> bool {
        let last = self.records.last_mut().filter(|last| last.number == record.number);
        match (&record.content, last.map(|last| &mut last.content)) {
            (RecordContent::Event(..), Some(ReplayContent::Event { .. })) => true,
            (RecordContent::Gap(reason), Some(ReplayContent::Gap { reason: known, channels }))
                if reason == known =>
            {
                channels.push(channel);
                true
            }
            _ => false,
        }
    }

    fn push_expired(
        &mut self,
        expired: &mut ExpiredChannels,
        number: u64,
        slices: &[HistorySlice<'_>],
    ) {
        if let Some((number, channels)) = expired.take_before(number) {
            self.push_gap(number, None, GapReason::Expired, channels);
            // The gap covers what is missing before. The next page has everything that comes after.
            self.floors = Some(slices.iter().map(HistorySlice::complete_after).collect());
        }
    }
}

/// The one gap for all channels whose histories no longer reach back far enough.
#[derive(Debug)]
pub(crate) struct ExpiredChannels {
    // The number after which the first of them is complete, and the number after which all are.
    first: u64,
    all: u64,
    // The slices of these channels.
    slices: Vec<usize>,
}

impl ExpiredChannels {
    pub(crate) fn find(slices: &[HistorySlice<'_>]) -> Self {
        let incomplete = || slices.iter().enumerate().filter(|(_, slice)| slice.is_incomplete());
        let numbers = || incomplete().map(|(_, slice)| slice.history.complete_after());
        Self {
            first: numbers().min().unwrap_or_default(),
            all: numbers().max().unwrap_or_default(),
            slices: incomplete().map(|(slice, _)| slice).collect(),
        }
    }

    /// Takes the gap, as its own number and its slices, if it must be sent before the record with `number`.
    ///
    /// Its own number is the highest possible, so that a client that comes back is not sent it again. But it
    /// is below `number`: a message that one of the channels has dropped may have that number, too.
    pub(crate) fn take_before(&mut self, number: u64) -> Option<(u64, Vec<usize>)> {
        let is_due = !self.slices.is_empty() && self.first <= number;
        is_due.then(|| (self.all.min(number - 1), std::mem::take(&mut self.slices)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{HistorySlice, ReplayContent, ReplayPage, ReplayRecord};
    use crate::fleet::name::EventName;
    use crate::history::History;
    use crate::history::record::RecordContent;
    use crate::subject::Subject;
    use crate::{GapReason, HistorySettings};

    const AGE: Duration = Duration::from_secs(60);

    fn history(count: usize, bytes: usize) -> History {
        History::new(HistorySettings { count, bytes, age: AGE }, 0)
    }

    fn event(bytes: usize) -> (RecordContent, EventName) {
        let content = RecordContent::Event(crate::tests::frame(bytes), Subject::of(0));
        (content, EventName::default())
    }

    fn gap(reason: GapReason) -> (RecordContent, EventName) {
        (RecordContent::Gap(reason), EventName::default())
    }

    fn page(channels: &[&History], after: u64, max_bytes: usize) -> ReplayPage {
        let slices = channels.iter().map(|history| HistorySlice { channel: 7, history, after });
        let slices: Vec<_> = slices.collect();
        ReplayPage::read(&slices, 100, max_bytes, false)
    }

    /// The number of each event; of a gap its reason and channels, too.
    fn records(page: &ReplayPage) -> Vec<String> {
        let text = |record: &ReplayRecord| match &record.content {
            ReplayContent::Event { .. } => record.number.to_string(),
            ReplayContent::Gap { reason, channels } => {
                format!("{} {} {channels:?}", record.number, reason.as_str())
            }
            ReplayContent::UnknownPlace { channels, .. } => format!("unknown {channels:?}"),
        };
        page.records.iter().map(text).collect()
    }

    #[test]
    fn records_after_a_number_come_in_its_order() {
        let now = Instant::now();
        let (mut a, mut b) = (history(10, 1000), history(10, 1000));
        for (channel, numbers) in [(&mut a, [1, 4].as_slice()), (&mut b, &[2, 3, 5])] {
            for &number in numbers {
                channel.push(number, None, event(1), now);
            }
        }
        let channels = [&a, &b];
        for (after, expected) in [
            (0, vec!["1", "2", "3", "4", "5"]),
            (2, vec!["3", "4", "5"]),
            (4, vec!["5"]),
            (5, vec![]),
            (9, vec![]),
        ] {
            let page = page(&channels, after, 1000);
            assert_eq!(records(&page), expected, "after {after}");
            assert!(page.is_last);
        }
    }

    #[test]
    fn a_page_ends_where_it_is_full() {
        let now = Instant::now();
        let mut history = history(10, 1000);
        for number in 1..=5 {
            history.push(number, None, event(40), now);
        }
        let first = page(&[&history], 0, 80);
        assert_eq!((records(&first), first.is_last), (vec!["1".into(), "2".into()], false));
        let second = page(&[&history], 2, 1);
        assert_eq!((records(&second), second.is_last), (vec!["3".into()], false));
        let third = page(&[&history], 3, 80);
        assert_eq!((records(&third), third.is_last), (vec!["4".into(), "5".into()], true));
    }

    #[test]
    fn a_gap_comes_before_what_is_left_of_a_trimmed_history() {
        let now = Instant::now();
        let (mut few, mut small) = (history(2, 1000), history(10, 100));
        for number in 1..=4 {
            few.push(number, None, event(1), now);
            small.push(number, None, event(60), now);
        }
        assert_eq!(records(&page(&[&few], 0, 1000)), ["2 expired [0]", "3", "4"]);
        assert_eq!(records(&page(&[&few], 2, 1000)), ["3", "4"]);
        assert_eq!(records(&page(&[&small], 1, 1000)), ["3 expired [0]", "4"]);
        small.expire(now + 2 * AGE);
        assert_eq!(records(&page(&[&small], 3, 1000)), ["4 expired [0]"]);
        assert_eq!(records(&page(&[&small], 4, 1000)), Vec::<String>::new());
        assert_eq!(small.bytes, 0);
    }

    #[test]
    fn one_gap_names_all_trimmed_channels_before_the_first_complete_one() {
        let now = Instant::now();
        let (mut a, mut b, mut c) = (history(1, 1000), history(1, 1000), history(9, 1000));
        a.push(1, None, event(1), now);
        a.push(2, None, event(1), now);
        b.push(3, None, event(1), now);
        c.push(4, None, event(1), now);
        b.push(6, None, event(1), now);
        c.push(7, None, event(1), now);
        let page = page(&[&a, &b, &c], 0, 1000);
        assert_eq!(records(&page), ["1 expired [0, 1]", "2", "4", "6", "7"]);
    }

    #[test]
    fn a_recorded_gap_comes_once_for_all_its_channels() {
        let now = Instant::now();
        let (mut a, mut b) = (history(9, 1000), history(9, 1000));
        a.push(1, None, event(1), now);
        a.push(2, None, gap(GapReason::RedisAway), now);
        b.push(2, None, gap(GapReason::RedisAway), now);
        b.push(3, None, event(1), now);
        let channels = [&a, &b];
        assert_eq!(records(&page(&channels, 0, 1000)), ["1", "2 redis_away [0, 1]", "3"]);
        assert_eq!(records(&page(&channels, 2, 1000)), ["3"]);
    }

    #[test]
    fn a_gap_at_the_end_of_a_page_is_not_lost() {
        let now = Instant::now();
        let (mut a, mut b) = (history(10, 1000), history(10, 1000));
        for number in 1..=3 {
            a.push(number, None, event(40), now);
        }
        // Confirmed at 2.
        b.begin(2);
        let channels = [&a, &b];
        let mut all = Vec::new();
        let mut number = 0;
        loop {
            let page = page(&channels, number, 40);
            all.extend(records(&page));
            number = page.records.last().map_or(number, |last| last.number);
            if page.is_last {
                break;
            }
        }
        assert!(all.iter().any(|record| record.contains("expired")), "{all:?}");
    }
}
