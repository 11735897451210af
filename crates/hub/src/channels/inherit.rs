//! Continues the histories of an earlier process.
//!
//! After a restart, nobody knows what was published between the end of the earlier process and the first
//! confirmation of this one. So each channel begins with its past and a gap behind it, as after a break. The
//! gap is removed when another gateway says that nothing came meanwhile.
//!
//! At a takeover, both processes receive the messages of the server for a while. Their pasts are joined at a
//! mark that both have received: the messages of the earlier process up to that mark, and those of this one
//! after it. So none is missing, and none comes twice.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Hub;
use super::channel::Channel;
use super::hole::Hole;
use super::hub_state::HubState;
use crate::fleet::answer::Answer;
use crate::fleet::marks::ReceivedMark;
use crate::fleet::name::EventName;
use crate::fleet::rules::FleetRule;
use crate::gap::GapReason;
use crate::history::History;
use crate::history::budget::HistoryBudget;
use crate::history::record::{HistoryRecord, RecordContent};
use crate::history::retention::HistorySettings;
use crate::position::event_id::EventId;
use crate::snapshot::{ChannelSnapshot, Snapshot};
use crate::subject::{ChannelIndex, Subject};
use crate::{SourceRequest, Topic};

/// How long a channel of an earlier process is followed, in addition to its linger, so that its clients can
/// come back.
const RETURN: Duration = Duration::from_secs(30);

/// The result of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continued {
    /// This hub goes on with the histories of this number of channels.
    With(usize),
    /// Not all channels are confirmed here, or both have received no mark since: try again with a newer snapshot.
    NotYet,
    /// It cannot: clients are served already, or the earlier process has used more numbers than were left to it.
    TooLate,
    /// It cannot: there is no fleet, and so no mark at which the runs could be joined.
    NoFleet,
}

/// The seam: a mark that both processes have received.
#[derive(Clone, Copy, Debug)]
struct Seam {
    mark: ReceivedMark,
    /// The number at which it stood in the earlier run.
    earlier: u64,
}

impl Hub {
    /// The numbers of this run begin after `newest`. Called before anything is followed, by the hub of a
    /// process that takes over from another. That one is at a lower number, and continues meanwhile.
    pub fn begin_after(&self, newest: u64) {
        let mut state = self.state.borrow_mut();
        state.numbers.begin_after(newest);
        state.begins_after = newest;
    }

    /// Continues what an earlier process has left. Called before the source has confirmed anything: the
    /// messages after a confirmation are not in the snapshot. Returns the number of channels.
    ///
    /// Messages between the two processes are missing, which is a gap. It is removed if another gateway of
    /// the fleet says that there were none.
    pub fn restore(&self, snapshot: &Snapshot) -> usize {
        self.state.borrow_mut().restore(snapshot, Instant::now())
    }

    /// Whether it continues what an earlier process has left.
    pub fn has_restored(&self) -> bool {
        !self.state.borrow().earlier_runs.is_empty()
    }

    /// Continues the histories of a process that still runs, without a gap. Called before any client is
    /// served, after [`Hub::begin_after`], and again while it returns [`Continued::NotYet`]. With `is_last`,
    /// channels that would need another try are left out.
    pub fn take_over(&self, snapshot: &Snapshot, is_last: bool) -> Continued {
        self.state.borrow_mut().take_over(snapshot, is_last, Instant::now())
    }
}

impl HubState {
    // After a restart.

    /// Continues what an earlier process has left, before anything is confirmed. Returns the number of channels.
    pub(super) fn restore(&mut self, snapshot: &Snapshot, now: Instant) -> usize {
        debug_assert!(!self.channels.iter().any(|(_, channel)| channel.is_confirmed()));
        self.numbers.begin_after(snapshot.newest);
        self.earlier_runs = snapshot.runs_up_to(snapshot.newest);
        self.fleet.marks.continue_from(&snapshot.marks);
        let newest_mark = self.fleet.marks.newest();
        let mut restored = 0;
        for (rank, past) in snapshot.channels.iter().enumerate() {
            let Some(index) = self.open_to_inherit(&past.topic, rank, now) else { continue };
            // Its marks are those of the pub/sub connection.
            let mark = newest_mark.filter(|_| !past.topic.is_sharded());
            let hole = Hole::behind(past, snapshot, mark);
            let channel = &mut self.channels[index as usize];
            let Some(settings) = channel.history.as_ref().map(History::settings) else { continue };
            channel.put_history(past.history(settings, index, u64::MAX), &mut self.budget, now);
            channel.hole = Some(Box::new(hole));
            restored += 1;
        }
        self.evict_histories();
        restored
    }

    /// Follows a channel of the earlier process, if a route reads it and there is room. It lingers at first:
    /// its clients will come back in the next moments. `rank`: how many channels were used later.
    fn open_to_inherit(
        &mut self,
        topic: &Topic,
        rank: usize,
        now: Instant,
    ) -> Option<ChannelIndex> {
        if let Some(&index) = self.by_topic.get(topic) {
            return Some(index);
        }
        let retention = self.settings.retention.of(topic)?;
        if retention.history.is_none() || self.is_full() {
            return None;
        }
        let (index, must_follow) = self.open(topic.clone(), retention, None);
        let rank = Duration::from_micros(rank as u64).min(RETURN);
        self.begin_linger(index, now + RETURN - rank);
        if must_follow {
            self.source_requests().put(topic.clone(), SourceRequest::Follow);
        }
        Some(index)
    }

    // At a takeover.

    /// Continues the histories of a process that still runs. With `is_last`, channels that would need another
    /// try are left out.
    pub(super) fn take_over(
        &mut self,
        snapshot: &Snapshot,
        is_last: bool,
        now: Instant,
    ) -> Continued {
        // A client that was served may have numbers of this run from before the seam.
        if self.was_joined || snapshot.newest > self.begins_after {
            return Continued::TooLate;
        }
        if !self.fleet.has_marks() {
            return Continued::NoFleet;
        }
        let Some(seam) = self.seam(snapshot).filter(|_| self.fleet.is_up()) else {
            return Continued::NotYet;
        };
        let (mut ready, mut is_waiting) = (Vec::new(), false);
        for (rank, past) in snapshot.channels.iter().enumerate() {
            let Some(index) = self.open_to_inherit(&past.topic, rank, now) else { continue };
            let channel = &self.channels[index as usize];
            let is_heard = channel.is_confirmed() && channel.confirmed <= seam.mark.number;
            if is_heard && past.is_whole_at(seam.earlier) && channel.has_all_since(seam) {
                ready.push((index, past));
            } else {
                is_waiting = true;
            }
        }
        if is_waiting && !is_last {
            return Continued::NotYet;
        }
        self.meet(seam, snapshot, &ready, now);
        Continued::With(ready.len())
    }

    /// The newest mark that both processes have received.
    fn seam(&self, snapshot: &Snapshot) -> Option<Seam> {
        let after = self.fleet.named_after?;
        let earlier: HashMap<_, _> =
            snapshot.marks.iter().map(|mark| (mark.id, mark.number)).collect();
        let common = |mark: ReceivedMark| Some(Seam { mark, earlier: *earlier.get(&mark.id)? });
        let marks = self.fleet.marks.last(usize::MAX);
        marks.filter(|mark| after <= mark.number).filter_map(common).last()
    }

    fn meet(
        &mut self,
        seam: Seam,
        snapshot: &Snapshot,
        ready: &[(ChannelIndex, &ChannelSnapshot)],
        now: Instant,
    ) {
        let number = seam.mark.number;
        // Messages that came before the mark have numbers that do not compare with those of the earlier run.
        for (_, channel) in &mut self.channels {
            channel.answers.clear();
            if !channel.is_log()
                && !channel.topic.is_sharded()
                && FleetRule::NothingBeforeSeam.holds()
            {
                channel.begin_again_after(number, &mut self.budget);
            }
        }
        for &(index, past) in ready {
            let channel = &mut self.channels[index as usize];
            let Some(settings) = channel.history.as_ref().map(History::settings) else { continue };
            let up_to =
                if FleetRule::PastUpToSeam.holds() { seam.earlier } else { snapshot.newest };
            let earlier = past.history(settings, index, up_to);
            channel.newest = channel.newest.max(earlier.newest_number());
            channel.confirmed = past.confirmed;
            channel.whole_since = channel.whole_since.map(|since| match since > number {
                true => since,
                false => past.whole_since,
            });
            let joined = |history: &mut History| history.continue_from(number, earlier);
            channel.change_history(&mut self.budget, joined);
            channel.change_history(&mut self.budget, |history| history.expire(now));
            channel.enter_budget(&mut self.budget);
        }
        let marks = snapshot.marks.iter().take_while(|mark| mark.id != seam.mark.id);
        let marks: Vec<_> = marks.copied().chain([seam.mark]).collect();
        self.fleet.marks.continue_from(&marks);
        self.earlier_runs = snapshot.runs_up_to(seam.earlier);
        self.answers_from = number;
        self.evict_histories();
    }

    // After both.

    /// The number of this run for an id of an earlier run.
    pub(super) fn number_of_earlier(&self, id: &EventId) -> Option<u64> {
        let &(_, newest) = self.earlier_runs.iter().find(|(run, _)| *run == id.run)?;
        (id.number <= newest).then_some(id.number)
    }

    /// Takes the answer of another gateway about a channel that has a hole since a restart: perhaps no
    /// message came.
    pub(super) fn close_hole(&mut self, index: ChannelIndex, answer: &Answer) {
        let channel = &mut self.channels[index as usize];
        let closed = channel.hole.as_deref().and_then(|hole| hole.closed_by(answer, channel.tag));
        if let Some(number) = closed {
            channel.hole = None;
            channel.change_history(&mut self.budget, |history| history.remove_gap(number));
        }
    }
}

impl Channel {
    /// The channel is confirmed with this number: what came since the end of the earlier process may be missing.
    pub(super) fn begin_with_hole(&mut self, number: u64) -> Option<(RecordContent, EventName)> {
        let is_new = self.hole.as_deref_mut().is_some_and(|hole| hole.begin(number));
        let gap = (RecordContent::Gap(GapReason::RedisAway), EventName::default());
        is_new.then_some(gap)
    }

    fn put_history(&mut self, past: History, budget: &mut HistoryBudget, now: Instant) {
        self.newest = self.newest.max(past.newest_number());
        self.used = past.newest_number();
        self.change_history(budget, |history| *history = past);
        self.change_history(budget, |history| history.set_bounds(history.settings(), now));
        self.enter_budget(budget);
    }

    fn has_all_since(&self, seam: Seam) -> bool {
        let complete_after = self.history.as_ref().map(History::complete_after);
        complete_after.is_some_and(|number| number <= seam.mark.number)
    }

    fn begin_again_after(&mut self, number: u64, budget: &mut HistoryBudget) {
        self.confirmed = self.confirmed.max(number);
        self.whole_since = self.whole_since.map(|since| since.max(number));
        self.change_history(budget, |history| history.begin_after(number));
    }
}

impl ChannelSnapshot {
    /// Whether it was followed, and had missed nothing up to this number.
    fn is_whole_at(&self, number: u64) -> bool {
        self.is_followed && self.confirmed.max(self.whole_since).max(self.complete_after) <= number
    }

    /// Its history up to a number, for the channel with this index.
    fn history(&self, settings: HistorySettings, index: ChannelIndex, up_to: u64) -> History {
        let records = self.records.iter().take_while(|record| record.number <= up_to);
        let records = records.map(|record| record_of(record, index));
        History::of_records(settings, (self.complete_after, self.dropped), records)
    }
}

/// The record, of the channel with this index.
fn record_of(record: &HistoryRecord, index: ChannelIndex) -> HistoryRecord {
    let mut record = record.clone();
    if let RecordContent::Event(_, subject) = &mut record.content
        && subject.hash().is_none()
    {
        *subject = Subject::of(index);
    }
    record
}
