//! What may be missing on a channel since a restart, and how another gateway can show that nothing is.

use crate::fleet::answer::{Answer, StandsAt};
use crate::fleet::marks::ReceivedMark;
use crate::fleet::name::{EventName, FleetPosition, SubscriptionTag};
use crate::position::event_id::{EventId, RunTag};
use crate::snapshot::{ChannelSnapshot, Snapshot};

/// What may be missing on a channel since a restart.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    /// The number of the gap; `None` before the channel is confirmed.
    number: Option<u64>,
    end: End,
}

impl Hole {
    /// The hole behind the past that an earlier process has left of a channel; `mark` was its newest mark.
    pub(super) fn behind(
        past: &ChannelSnapshot,
        snapshot: &Snapshot,
        mark: Option<ReceivedMark>,
    ) -> Self {
        Self { number: None, end: End::of(past, snapshot, mark) }
    }

    /// The channel is confirmed. Returns whether this is its first confirmation.
    pub(super) fn begin(&mut self, number: u64) -> bool {
        let is_new = self.number.is_none();
        self.number.get_or_insert(number);
        is_new
    }

    /// The number of its gap, if another gateway says that nothing came on the channel; `tag` is that of the
    /// channel.
    pub(super) fn closed_by(&self, answer: &Answer, tag: SubscriptionTag) -> Option<u64> {
        self.number.filter(|_| self.end.is_quiet_since(answer, tag))
    }

    /// Whether it is behind the position of a client at this number.
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
    mark: Option<ReceivedMark>,
}

impl End {
    fn of(past: &ChannelSnapshot, snapshot: &Snapshot, mark: Option<ReceivedMark>) -> Self {
        let newest = past.records.iter().rev().find(|record| record.is_message());
        let (number, name) = newest
            .map_or((past.complete_after, past.dropped), |record| (record.number, record.name));
        Self {
            run: snapshot.run,
            number: snapshot.newest,
            newest: name.known().filter(|_| past.is_followed && number > past.whole_since),
            mark: mark
                .filter(|mark| past.is_followed && mark.number >= number.max(past.whole_since)),
        }
    }

    /// Whether nothing was published on the channel between this and the question.
    fn is_quiet_since(&self, answer: &Answer, tag: SubscriptionTag) -> bool {
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
