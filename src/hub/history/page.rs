//! The pasts of several channels, put together again in one order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use tokio::time::Instant;

use super::{History, HistoryRecord, RecordContent};
use crate::event::EntryId;
use crate::hub::gap::GapReason;
use crate::hub::inbox::ChannelIndex;
use crate::hub::subject::Subject;
use crate::sse::frame::Frame;

/// The past of a channel, as far as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct ChannelPast<'a> {
    pub(in crate::hub) channel: ChannelIndex,
    pub(in crate::hub) history: &'a History,
    /// What came after this number.
    pub(in crate::hub) after: u64,
}

impl ChannelPast<'_> {
    /// The number after which nothing is missing, for who was told what is missing before.
    pub(in crate::hub) fn complete_after(&self) -> u64 {
        self.after.max(self.history.complete_after)
    }
}

/// An entry of one of several channels.
#[derive(Debug)]
pub(in crate::hub) struct MergedRecord<'a> {
    /// Which of the channels.
    pub(in crate::hub) at: usize,
    pub(in crate::hub) entry: &'a HistoryRecord,
    /// In a log.
    pub(in crate::hub) id: Option<EntryId>,
}

/// The entries of several channels in the order of their numbers.
pub(in crate::hub) fn merged<'a>(
    pasts: &[ChannelPast<'a>],
) -> impl Iterator<Item = MergedRecord<'a>> + use<'a> {
    let after = |past: &ChannelPast<'a>| past.history.after(past.after).peekable();
    let cursors: Vec<_> = pasts.iter().map(after).collect();
    let mut merged = Merged { cursors, next: BinaryHeap::new() };
    for at in 0..pasts.len() {
        merged.line_up(at);
    }
    merged
}

struct Merged<I: Iterator> {
    cursors: Vec<Peekable<I>>,
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a, I: Iterator<Item = (&'a HistoryRecord, Option<EntryId>)>> Merged<I> {
    fn line_up(&mut self, at: usize) {
        if let Some((entry, _)) = self.cursors[at].peek() {
            self.next.push(Reverse((entry.number, at)));
        }
    }
}

impl<'a, I: Iterator<Item = (&'a HistoryRecord, Option<EntryId>)>> Iterator for Merged<I> {
    type Item = MergedRecord<'a>;

    fn next(&mut self) -> Option<MergedRecord<'a>> {
        let Reverse((_, at)) = self.next.pop()?;
        let (entry, id) = self.cursors[at].next().expect("it was seen there");
        self.line_up(at);
        Some(MergedRecord { at, entry, id })
    }
}

/// A piece of a replay over several channels, in the order of the numbers.
#[derive(Clone, Debug, Default)]
pub(in crate::hub) struct Page {
    pub(in crate::hub) entries: Vec<Replayed>,
    /// Whether nothing is left after it.
    pub(in crate::hub) is_last: bool,
    /// Whether it tells of channels that do not reach back far enough.
    pub(in crate::hub) is_expired_told: bool,
}

/// An entry of a page.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Replayed {
    pub(in crate::hub) number: u64,
    pub(in crate::hub) what: ReplayedWhat,
}

#[derive(Clone, Debug)]
pub(in crate::hub) enum ReplayedWhat {
    Event { frame: Frame, subject: Subject, received: Instant },
    Gap { reason: GapReason, channels: Vec<ChannelIndex> },
}

/// What came on these channels, up to about `max_bytes`, but at least one entry. Everything up to
/// `settled` has been heard on all of them.
///
/// Where the pasts of channels no longer reach back far enough, one gap tells of all of them: before
/// anything that comes from where the first of them is complete on. Whoever had an id behind that,
/// and not the gap, would count as complete.
pub(in crate::hub) fn page(pasts: &[ChannelPast<'_>], settled: u64, max_bytes: usize) -> Page {
    let mut expired = ExpiredChannels::find(pasts);
    let mut page = Page::default();
    let mut bytes = 0;
    for MergedRecord { at, entry, .. } in merged(pasts) {
        // First: the next page begins behind the last entry of this one, and would not find it.
        expired.tell_before(entry.number, &mut page);
        let is_full = bytes >= max_bytes && !page.entries.is_empty();
        if is_full && page.entries.last().is_some_and(|last| last.number < entry.number) {
            return page;
        }
        bytes += page.push(entry, pasts[at].channel);
    }
    // Another copy of the newest message may still follow, and comes behind the gap.
    expired.tell_before(settled + 1, &mut page);
    page.is_last = true;
    page
}

impl Page {
    /// All that can be told to a client with an id that is not ours.
    pub(in crate::hub) fn unknown_id(channels: Vec<ChannelIndex>, number: u64) -> Self {
        let what = ReplayedWhat::Gap { reason: GapReason::UnknownId, channels };
        let entries = vec![Replayed { number, what }];
        Self { entries, is_last: true, is_expired_told: false }
    }

    /// Adds an entry; answers how many bytes that were. What several channels share is there once:
    /// a message that was heard through two of them, a gap that was told on all of them.
    fn push(&mut self, entry: &HistoryRecord, channel: ChannelIndex) -> usize {
        if let Some(last) = self.entries.last_mut().filter(|last| last.number == entry.number) {
            match (&entry.kept, &mut last.what) {
                (RecordContent::Event(..), ReplayedWhat::Event { .. }) => return 0,
                (RecordContent::Gap(reason), ReplayedWhat::Gap { reason: known, channels })
                    if reason == known =>
                {
                    channels.push(channel);
                    return 0;
                }
                _ => {}
            }
        }
        let what = match &entry.kept {
            RecordContent::Event(frame, subject) => {
                let (frame, subject, received) = (frame.clone(), *subject, entry.received);
                ReplayedWhat::Event { frame, subject, received }
            }
            RecordContent::Gap(reason) => {
                ReplayedWhat::Gap { reason: *reason, channels: vec![channel] }
            }
        };
        self.entries.push(Replayed { number: entry.number, what });
        entry.kept.bytes()
    }
}

/// The one gap for all channels whose past does not reach back far enough.
#[derive(Debug)]
pub(in crate::hub) struct ExpiredChannels {
    // From where on the first of them is complete, and all of them.
    first: u64,
    all: u64,
    channels: Vec<ChannelIndex>,
}

impl ExpiredChannels {
    pub(in crate::hub) fn find(pasts: &[ChannelPast<'_>]) -> Self {
        let too_short = || pasts.iter().filter(|past| past.history.complete_after > past.after);
        let places = || too_short().map(|past| past.history.complete_after);
        Self {
            first: places().min().unwrap_or_default(),
            all: places().max().unwrap_or_default(),
            channels: too_short().map(|past| past.channel).collect(),
        }
    }

    /// The place and the channels of the gap, if it is to be told before what has this number.
    ///
    /// It stands as far behind as it can, so that it is not told again to a client that comes back;
    /// but before that number, which a message that one of the channels has forgotten may share.
    pub(in crate::hub) fn due_before(&mut self, number: u64) -> Option<(u64, Vec<ChannelIndex>)> {
        let is_due = !self.channels.is_empty() && self.first <= number;
        is_due.then(|| (self.all.min(number - 1), std::mem::take(&mut self.channels)))
    }

    fn tell_before(&mut self, number: u64, page: &mut Page) {
        if let Some((number, channels)) = self.due_before(number) {
            let what = ReplayedWhat::Gap { reason: GapReason::Expired, channels };
            page.entries.push(Replayed { number, what });
            page.is_expired_told = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{ChannelPast, Page, ReplayedWhat};
    use crate::hub::history::{History, RecordContent};
    use crate::hub::inbox::ChannelIndex;
    use crate::hub::subject::Subject;
    use crate::hub::{GapReason, HistorySettings};

    const AGE: Duration = Duration::from_secs(60);

    fn history(count: usize, bytes: usize) -> History {
        History::new(HistorySettings { count, bytes, age: AGE }, 0)
    }

    fn event(bytes: usize) -> RecordContent {
        RecordContent::Event(crate::hub::tests::frame(bytes), Subject::of(0))
    }

    fn page(channels: &[(ChannelIndex, &History)], after: u64, max_bytes: usize) -> Page {
        let past = |&(channel, history)| ChannelPast { channel, history, after };
        super::page(&channels.iter().map(past).collect::<Vec<_>>(), 100, max_bytes)
    }

    fn told(page: &Page) -> Vec<String> {
        let told = |replayed: &super::Replayed| match &replayed.what {
            ReplayedWhat::Event { .. } => replayed.number.to_string(),
            ReplayedWhat::Gap { reason, channels } => {
                format!("{} {} {channels:?}", replayed.number, reason.as_str())
            }
        };
        page.entries.iter().map(told).collect()
    }

    #[test]
    fn what_came_after_a_number_is_given_in_order() {
        let now = Instant::now();
        let (mut a, mut b) = (history(10, 1000), history(10, 1000));
        for (channel, numbers) in [(&mut a, [1, 4].as_slice()), (&mut b, &[2, 3, 5])] {
            for &number in numbers {
                channel.push(number, event(1), now);
            }
        }
        let channels = [(7, &a), (8, &b)];
        for (after, expected) in [
            (0, vec!["1", "2", "3", "4", "5"]),
            (2, vec!["3", "4", "5"]),
            (4, vec!["5"]),
            (5, vec![]),
            (9, vec![]),
        ] {
            let page = page(&channels, after, 1000);
            assert_eq!(told(&page), expected, "after {after}");
            assert!(page.is_last);
        }
    }

    #[test]
    fn a_page_ends_where_it_is_full() {
        let now = Instant::now();
        let mut history = history(10, 1000);
        for number in 1..=5 {
            history.push(number, event(40), now);
        }
        let first = page(&[(0, &history)], 0, 80);
        assert_eq!((told(&first), first.is_last), (vec!["1".into(), "2".into()], false));
        let second = page(&[(0, &history)], 2, 1);
        assert_eq!((told(&second), second.is_last), (vec!["3".into()], false));
        let third = page(&[(0, &history)], 3, 80);
        assert_eq!((told(&third), third.is_last), (vec!["4".into(), "5".into()], true));
    }

    #[test]
    fn the_bounds_hold_and_what_was_forgotten_is_told() {
        let now = Instant::now();
        let (mut few, mut small) = (history(2, 1000), history(10, 100));
        for number in 1..=4 {
            few.push(number, event(1), now);
            small.push(number, event(60), now);
        }
        assert_eq!(told(&page(&[(0, &few)], 0, 1000)), ["2 expired [0]", "3", "4"]);
        assert_eq!(told(&page(&[(0, &few)], 2, 1000)), ["3", "4"]);
        assert_eq!(told(&page(&[(0, &small)], 1, 1000)), ["3 expired [0]", "4"]);
        small.expire(now + 2 * AGE);
        assert_eq!(told(&page(&[(0, &small)], 3, 1000)), ["4 expired [0]"]);
        assert_eq!(told(&page(&[(0, &small)], 4, 1000)), Vec::<String>::new());
        assert_eq!(small.bytes, 0);
    }

    #[test]
    fn one_gap_tells_of_all_channels_before_any_id_behind_a_hole() {
        let now = Instant::now();
        let (mut a, mut b, mut c) = (history(1, 1000), history(1, 1000), history(9, 1000));
        a.push(1, event(1), now);
        a.push(2, event(1), now);
        b.push(3, event(1), now);
        c.push(4, event(1), now);
        b.push(6, event(1), now);
        c.push(7, event(1), now);
        let told = told(&page(&[(0, &a), (1, &b), (2, &c)], 0, 1000));
        assert_eq!(told, ["1 expired [0, 1]", "2", "4", "6", "7"]);
    }

    #[test]
    fn a_kept_gap_is_told_once_for_all_its_channels() {
        let now = Instant::now();
        let (mut a, mut b) = (history(9, 1000), history(9, 1000));
        a.push(1, event(1), now);
        a.push(2, RecordContent::Gap(GapReason::RedisAway), now);
        b.push(2, RecordContent::Gap(GapReason::RedisAway), now);
        b.push(3, event(1), now);
        let channels = [(0, &a), (1, &b)];
        assert_eq!(told(&page(&channels, 0, 1000)), ["1", "2 redis_away [0, 1]", "3"]);
        assert_eq!(told(&page(&channels, 2, 1000)), ["3"]);
    }

    #[test]
    fn a_gap_at_the_end_of_a_page_is_told() {
        let now = Instant::now();
        let (mut a, mut b) = (history(10, 1000), history(10, 1000));
        for number in 1..=3 {
            a.push(number, event(40), now);
        }
        // Heard only since 2.
        b.begin(2);
        let channels = [(7, &a), (8, &b)];
        let mut all = Vec::new();
        let mut number = 0;
        loop {
            let page = page(&channels, number, 40);
            all.extend(told(&page));
            number = page.entries.last().map_or(number, |last| last.number);
            if page.is_last {
                break;
            }
        }
        assert!(all.iter().any(|entry| entry.contains("expired")), "{all:?}");
    }
}
