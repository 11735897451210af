//! One channel: what is known of it, and what is kept of it.

use std::time::Duration;

use tokio::time::Instant;

use super::lingering::Linger;
use crate::event::{EntryId, Ids, Topic};
use crate::hub::history::budget::{ChannelIncarnation, HistoryBudget};
use crate::hub::history::retention::Retention;
use crate::hub::history::{History, RecordContent};
use crate::hub::inbox::ChannelIndex;
use crate::hub::requests::shard_request::Caller;

pub(super) struct Channel {
    pub(super) topic: Topic,
    pub(super) confirmation: Confirmation,
    // The number of the last confirmation; 0 before the first.
    pub(super) confirmed: u64,
    // One bit for each shard.
    pub(super) shards: u128,
    pub(super) linger: Duration,
    pub(super) lingers: Option<Linger>,
    pub(super) history: Option<History>,
    // Of a log: its newest entry.
    pub(super) entry: EntryId,
    // Whose call for the past waits for the confirmation. Some may be gone.
    pub(super) awaited_by: Vec<Caller>,
    // The numbers at which it was opened, and at which its history was used last.
    pub(super) opened: u64,
    pub(super) used: u64,
    // Whether `Memory` knows that it keeps something.
    pub(super) is_in_line: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmation {
    Awaited,
    Given,
    // It was given, and then the connection was lost: something may be missing.
    Withdrawn,
    // The source may not listen to it.
    Denied,
}

impl Channel {
    /// Whether its source keeps its entries.
    pub(super) fn is_log(&self) -> bool {
        self.topic.ids == Ids::Entries
    }

    /// What is kept of it now.
    pub(super) fn retention(&self) -> Retention {
        Retention { history: self.history.as_ref().map(History::settings), linger: self.linger }
    }

    pub(super) fn keep(
        &mut self,
        index: ChannelIndex,
        number: u64,
        kept: RecordContent,
        received: Instant,
        memory: &mut HistoryBudget,
    ) {
        let is_kept = match self.is_log() {
            true => {
                let id = self.entry;
                self.change_history(memory, |h| h.push_entry(number, id, kept, received))
            }
            false => self.change_history(memory, |h| h.push(number, kept, received)),
        };
        if !is_kept {
            return;
        }
        self.used = number;
        if !std::mem::replace(&mut self.is_in_line, true) {
            memory.enter(ChannelIncarnation { channel: index, opened: self.opened }, number);
        }
    }

    /// Changes the history, where there is one, and notes by how much it has grown; answers whether
    /// there is one.
    pub(super) fn change_history(
        &mut self,
        memory: &mut HistoryBudget,
        change: impl FnOnce(&mut History),
    ) -> bool {
        let Some(history) = &mut self.history else {
            return false;
        };
        let before = history.held();
        change(history);
        memory.account(before, history.held());
        true
    }
}
