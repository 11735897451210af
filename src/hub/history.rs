//! The bounded past of one channel.
//!
//! Keeps the newest entries within a count, a size and an age, and gives those after a given
//! number. Pure: time is passed in. Who receives a replay is the hub's business; how several
//! channels are put together again in one order is [`page`]'s.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tokio::time::Instant;

use super::HistorySettings;
use super::gap::GapReason;
use super::inbox::ChannelIndex;
use crate::sse::frame::Frame;

/// Something that happened on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// An event: its frame.
    Event(Frame),
    /// Events may be missing here.
    Gap(GapReason),
}

#[derive(Clone, Debug)]
struct Entry {
    number: u64,
    received: Instant,
    kept: Kept,
}

/// What an entry holds beside the text of its frame: itself, and the allocation of the frame.
const ENTRY_BYTES: usize = size_of::<Entry>() + 80;

/// What is kept of one channel.
#[derive(Debug)]
pub(super) struct History {
    settings: HistorySettings,
    // Invariant: numbers ascend.
    entries: VecDeque<Entry>,
    // Invariant: the sum of the lengths of the frames in `entries`.
    bytes: usize,
    // Everything after this number is in `entries`; what came before is not promised.
    complete_after: u64,
}

impl History {
    /// Nothing yet: the channel is followed from `number` on.
    pub(super) fn new(settings: HistorySettings, number: u64) -> Self {
        Self { settings, entries: VecDeque::new(), bytes: 0, complete_after: number }
    }

    /// What is held here, in bytes.
    pub(super) fn held(&self) -> usize {
        self.bytes + self.entries.len() * ENTRY_BYTES
    }

    /// Forgets everything up to `number`, the newest.
    pub(super) fn forget_all(&mut self, number: u64) {
        self.entries = VecDeque::new();
        self.bytes = 0;
        self.begin(number);
    }

    /// Another route wants more of the same channel.
    pub(super) fn widen(&mut self, settings: HistorySettings) {
        self.settings.count = self.settings.count.max(settings.count);
        self.settings.bytes = self.settings.bytes.max(settings.bytes);
        self.settings.age = self.settings.age.max(settings.age);
    }

    /// The channel is heard only from `number` on.
    pub(super) fn begin(&mut self, number: u64) {
        self.complete_after = self.complete_after.max(number);
    }

    /// Keeps an entry, and forgets what no longer fits. `number` is greater than any before.
    pub(super) fn push(&mut self, number: u64, kept: Kept, received: Instant) {
        debug_assert!(self.entries.back().is_none_or(|newest| newest.number < number));
        self.bytes += kept.bytes();
        self.entries.push_back(Entry { number, received, kept });
        while self.entries.len() > self.settings.count || self.bytes > self.settings.bytes {
            self.forget_oldest();
        }
        self.expire(received);
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|oldest| {
            now.saturating_duration_since(oldest.received) > self.settings.age
        }) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.kept.bytes();
            self.complete_after = oldest.number;
        }
    }

    /// The entries after `number`: found by halving, not by looking through all.
    fn after(&self, number: u64) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.range(start..)
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Self::Event(frame) => frame.len(),
            Self::Gap(_) => 0,
        }
    }
}

/// A piece of a replay over several channels, in the order of the numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) entries: Vec<Replayed>,
    /// Whether nothing is left after it.
    pub(super) is_last: bool,
}

/// An entry of a page.
#[derive(Clone, Debug)]
pub(super) struct Replayed {
    pub(super) number: u64,
    pub(super) what: ReplayedWhat,
}

#[derive(Clone, Debug)]
pub(super) enum ReplayedWhat {
    Event { frame: Frame, received: Instant },
    Gap { reason: GapReason, channels: Vec<ChannelIndex> },
}

/// What came after `number` on these channels, up to about `max_bytes`, but at least one entry.
///
/// Where a channel's past no longer reaches back to `number`, a gap stands at the place from which
/// on it is complete.
pub(super) fn page(channels: &[(ChannelIndex, &History)], number: u64, max_bytes: usize) -> Page {
    let mut cursors: Vec<_> =
        channels.iter().map(|(_, history)| history.after(number).peekable()).collect();
    let mut next: BinaryHeap<Reverse<(u64, usize)>> = cursors
        .iter_mut()
        .enumerate()
        .filter_map(|(at, cursor)| cursor.peek().map(|entry| Reverse((entry.number, at))))
        .collect();
    let mut expired = Expired::find(channels, number);
    let mut page = Page::default();
    let mut bytes = 0;
    while let Some(Reverse((number, at))) = next.pop() {
        // First: the next page begins behind the last entry of this one, and would not find it.
        expired.tell_before(number, &mut page);
        let is_full = bytes >= max_bytes && !page.entries.is_empty();
        if is_full && page.entries.last().is_some_and(|last| last.number < number) {
            return page;
        }
        let entry = cursors[at].next().expect("it was seen there");
        bytes += page.push(entry, channels[at].0);
        if let Some(following) = cursors[at].peek() {
            next.push(Reverse((following.number, at)));
        }
    }
    expired.tell_before(u64::MAX, &mut page);
    page.is_last = true;
    page
}

impl Page {
    /// All that can be told to a client with an id that is not ours.
    pub(super) fn unknown_id(channels: Vec<ChannelIndex>, number: u64) -> Self {
        let what = ReplayedWhat::Gap { reason: GapReason::UnknownId, channels };
        Self { entries: vec![Replayed { number, what }], is_last: true }
    }

    /// Adds an entry; answers how many bytes that were. What several channels share is there once:
    /// a message that was heard through two of them, a gap that was told on all of them.
    fn push(&mut self, entry: &Entry, channel: ChannelIndex) -> usize {
        if let Some(last) = self.entries.last_mut().filter(|last| last.number == entry.number) {
            match (&entry.kept, &mut last.what) {
                (Kept::Event(_), ReplayedWhat::Event { .. }) => return 0,
                (Kept::Gap(reason), ReplayedWhat::Gap { reason: known, channels })
                    if reason == known =>
                {
                    channels.push(channel);
                    return 0;
                }
                _ => {}
            }
        }
        let what = match &entry.kept {
            Kept::Event(frame) => {
                ReplayedWhat::Event { frame: frame.clone(), received: entry.received }
            }
            Kept::Gap(reason) => ReplayedWhat::Gap { reason: *reason, channels: vec![channel] },
        };
        self.entries.push(Replayed { number: entry.number, what });
        entry.kept.bytes()
    }
}

/// The one gap for all channels whose past does not reach back far enough.
struct Expired {
    complete_after: u64,
    channels: Vec<ChannelIndex>,
}

impl Expired {
    fn find(channels: &[(ChannelIndex, &History)], number: u64) -> Self {
        let too_short = || channels.iter().filter(|(_, history)| history.complete_after > number);
        Self {
            complete_after: too_short().map(|(_, h)| h.complete_after).max().unwrap_or_default(),
            channels: too_short().map(|(index, _)| *index).collect(),
        }
    }

    /// Tells it when everything that comes before it has been.
    fn tell_before(&mut self, number: u64, page: &mut Page) {
        if !self.channels.is_empty() && self.complete_after < number {
            let channels = std::mem::take(&mut self.channels);
            let what = ReplayedWhat::Gap { reason: GapReason::Expired, channels };
            page.entries.push(Replayed { number: self.complete_after, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{History, Kept, Page, ReplayedWhat, page};
    use crate::hub::{GapReason, HistorySettings};

    const AGE: Duration = Duration::from_secs(60);

    fn history(count: usize, bytes: usize) -> History {
        History::new(HistorySettings { count, bytes, age: AGE }, 0)
    }

    fn event(bytes: usize) -> Kept {
        Kept::Event(crate::hub::tests::frame(bytes))
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
    fn one_gap_is_told_for_all_channels_and_no_id_runs_ahead() {
        let now = Instant::now();
        let (mut a, mut b, mut c) = (history(1, 1000), history(1, 1000), history(9, 1000));
        a.push(1, event(1), now);
        a.push(2, event(1), now);
        b.push(3, event(1), now);
        c.push(4, event(1), now);
        b.push(6, event(1), now);
        c.push(7, event(1), now);
        let told = told(&page(&[(0, &a), (1, &b), (2, &c)], 0, 1000));
        assert_eq!(told, ["2", "3 expired [0, 1]", "4", "6", "7"]);
    }

    #[test]
    fn a_kept_gap_is_told_once_for_all_its_channels() {
        let now = Instant::now();
        let (mut a, mut b) = (history(9, 1000), history(9, 1000));
        a.push(1, event(1), now);
        a.push(2, Kept::Gap(GapReason::RedisAway), now);
        b.push(2, Kept::Gap(GapReason::RedisAway), now);
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
