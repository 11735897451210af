//! Channels that missed messages: what the log has of them comes before what is held meanwhile.

use ssegate_hub::{ChannelName, EntryId, GapReason};
use tokio::time::Instant;

use super::RecordBook;
use crate::source::redis::recorded::channel::CatchUp;
use crate::source::redis::recorded::past::{PastRead, ReadPast};

impl RecordBook {
    /// A part of what a channel missed was read.
    pub(in super::super) fn catch_up(
        &mut self,
        name: &ChannelName,
        until: EntryId,
        past: ReadPast,
        now: Instant,
    ) {
        let channel = self.channels.get(name);
        let catch_up = channel.and_then(|channel| channel.catch_up.as_ref());
        // The connection may have been lost once more.
        if catch_up.is_none_or(|catch_up| catch_up.until != until) {
            return;
        }
        if let Some((reason, id)) = past.gap {
            self.miss(name, reason, id);
        }
        for (id, message) in &past.entries {
            self.publish(name, *id, message, now);
        }
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.newest = channel.newest.max(past.entries.last().map(|(id, _)| *id));
        match (past.is_all, channel.newest) {
            (false, Some(after)) => {
                self.add_read(PastRead::catch_up(name.clone(), (after, until), now));
            }
            _ => self.end_catch_up(name, now),
        }
    }

    /// What was missed is there, or given up: hands over what was held.
    pub(super) fn end_catch_up(&mut self, name: &ChannelName, now: Instant) {
        let Some(catch_up) = self.take_catch_up(name) else { return };
        for (id, message) in catch_up.into_held() {
            self.deliver(name, id, message, now);
        }
    }

    /// The channel catches up no longer.
    pub(super) fn take_catch_up(&mut self, name: &ChannelName) -> Option<CatchUp> {
        let catch_up = self.channels.get_mut(name)?.catch_up.take()?;
        self.held_back_bytes = self.held_back_bytes.saturating_sub(catch_up.bytes());
        self.note_held();
        Some(catch_up)
    }

    /// Gives the hub a gap: messages of the channel up to `until` may be missing, for this reason.
    pub(super) fn miss(&mut self, name: &ChannelName, reason: GapReason, until: EntryId) {
        if let Some(channel) = self.channels.get_mut(name) {
            channel.newest = channel.newest.max(Some(until));
            self.hub.log_gap((self.order.source(), name.as_str()), reason, until);
        }
    }
}
