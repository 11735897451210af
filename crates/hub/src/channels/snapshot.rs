//! What the next process can go on with, taken from the channels.

use std::cmp::Reverse;

use super::Hub;
use super::channel::{Channel, Confirmation};
use super::hub_state::HubState;
use crate::Ids;
use crate::snapshot::{ChannelSnapshot, MAX_MARKS, Snapshot};

impl Hub {
    /// What the next process can continue: the histories of the channels, the last used first, as many as fit
    /// into `max_bytes`, or into [`handover_bytes`](crate::HubSettings::handover_bytes) if that is less.
    pub fn snapshot(&self, max_bytes: usize) -> Snapshot {
        self.state.borrow().snapshot(max_bytes)
    }

    /// What a snapshot may hold, in bytes.
    pub fn handover_bytes(&self) -> usize {
        self.state.borrow().settings.handover_bytes
    }

    /// The newest number of this run.
    pub fn newest_number(&self) -> u64 {
        self.state.borrow().numbers.newest()
    }
}

impl HubState {
    fn snapshot(&self, max_bytes: usize) -> Snapshot {
        let channels = self.channels.iter().map(|(_, channel)| channel);
        let mut all: Vec<&Channel> = channels.filter(|channel| channel.has_past()).collect();
        all.sort_unstable_by_key(|channel| Reverse(channel.used.max(channel.newest)));
        let (mut room, count) = (self.settings.handover_bytes.min(max_bytes), all.len());
        all.retain(|channel| {
            let held = channel.history.as_ref().map_or(0, |history| history.held());
            let left = room.checked_sub(held).filter(|_| room > 0);
            room = left.unwrap_or(room);
            left.is_some()
        });
        Snapshot {
            run: self.run,
            newest: self.numbers.newest(),
            earlier: self.earlier_runs.clone(),
            marks: self.fleet.marks.last(MAX_MARKS).collect(),
            left_out: count - all.len(),
            channels: all.into_iter().filter_map(Channel::snapshot).collect(),
        }
    }
}

impl Channel {
    /// Whether it has a past that the next process can continue.
    fn has_past(&self) -> bool {
        let was_confirmed =
            matches!(self.confirmation, Confirmation::Given | Confirmation::Withdrawn);
        self.topic.ids == Ids::Ours && (was_confirmed || self.hole.is_some())
    }

    fn snapshot(&self) -> Option<ChannelSnapshot> {
        let history = self.history.as_ref()?;
        Some(ChannelSnapshot {
            topic: self.topic.clone(),
            confirmed: self.confirmed,
            whole_since: self.whole_since.unwrap_or(self.confirmed),
            is_followed: self.is_confirmed() && self.whole_since.is_some(),
            complete_after: history.complete_after(),
            dropped: history.dropped(),
            records: history.records().cloned().collect(),
        })
    }
}
