//! What the next process can go on with, taken from the channels.

use std::cmp::Reverse;

use super::Hub;
use super::channel::Channel;
use super::hub_state::HubState;
use crate::Ids;
use crate::history::record::{HistoryRecord, RecordContent};
use crate::snapshot::{ChannelSnapshot, ContentSnapshot, MAX_MARKS, RecordSnapshot, Snapshot};

impl Hub {
    /// What the next process can go on with: the histories of channels that are followed without a hole, those
    /// used last first, as far as they hold [`handover_bytes`](crate::HubSettings::handover_bytes) together.
    pub fn snapshot(&self) -> Snapshot {
        self.state.borrow().snapshot()
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
    fn snapshot(&self) -> Snapshot {
        let channels = self.channels.iter().map(|(_, channel)| channel);
        let mut whole: Vec<&Channel> = channels.filter(|channel| channel.can_be_left()).collect();
        whole.sort_unstable_by_key(|channel| Reverse(channel.used.max(channel.newest)));
        let mut room = self.settings.handover_bytes;
        let fitting = whole.into_iter().take_while(|channel| {
            let held = channel.history.as_ref().map_or(0, |history| history.held());
            let left = room.checked_sub(held);
            room = left.unwrap_or_default();
            left.is_some()
        });
        Snapshot {
            run: self.run,
            newest: self.numbers.newest(),
            earlier: self.earlier_runs.clone(),
            marks: self.fleet.marks.last(MAX_MARKS).collect(),
            channels: fitting.filter_map(Channel::snapshot).collect(),
        }
    }
}

impl Channel {
    fn can_be_left(&self) -> bool {
        self.topic.ids == Ids::Ours && self.is_confirmed()
    }

    fn snapshot(&self) -> Option<ChannelSnapshot> {
        let history = self.history.as_ref()?;
        Some(ChannelSnapshot {
            topic: self.topic.clone(),
            confirmed: self.confirmed,
            whole_since: self.whole_since?,
            complete_after: history.complete_after(),
            dropped: history.dropped(),
            records: history.records().map(snapshot_of).collect(),
        })
    }
}

fn snapshot_of(record: &HistoryRecord) -> RecordSnapshot {
    let HistoryRecord { number, received, name, ref content } = *record;
    let content = match content {
        RecordContent::Event(frame, subject) => {
            ContentSnapshot::Event(frame.clone(), subject.hash())
        }
        RecordContent::Gap(reason) => ContentSnapshot::Gap(*reason),
    };
    RecordSnapshot { number, received, name, content }
}
