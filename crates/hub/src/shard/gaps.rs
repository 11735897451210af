//! Gaps: which subscribers of this core are sent one.

use std::collections::HashMap;
use std::rc::Rc;

use tokio::time::Instant;

use super::Shard;
use super::local_channel::{LocalChannel, LocalSubscriber, OpenStream};
use crate::EntryId;
use crate::fleet::name::EventName;
use crate::gap::GapReason;
use crate::position::cursor::LogEntry;
use crate::subject::ChannelIndex;

/// A gap for one stream.
struct StreamGap {
    stream: Rc<OpenStream>,
    // The channels that the stream is subscribed to, of those with the gap.
    channels: Vec<Rc<LocalChannel>>,
    entry: Option<LogEntry>,
}

impl Shard {
    /// Sends a gap to the subscribers of these channels that miss something, one to each. A stream of a log
    /// that the source still has in full requests the entries again instead.
    pub(super) fn gap(
        &self,
        reason: GapReason,
        channels: &[ChannelIndex],
        (number, name, entry): (u64, EventName, Option<EntryId>),
        now: Instant,
    ) {
        let mut gaps: HashMap<*const OpenStream, StreamGap> = HashMap::new();
        let mut replays = Vec::new();
        for channel in channels.iter().filter_map(|&index| self.channel(index)) {
            if reason == GapReason::TooLarge {
                channel.newest.set((number, name));
            }
            if let Some(entry) = entry.filter(|_| reason != GapReason::Overload) {
                channel.newest_entry.set(entry);
            }
            for subscriber in &*channel.subscribers.borrow() {
                let stream = &subscriber.stream;
                if stream.mailbox.is_closed() {
                    continue;
                }
                if subscriber.is_concerned(reason, number, entry) {
                    let gap = gaps.entry(Rc::as_ptr(stream)).or_insert_with(|| StreamGap {
                        stream: Rc::clone(stream),
                        channels: Vec::new(),
                        entry: subscriber.log_entry(entry),
                    });
                    gap.channels.push(Rc::clone(&channel));
                }
                if subscriber.must_replay(reason, entry) {
                    replays.push(Rc::clone(stream));
                }
            }
        }
        for StreamGap { stream, channels, entry } in gaps.into_values() {
            let place = channels.first().and_then(|channel| channel.place(name));
            let names = channels.iter().map(|channel| channel.name());
            self.count_gap(reason);
            stream.mailbox.gap(reason, (number, entry), place, names, now);
        }
        replays.iter().for_each(|stream| stream.mailbox.replay_from_here(now));
    }
}

impl LocalSubscriber {
    /// Whether the stream is sent the gap. `entry` is the last that is missing, where the gap is in a log.
    fn is_concerned(&self, reason: GapReason, number: u64, entry: Option<EntryId>) -> bool {
        let position = entry.and_then(|_| self.stream.mailbox.entry(self.slot()));
        let is_replaying = self.stream.mailbox.is_replaying();
        match reason {
            // Only this shard has missed entries: the source still has them.
            GapReason::Overload if entry.is_some() => false,
            // Without a position in the log, the stream has no entries to miss yet, or waits for its first
            // page, which is read later than this.
            _ if entry.is_some() && position.is_none() => false,
            // Its position is one of another log.
            GapReason::Reset => true,
            // A stream that has not reached the lost entries does not miss them.
            GapReason::RolledBack => position > entry,
            // A stream that is sent its past finds the gap there. Before its `ready`, nothing was promised to it.
            GapReason::RedisAway => self.was_cut_off.replace(false) && !is_replaying,
            // A client may be ahead of this gateway: another one has sent it the entry that is too large
            // here, or a gap for it.
            GapReason::TooLarge if entry.is_some() => !is_replaying && position < entry,
            // It may turn out only after the next entry was sent that entries before it are missing.
            _ if entry.is_some() => !is_replaying && position <= entry,
            // The stream was sent the gap for another copy of the message.
            GapReason::TooLarge if number <= self.stream.mailbox.number() => false,
            _ => !is_replaying && !self.is_unconfirmed.get(),
        }
    }

    /// Whether the stream must be sent what follows its position again: because the gap is only here, or
    /// because the page that it has requested is of the log as it was before.
    fn must_replay(&self, reason: GapReason, entry: Option<EntryId>) -> bool {
        let is_replaying = self.stream.mailbox.is_replaying();
        match reason {
            _ if entry.is_none() => false,
            GapReason::Overload => !is_replaying,
            GapReason::Reset | GapReason::RolledBack => {
                is_replaying && self.stream.mailbox.entry(self.slot()).is_some()
            }
            _ => false,
        }
    }
}
