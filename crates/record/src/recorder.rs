//! One channel at one gateway: names what it receives, and keeps it until the log has it.

use std::collections::VecDeque;

use crate::{AppendAnswer, AppendRequest, LogItem, RecordId, RecordRule};

/// Records one channel.
///
/// Outlives the connections. What was received without a hole is a run; only the last run may still grow. `P` is a
/// message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelRecorder<P> {
    runs: VecDeque<Run<P>>,
    // Messages have names: nothing was missed since the mark.
    is_named: bool,
    // The last run still grows.
    is_open: bool,
    // The newest mark before the newest message, and which message after that it was.
    counted: RecordId,
    // A request is on its way.
    is_asked: bool,
}

/// What was received without a hole, and is not known to be in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run<P> {
    // Everything after this id was received.
    since: RecordId,
    items: VecDeque<(RecordId, LogItem<P>)>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendKind {
    /// To find out how far the log reaches.
    Look,
    /// To append.
    Items,
    /// To append, with a gap in front if others have not appended what is missing there.
    ItemsBehindGap,
}

impl<P> Default for ChannelRecorder<P> {
    fn default() -> Self {
        let counted = RecordId::default();
        Self { runs: VecDeque::new(), is_named: false, is_open: false, counted, is_asked: false }
    }
}

impl<P: Clone> ChannelRecorder<P> {
    /// A mark has come after the subscription was confirmed, or after a hole: everything after it is received.
    pub fn begin(&mut self, mark: u64) {
        self.is_named = true;
        if !self.is_open {
            self.is_open = true;
            self.runs.push_back(Run { since: RecordId::start(mark), items: VecDeque::new() });
        }
    }

    /// Whether messages have names and are kept.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The place behind everything that was received, where `newest_mark` is the newest mark; `None` while nothing
    /// has a name.
    pub fn place(&self, newest_mark: u64) -> Option<RecordId> {
        self.is_named.then(|| match self.counted.mark == newest_mark {
            true => self.counted,
            false => RecordId::start(newest_mark),
        })
    }

    /// Receives a message. Returns its id; `None` if it cannot be named yet.
    pub fn receive(&mut self, newest_mark: u64, message: P) -> Option<RecordId> {
        if !self.is_named {
            return None;
        }
        let k = if self.counted.mark == newest_mark { self.counted.k + 1 } else { 1 };
        self.counted = RecordId { mark: newest_mark, k };
        if let Some(run) = self.runs.back_mut().filter(|_| self.is_open) {
            run.items.push_back((self.counted, LogItem::Message(message)));
        }
        Some(self.counted)
    }

    /// Seals the log up to this mark, which has just come: a reader waits to know whether it is complete up to there.
    pub fn seal(&mut self, mark: u64) {
        if let Some(run) = self.runs.back_mut().filter(|_| self.is_open) {
            run.items.push_back((RecordId::start(mark), LogItem::Seal));
        }
    }

    /// Records that messages are missed from here on, until [`Self::begin`].
    pub fn lose(&mut self) {
        if RecordRule::NoNameOverHole.holds() {
            (self.is_named, self.is_open) = (false, false);
        }
    }

    /// The log has another order of marks: what was received so far is not complete there. [`Self::begin`] follows.
    pub fn end_run(&mut self) {
        self.is_open = false;
    }

    /// Drops all that is not in the log yet, for lack of memory. Messages keep their names, and are kept again from
    /// the next mark on ([`Self::begin`]). Returns whether there was any.
    pub fn overflow(&mut self) -> bool {
        let had_items = self.has_items();
        self.runs.clear();
        self.is_open = false;
        had_items
    }

    /// Whether there are items that may not be in the log yet.
    pub fn has_items(&self) -> bool {
        self.runs.iter().any(|run| !run.items.is_empty())
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.items.len()).sum()
    }

    /// Whether there is nothing, not even a run that may still grow.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The items, the oldest first.
    pub fn items(&self) -> impl Iterator<Item = &(RecordId, LogItem<P>)> {
        self.runs.iter().flat_map(|run| &run.items)
    }

    /// The id of the oldest item.
    pub fn oldest(&self) -> Option<RecordId> {
        self.runs.iter().find_map(|run| run.items.front()).map(|(id, _)| *id)
    }

    /// The id since which everything was received, for the next request; `None` if there is no request.
    pub fn since(&self) -> Option<RecordId> {
        self.runs.iter().find(|run| !run.items.is_empty()).map(|run| run.since)
    }

    /// Whether a message waits, and not only the place of a mark.
    pub fn has_messages(&self) -> bool {
        self.items().any(|(_, item)| matches!(item, LogItem::Message(_)))
    }

    /// Returns the next request, with at most `most` items; `None` while one is pending, and if there is nothing to
    /// append.
    pub fn request(&mut self, kind: AppendKind, most: usize) -> Option<AppendRequest<P>> {
        if self.is_asked {
            return None;
        }
        while self.runs.front().is_some_and(|run| run.items.is_empty()) && !self.is_growing() {
            self.end_first();
        }
        let run = self.runs.front_mut().filter(|run| !run.items.is_empty())?;
        let most = if kind == AppendKind::Look { 0 } else { most };
        let items = run.items.iter().take(most).cloned().collect();
        if !RecordRule::KeptUntilSeen.holds() {
            run.items.drain(..most.min(run.items.len()));
        }
        self.is_asked = true;
        let may_gap = kind == AppendKind::ItemsBehindGap;
        Some(AppendRequest { since: run.since, may_gap, items })
    }

    /// Takes the answer to the request. Calls `taken` with each item that need not be kept any more: the log has it, or
    /// a gap in its place.
    pub fn answer(&mut self, answer: AppendAnswer, mut taken: impl FnMut(&LogItem<P>)) {
        self.is_asked = false;
        if answer.is_missing {
            return;
        }
        for run in &mut self.runs {
            while let Some((id, _)) = run.items.front()
                && *id <= answer.top
            {
                run.since = run.since.max(*id);
                if let Some((_, item)) = run.items.pop_front() {
                    taken(&item);
                }
            }
        }
    }

    /// The connection on which the request was sent is lost: whether it was carried out is not known.
    pub fn forget_request(&mut self) {
        self.is_asked = false;
    }

    /// Whether the first run may still grow.
    fn is_growing(&self) -> bool {
        self.is_open && self.runs.len() == 1
    }

    fn end_first(&mut self) {
        let ended = self.runs.pop_front();
        if let (Some(ended), Some(next)) = (ended, self.runs.front_mut())
            && !RecordRule::HoleEndsSince.holds()
        {
            next.since = ended.since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AppendKind, ChannelRecorder};
    use crate::{AppendAnswer, AppendRequest, LogItem, RecordId};

    fn id(mark: u64, k: u64) -> RecordId {
        RecordId { mark, k }
    }

    fn ids(request: Option<AppendRequest<char>>) -> Vec<RecordId> {
        request.map_or_else(Vec::new, |request| request.items.iter().map(|(id, _)| *id).collect())
    }

    fn reached(mark: u64, k: u64) -> AppendAnswer {
        AppendAnswer { top: id(mark, k), is_missing: false }
    }

    fn taken(recorder: &mut ChannelRecorder<char>, answer: AppendAnswer) -> usize {
        let mut count = 0;
        recorder.answer(answer, |_| count += 1);
        count
    }

    #[test]
    fn messages_are_counted_from_each_mark_on() {
        let mut recorder = ChannelRecorder::default();
        assert_eq!(recorder.receive(4, 'x'), None, "no mark has come since the confirmation");
        recorder.begin(5);
        let named = [5, 5, 7, 7].map(|mark| recorder.receive(mark, 'x'));
        assert_eq!(named, [id(5, 1), id(5, 2), id(7, 1), id(7, 2)].map(Some));
    }

    #[test]
    fn what_the_log_has_is_dropped_and_the_rest_is_asked_again() {
        let mut recorder = ChannelRecorder::default();
        recorder.begin(5);
        for message in ['a', 'b', 'c'] {
            recorder.receive(5, message);
        }
        let first = recorder.request(AppendKind::Items, 2);
        assert_eq!(ids(first), [id(5, 1), id(5, 2)]);
        assert_eq!(recorder.request(AppendKind::Items, 2), None, "one is on its way");
        assert_eq!(taken(&mut recorder, reached(5, 2)), 2);
        let next = recorder.request(AppendKind::Items, 2).expect("one is left");
        assert_eq!((next.since, next.items.len()), (id(5, 2), 1));
        recorder.forget_request();
        assert_eq!(ids(recorder.request(AppendKind::Items, 2)), [id(5, 3)]);
        let missing = AppendAnswer { top: id(5, 2), is_missing: true };
        assert_eq!(taken(&mut recorder, missing), 0);
        assert_eq!(recorder.oldest(), Some(id(5, 3)));
    }

    #[test]
    fn what_came_before_a_hole_is_appended_first() {
        let mut recorder = ChannelRecorder::default();
        recorder.begin(5);
        recorder.receive(5, 'a');
        recorder.lose();
        assert_eq!(recorder.receive(5, 'x'), None);
        recorder.begin(7);
        recorder.receive(7, 'b');
        recorder.seal(8);
        assert_eq!(ids(recorder.request(AppendKind::Items, 9)), [id(5, 1)]);
        taken(&mut recorder, reached(5, 1));
        let next = recorder.request(AppendKind::ItemsBehindGap, 9).expect("the next run");
        assert_eq!((next.since, next.may_gap), (id(7, 0), true));
        assert_eq!(next.items[1], (id(8, 0), LogItem::Seal));
    }

    #[test]
    fn a_look_has_no_items_and_an_overflow_drops_them() {
        let mut recorder = ChannelRecorder::default();
        recorder.begin(5);
        assert!(recorder.request(AppendKind::Look, 9).is_none(), "there is nothing to look for");
        recorder.receive(5, 'a');
        let look = recorder.request(AppendKind::Look, 9).expect("one waits");
        assert_eq!((look.items.len(), recorder.len()), (0, 1));
        assert!(recorder.overflow() && recorder.is_empty() && !recorder.is_open());
        taken(&mut recorder, reached(5, 1));
        assert_eq!(recorder.receive(5, 'b'), Some(id(5, 2)), "its clients are sent it");
        assert!(!recorder.overflow(), "it was not kept");
        assert_eq!((recorder.place(5), recorder.place(6)), (Some(id(5, 2)), Some(id(6, 0))));
    }
}
