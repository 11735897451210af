//! Going on with the histories of an earlier process.
//!
//! After a restart, nobody knows what was published between the end of the one and the first confirmation of
//! the other. So each channel begins with its past and a gap behind it, as after a break, until another
//! gateway has said that nothing came meanwhile.
//!
//! At a takeover both hear the server for a while. At a mark that both have heard, their pasts are put
//! together: what the earlier one had up to that mark, and what this one has heard since. So no message is
//! missing there, and none is twice.

use std::collections::HashMap;

use tokio::time::Instant;

use super::Hub;
use super::channel::Channel;
use super::hub_state::HubState;
use crate::fleet::answer::{Answer, StandsAt};
use crate::fleet::marks::HeardMark;
use crate::fleet::name::{EventName, FleetPosition};
use crate::gap::GapReason;
use crate::history::History;
use crate::history::budget::HistoryBudget;
use crate::history::record::{HistoryRecord, RecordContent};
use crate::history::retention::HistorySettings;
use crate::position::event_id::{EventId, RunTag};
use crate::snapshot::{ChannelSnapshot, ContentSnapshot, RecordSnapshot, Snapshot};
use crate::subject::{ChannelIndex, Subject};
use crate::{SourceRequest, Topic};

/// What came of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continued {
    /// This hub goes on with the histories of so many channels.
    With(usize),
    /// Not all of it is confirmed here, or no mark has been heard by both since: try it again with a newer
    /// snapshot.
    NotYet,
    /// It cannot: clients are served already.
    TooLate,
    /// It cannot: there are no marks, by which the place would be found where the runs meet.
    NoFleet,
}

/// Where the runs meet: a mark that both have heard.
#[derive(Clone, Copy, Debug)]
struct Seam {
    mark: HeardMark,
    /// The number at which it stood in the earlier run.
    earlier: u64,
}

impl Hub {
    /// The numbers of this run begin behind `newest`. Called before anything is followed, by the hub of a process
    /// that takes over from another, which is at a lower number and goes on meanwhile.
    pub fn begin_after(&self, newest: u64) {
        let mut state = self.state.borrow_mut();
        state.numbers.begin_after(newest);
        state.begins_after = newest;
    }

    /// Goes on with what an earlier process has left when it ended. Called before any client is served. Returns
    /// the number of channels.
    ///
    /// What was published between the two is missing, which is a gap: unless another gateway of the fleet says
    /// that nothing was.
    pub fn restore(&self, snapshot: &Snapshot) -> usize {
        self.state.borrow_mut().restore(snapshot, Instant::now())
    }

    /// Goes on with what a process has that still runs, without a gap. Called before any client is served, after
    /// [`Hub::begin_after`], until it is no longer [`Continued::NotYet`]. With `is_last`, what would need
    /// another try is left out.
    pub fn take_over(&self, snapshot: &Snapshot, is_last: bool) -> Continued {
        self.state.borrow_mut().take_over(snapshot, is_last, Instant::now())
    }
}

impl HubState {
    // After a restart.

    /// Goes on with what an earlier process has left, before anything is followed. Returns the number of
    /// channels.
    pub(super) fn restore(&mut self, snapshot: &Snapshot, now: Instant) -> usize {
        self.numbers.begin_after(snapshot.newest);
        self.earlier_runs = snapshot.runs_up_to(snapshot.newest);
        self.fleet.marks.replace_up_to(self.numbers.newest(), &snapshot.marks);
        let newest_mark = self.fleet.marks.newest();
        let mut restored = 0;
        for past in &snapshot.channels {
            let Some(index) = self.open_to_inherit(&past.topic, now) else { continue };
            let hole = Hole { number: None, end: End::of(past, snapshot, newest_mark) };
            let channel = &mut self.channels[index as usize];
            let Some(settings) = channel.history.as_ref().map(History::settings) else { continue };
            channel.put_history(past.history(settings, index, u64::MAX), &mut self.budget, now);
            channel.hole = Some(Box::new(hole));
            if channel.is_confirmed() {
                let number = self.numbers.take();
                if let Some(gap) = channel.begin_with_hole(number) {
                    channel.keep(number, gap, now, &mut self.budget);
                }
            }
            restored += 1;
        }
        self.evict_histories();
        restored
    }

    /// Follows a channel of the earlier process, if a route reads it and there is room.
    fn open_to_inherit(&mut self, topic: &Topic, now: Instant) -> Option<ChannelIndex> {
        if let Some(&index) = self.by_topic.get(topic) {
            return Some(index);
        }
        let retention = self.settings.retention.of(topic)?;
        if retention.history.is_none() || self.is_full() {
            return None;
        }
        let (index, must_follow) = self.open(topic.clone(), retention, None);
        self.begin_linger(index, now);
        if must_follow {
            self.source_requests().put(topic.clone(), SourceRequest::Follow);
        }
        Some(index)
    }

    // At a takeover.

    /// Goes on with what a process has that still runs. With `is_last`, channels that are not confirmed here
    /// are left out.
    pub(super) fn take_over(
        &mut self,
        snapshot: &Snapshot,
        is_last: bool,
        now: Instant,
    ) -> Continued {
        // A client that was served has numbers of this run from before the place where the runs meet.
        if self.was_joined || snapshot.newest > self.begins_after {
            return Continued::TooLate;
        }
        if !self.fleet.has_marks() {
            return Continued::NoFleet;
        }
        let Some(seam) = self.seam(snapshot).filter(|_| self.fleet.is_up()) else {
            return Continued::NotYet;
        };
        let mut ready = Vec::new();
        for past in &snapshot.channels {
            let Some(index) = self.open_at_seam(&past.topic, now) else { continue };
            let channel = &self.channels[index as usize];
            let is_heard = channel.is_confirmed() && channel.confirmed <= seam.mark.number;
            if !is_heard && !is_last {
                return Continued::NotYet;
            }
            if is_heard && past.is_whole_at(seam.earlier) && channel.has_all_since(seam) {
                ready.push((index, past));
            }
        }
        self.meet(seam, snapshot, &ready, now);
        Continued::With(ready.len())
    }

    /// The newest mark that both have heard.
    fn seam(&self, snapshot: &Snapshot) -> Option<Seam> {
        let newest = self.fleet.newest_mark()?;
        let earlier: HashMap<_, _> =
            snapshot.marks.iter().map(|mark| (mark.id, mark.number)).collect();
        let after = self.fleet.named_after?;
        let common = |mark: HeardMark| Some(Seam { mark, earlier: *earlier.get(&mark.id)? });
        let marks = self.fleet.marks.last(usize::MAX);
        let marks = marks.filter(|mark| after <= mark.number && mark.number <= newest.number);
        marks.filter_map(common).last()
    }

    /// A channel of the earlier process, if this one hears it: one that is fed may not be open.
    fn open_at_seam(&mut self, topic: &Topic, now: Instant) -> Option<ChannelIndex> {
        if let Some(&index) = self.by_topic.get(topic) {
            return Some(index);
        }
        let retention = self.settings.retention.of(topic)?;
        let is_fed = self.origin(topic, None).fed_since.is_some()
            && !self.names.plain.contains_key(&topic.subscription.name);
        if retention.history.is_none() || !is_fed || self.is_full() {
            return None;
        }
        let (index, must_follow) = self.open(topic.clone(), retention, None);
        debug_assert!(!must_follow, "it is fed");
        self.begin_linger(index, now);
        Some(index)
    }

    fn meet(
        &mut self,
        seam: Seam,
        snapshot: &Snapshot,
        ready: &[(ChannelIndex, &ChannelSnapshot)],
        now: Instant,
    ) {
        let number = seam.mark.number;
        // What was heard before the mark has numbers that do not compare with those of the earlier run.
        for (_, channel) in &mut self.channels {
            channel.answers.clear();
            if !channel.is_log() && channel.is_confirmed() {
                channel.begin_again_after(number, &mut self.budget);
            }
        }
        for &(index, past) in ready {
            let channel = &mut self.channels[index as usize];
            let Some(settings) = channel.history.as_ref().map(History::settings) else { continue };
            let earlier = past.history(settings, index, seam.earlier);
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
        let marks = snapshot.marks.iter().filter(|mark| mark.number <= seam.earlier);
        let mut marks: Vec<_> = marks.filter(|mark| mark.id != seam.mark.id).copied().collect();
        marks.push(seam.mark);
        self.fleet.marks.replace_up_to(number, &marks);
        self.earlier_runs = snapshot.runs_up_to(seam.earlier);
        self.answers_from = number;
        self.evict_histories();
    }

    // What both leave behind.

    /// The number of this run that an id of an earlier one means.
    pub(super) fn number_of_earlier(&self, id: &EventId) -> Option<u64> {
        let &(_, newest) = self.earlier_runs.iter().find(|(run, _)| *run == id.run)?;
        (id.number <= newest).then_some(id.number)
    }

    /// Takes what another gateway says of a channel that has a hole since a restart: perhaps nothing came.
    pub(super) fn close_hole(&mut self, index: ChannelIndex, answer: &Answer) {
        let channel = &mut self.channels[index as usize];
        let Some(Hole { number: Some(number), end }) = channel.hole.as_deref() else { return };
        if end.is_quiet_since(answer, channel) {
            let number = *number;
            channel.hole = None;
            channel.change_history(&mut self.budget, |history| history.remove_gap(number));
        }
    }
}

/// What may be missing of a channel since a restart.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    /// The number of the gap; `None` before the channel is confirmed.
    number: Option<u64>,
    end: End,
}

impl Hole {
    /// Whether a client at this number stands before it.
    pub(super) fn is_after(&self, number: u64) -> bool {
        self.number.is_none_or(|hole| number < hole)
    }
}

/// Where the earlier process stood on a channel when it ended.
#[derive(Clone, Debug)]
struct End {
    run: RunTag,
    number: u64,
    /// The newest message on the channel, if it has a name.
    newest: Option<EventName>,
    /// The newest mark, if no message has come on the channel since.
    mark: Option<HeardMark>,
}

impl End {
    fn of(past: &ChannelSnapshot, snapshot: &Snapshot, mark: Option<HeardMark>) -> Self {
        let newest = past.records.iter().rev().find(|record| record.is_message());
        let (number, name) = newest
            .map_or((past.complete_after, past.dropped), |record| (record.number, record.name));
        Self {
            run: snapshot.run,
            number: snapshot.newest,
            newest: name.known().filter(|_| number > past.whole_since),
            mark: mark.filter(|mark| mark.number >= number.max(past.whole_since)),
        }
    }

    /// Whether nothing was published on the channel between this and the question.
    fn is_quiet_since(&self, answer: &Answer, channel: &Channel) -> bool {
        let tag = channel.tag;
        let newest = self.newest.map(|name| FleetPosition { tag, name });
        let mark = self.mark.map(|mark| FleetPosition::of_mark(mark.id, tag));
        newest.into_iter().chain(mark).any(|place| {
            let id = EventId { run: self.run, number: self.number, place: Some(place) };
            let position = answer.position(&id);
            position.is_some_and(|position| {
                matches!(position, StandsAt::Exactly(_)) && answer.is_quiet_since(position, tag)
            })
        })
    }
}

impl Channel {
    /// It is confirmed: what came since the end of the earlier process may be missing.
    pub(super) fn begin_with_hole(&mut self, number: u64) -> Option<(RecordContent, EventName)> {
        let hole = self.hole.as_deref_mut().filter(|hole| hole.number.is_none())?;
        hole.number = Some(number);
        Some((RecordContent::Gap(GapReason::RedisAway), EventName::default()))
    }

    fn put_history(&mut self, past: History, budget: &mut HistoryBudget, now: Instant) {
        self.newest = self.newest.max(past.newest_number());
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
    /// Whether it had missed nothing up to this number since it was followed.
    fn is_whole_at(&self, number: u64) -> bool {
        self.confirmed.max(self.whole_since).max(self.complete_after) <= number
    }

    /// Its history up to a number, for the channel with this index.
    fn history(&self, settings: HistorySettings, index: ChannelIndex, up_to: u64) -> History {
        let records = self.records.iter().take_while(|record| record.number <= up_to);
        let records = records.map(|record| record.record(index));
        History::of_records(settings, (self.complete_after, self.dropped), records)
    }
}

impl RecordSnapshot {
    fn record(&self, index: ChannelIndex) -> HistoryRecord {
        let Self { number, received, name, ref content } = *self;
        let content = match content {
            ContentSnapshot::Event(frame, hash) => {
                let subject = hash.map_or_else(|| Subject::of(index), Subject::of_hash);
                RecordContent::Event(frame.clone(), subject)
            }
            ContentSnapshot::Gap(reason) => RecordContent::Gap(*reason),
        };
        HistoryRecord { number, received, name, content }
    }

    fn is_message(&self) -> bool {
        matches!(
            self.content,
            ContentSnapshot::Event(..) | ContentSnapshot::Gap(GapReason::TooLarge)
        )
    }
}
