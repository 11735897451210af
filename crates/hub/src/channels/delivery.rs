//! A message on its way into the channels of a subscription.

use ssegate_format::Format;
use ssegate_sse::{Event, encode};
use tokio::time::Instant;

use super::channel::{Channel, NewEvent};
use crate::Ids;
use crate::fleet::marks::ReceivedMark;
use crate::gap::GapReason;
use crate::history::budget::HistoryBudget;
use crate::history::record::RecordContent;
use crate::inbox::shard_sender::ShardSenders;
use crate::position::event_id::{EventId, RunTag};
use crate::position::foreign_id::is_foreign_id;
use crate::subject::Subject;

/// A message that the source has sent, and where it goes.
pub(super) struct MessageDelivery<'a> {
    pub(super) number: u64,
    /// A hash of its payload.
    pub(super) check: u16,
    /// The newest mark.
    pub(super) mark: Option<ReceivedMark>,
    pub(super) received: Instant,
    pub(super) run: RunTag,
    pub(super) senders: &'a mut ShardSenders,
    pub(super) budget: &'a mut HistoryBudget,
}

impl MessageDelivery<'_> {
    /// Makes an event for a channel from it, if the channel needs it and it can be decoded.
    #[inline]
    pub(super) fn event(
        &mut self,
        channel: &mut Channel,
        subject: Subject,
        decode: &mut impl FnMut(Format) -> Option<Event>,
    ) {
        let (number, received) = (self.number, self.received);
        channel.newest = number;
        let name = channel.count(self.mark, self.check);
        if !channel.takes_messages() {
            return;
        }
        let Some(event) = decode(channel.topic.format) else { return };
        let frame = match channel.topic.ids {
            Ids::Ours => {
                let id = EventId { place: channel.place(name), ..self.run.at(number) };
                encode::frame(&event, Some(&id.text()))
            }
            Ids::Mixed => match event.id.as_deref().filter(|id| is_foreign_id(id)) {
                Some(id) => encode::frame(&event, Some(id)),
                None => encode::frame(&event, Some(&self.run.at(number).text())),
            },
            Ids::Publisher | Ids::Entries | Ids::Recorded => {
                encode::frame(&event, event.id.as_deref())
            }
        };
        let event = NewEvent { number, name, subject, frame, received };
        channel.publish(event, self.senders, self.budget);
    }

    /// Sends a gap in its place: it is too large.
    pub(super) fn too_large(&mut self, channel: &mut Channel) {
        let reason = GapReason::TooLarge;
        channel.newest = self.number;
        let name = channel.count(self.mark, self.check);
        if channel.takes_messages() {
            let record = (RecordContent::Gap(reason), name);
            channel.keep(self.number, record, self.received, self.budget);
            channel.send_gap(reason, (self.number, name), self.senders);
        }
    }
}
