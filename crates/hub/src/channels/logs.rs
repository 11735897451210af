//! Logs: channels whose source keeps the entries and gives them their ids.

use ssegate_format::Format;
use ssegate_sse::{Event, encode};
use tokio::time::Instant;

use super::channel::{Confirmation, NewEvent};
use super::hub_state::HubState;
use crate::EntryId;
use crate::fleet::name::EventName;
use crate::gap::GapReason;
use crate::history::record::RecordContent;
use crate::inbox::message::Message;
use crate::requests::source_request::{LogRead, SourceKind};
use crate::subject::Subject;

impl HubState {
    /// The source reads this log, from the entry `id` on. Returns what it must read again for streams that
    /// were waiting for the log.
    pub(super) fn begin_log(
        &mut self,
        (source, name): (SourceKind, &str),
        id: EntryId,
    ) -> Vec<LogRead> {
        let mut waiting = Vec::new();
        // Another copy of a message may follow.
        let (number, settled) = (self.numbers.newest(), self.numbers.settled());
        for &index in self.names.of_log(source, name) {
            let channel = &mut self.channels[index as usize];
            if channel.is_confirmed() {
                continue;
            }
            channel.confirmation = Confirmation::Given;
            channel.newest_entry = id;
            channel.change_history(&mut self.budget, |history| history.begin_log(number, id));
            waiting.append(&mut channel.waiting);
            let order = channel.order;
            let message =
                || Message::Confirmed { channel: index, order, number, settled, entry: id };
            self.senders.send(channel.shards, message);
        }
        let replay = |stream| {
            let request = self.waiting.remove(&stream)?;
            self.replay(request)
        };
        waiting.into_iter().filter_map(replay).collect()
    }

    /// An entry was added to the log. `decode` makes an event from it for each format in which the log is
    /// read, or returns `None` if it is too large.
    pub(super) fn publish_entry(
        &mut self,
        (source, name): (SourceKind, &str),
        id: EntryId,
        received: Instant,
        mut decode: impl FnMut(Format) -> Option<Event>,
    ) {
        let number = self.numbers.take_for_log();
        for &index in self.names.of_log(source, name) {
            let channel = &mut self.channels[index as usize];
            if !channel.is_confirmed() || id <= channel.newest_entry {
                continue;
            }
            channel.newest_entry = id;
            match decode(channel.topic.format) {
                Some(event) => {
                    let frame = encode::frame(&event, Some(&id.to_string()));
                    let (name, subject) = (EventName::default(), Subject::of(index));
                    let event = NewEvent { number, name, subject, frame, received };
                    channel.publish(event, &mut self.senders, &mut self.budget);
                }
                None => {
                    let content = RecordContent::Gap(GapReason::TooLarge);
                    let name = EventName::default();
                    channel.keep(number, (content, name), received, &mut self.budget);
                    channel.send_gap(GapReason::TooLarge, (number, name), &mut self.senders);
                }
            }
        }
        self.evict_histories();
    }

    /// Entries of the log are missing up to `entry`. After a reset, the log begins anew there; after a
    /// rollback, it has come back without the entries after `entry`.
    pub(super) fn log_gap(
        &mut self,
        (source, name): (SourceKind, &str),
        reason: GapReason,
        entry: EntryId,
    ) {
        let number = self.numbers.take_for_log();
        let before = number.saturating_sub(1);
        let now = Instant::now();
        for &index in self.names.of_log(source, name) {
            let channel = &mut self.channels[index as usize];
            if !channel.is_confirmed() {
                continue;
            }
            let newest = channel.newest_entry;
            // The gap is kept behind where the log goes on.
            channel.newest_entry = if reason.goes_back() { entry } else { newest.max(entry) };
            channel.change_history(&mut self.budget, |history| match reason {
                // The records are of another log.
                GapReason::Reset => history.begin_log(before, entry),
                GapReason::RolledBack => history.roll_back(before, entry),
                _ => {}
            });
            let record = (RecordContent::Gap(reason), EventName::default());
            channel.keep(number, record, now, &mut self.budget);
            channel.send_gap(reason, (number, EventName::default()), &mut self.senders);
        }
    }
}
