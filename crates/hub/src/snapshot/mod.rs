//! What a hub leaves to the hub of the next process, which continues it: at a takeover, and over a restart.
//!
//! It has the histories, with the number and the name of each record. It has the marks, by which the next hub
//! finds the place in the order of the server up to which this one has received it. And it has the run, so
//! that the ids of this run are positions in the next.
//!
//! The numbers of the next hub begin after those of this one, so that both form one order.

pub(crate) mod text;

use crate::Topic;
pub(crate) use crate::fleet::marks::MAX_MARKS;
use crate::fleet::marks::ReceivedMark;
use crate::fleet::name::EventName;
use crate::history::record::HistoryRecord;
use crate::position::event_id::RunTag;

/// Runs before this one whose ids are still known, at most.
pub(crate) const MAX_EARLIER: usize = 8;

/// The histories of a hub at one moment, and what their numbers and names mean.
///
/// A cheap copy: it shares the frames. Made by [`Hub::snapshot`](crate::Hub::snapshot); written and read by
/// [`Snapshot::write`] and [`Snapshot::read`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) run: RunTag,
    /// The newest number.
    pub(crate) newest: u64,
    /// Runs before this one, each with the newest of its numbers that is one of ours.
    pub(crate) earlier: Vec<(RunTag, u64)>,
    /// The oldest first.
    pub(crate) marks: Vec<ReceivedMark>,
    pub(crate) channels: Vec<ChannelSnapshot>,
    /// Channels for which there was no room.
    pub(crate) left_out: usize,
}

/// The past of one channel.
#[derive(Clone, Debug)]
pub(crate) struct ChannelSnapshot {
    pub(crate) topic: Topic,
    /// The number of its confirmation, and since when it was followed without a hole.
    pub(crate) confirmed: u64,
    pub(crate) whole_since: u64,
    /// Whether it was followed, without a hole, when the snapshot was taken.
    pub(crate) is_followed: bool,
    /// The number after which nothing is missing, and the name of the record with this number.
    pub(crate) complete_after: u64,
    pub(crate) dropped: EventName,
    /// Their numbers ascend. The subject of an event counts only if it is a hash: an index is valid only in
    /// the hub that wrote it.
    pub(crate) records: Vec<HistoryRecord>,
}

impl Snapshot {
    /// Channels with a history in it.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Channels whose history had no room in it. Unknown for a snapshot that was read.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The runs whose ids the next hub knows, this one among them: its numbers up to `newest`.
    pub(crate) fn runs_up_to(&self, newest: u64) -> Vec<(RunTag, u64)> {
        let earlier = self.earlier.iter().map(|&(run, number)| (run, number.min(newest)));
        let mut runs: Vec<_> = earlier.chain([(self.run, newest)]).collect();
        let surplus = runs.len().saturating_sub(MAX_EARLIER);
        runs.drain(..surplus);
        runs
    }
}
