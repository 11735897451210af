//! Where a client that comes from another gateway stands, in the numbers of this one.
//!
//! A channel is complete after a number if nothing is missing behind it, up to now. The message that the
//! client saw last may be in a history: then its number is that of the client. Otherwise another gateway may
//! have said that nothing came on a channel between the client's position and a question of ours. Or
//! nothing has come at all since the mark in the client's id. What cannot be proven is a gap.

use std::rc::Weak;

use super::channel::Channel;
use super::hub_state::HubState;
use crate::fleet::answer::StandsAt;
use crate::fleet::name::FleetPosition;
use crate::gap::GapReason;
use crate::history::page::ReplayPage;
use crate::position::event_id::EventId;
use crate::position::resume::Resume;
use crate::requests::shard_request::ReplayRequest;
use crate::subject::ChannelIndex;

/// Where a client stands on one of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChannelPlace {
    /// Everything after this number is here.
    Complete(u64),
    /// The same, once everything has come that was published before now.
    CompleteBehindFence(u64),
    /// At this number, behind which something is missing.
    Incomplete(u64),
    /// Before everything that the history keeps. The exact number is unknown: the message that the client saw
    /// last is gone, so its hash cannot be compared, and the records may be of another order.
    Expired,
    Unknown,
}

/// Where a client stands on each of its channels, in their order.
#[derive(Debug)]
pub(super) struct Located(Vec<ChannelPlace>);

impl Located {
    /// Whether every channel is complete already, without a fence.
    pub(super) fn is_sure(&self) -> bool {
        self.0.iter().all(|place| matches!(place, ChannelPlace::Complete(_)))
    }

    /// The newest number at which the client stands on any channel.
    pub(super) fn newest(&self) -> u64 {
        self.0.iter().copied().filter_map(Self::number).max().unwrap_or_default()
    }

    fn number(place: ChannelPlace) -> Option<u64> {
        match place {
            ChannelPlace::Complete(number)
            | ChannelPlace::CompleteBehindFence(number)
            | ChannelPlace::Incomplete(number) => Some(number),
            ChannelPlace::Expired | ChannelPlace::Unknown => None,
        }
    }
}

impl HubState {
    /// Where a client stands that has these ids, one for each of its channels.
    pub(super) fn locate_client(
        &self,
        ids: &[Option<EventId>],
        channels: &[ChannelIndex],
    ) -> Located {
        let place = |(id, &index): (&Option<EventId>, &ChannelIndex)| match id {
            Some(id) => self.place_on(id, index, channels),
            None => ChannelPlace::Unknown,
        };
        Located(ids.iter().zip(channels).map(place).collect())
    }

    /// The page for a client that was located. Everything that was published before it connected has come.
    pub(super) fn page_of_located(
        &self,
        request: &ReplayRequest,
        channels: &[ChannelIndex],
        Located(places): &Located,
    ) -> ReplayPage {
        let is_complete = |place: &ChannelPlace| {
            matches!(place, ChannelPlace::Complete(_) | ChannelPlace::CompleteBehindFence(_))
        };
        self.observer.client_placed(places.iter().all(is_complete));
        let settled = self.numbers.settled();
        let Some(oldest) = places.iter().copied().filter_map(Located::number).min() else {
            return match places.iter().all(|place| *place == ChannelPlace::Expired) {
                true => ReplayPage::expired(channels.len(), settled),
                false => ReplayPage::unknown_id(channels.len(), settled, Box::default()),
            };
        };
        let floors = places.iter().map(|place| Located::number(*place).unwrap_or(settled));
        let floors: Vec<u64> = floors.collect();
        let cursor = self.beginning().at(oldest);
        let request = ReplayRequest {
            resume: Resume::After { cursor, floors: Some(floors.into()) },
            ..request.clone()
        };
        let mut page = self.page(&request, channels);
        for (without, reason) in [
            (ChannelPlace::Expired, GapReason::Expired),
            (ChannelPlace::Unknown, GapReason::UnknownId),
        ] {
            let channels = (0..places.len()).filter(|at| places[*at] == without);
            let channels: Vec<usize> = channels.collect();
            if !channels.is_empty() {
                page.begin_without_place(reason, channels);
            }
        }
        page
    }

    fn place_on(
        &self,
        id: &EventId,
        index: ChannelIndex,
        channels: &[ChannelIndex],
    ) -> ChannelPlace {
        let channel = &self.channels[index as usize];
        let Some(history) = &channel.history else { return ChannelPlace::Unknown };
        // Sharded channels of a stream may be lost one by one, and each may have its own order: a place on
        // one of them says nothing about the others.
        let is_foreign =
            |place: &FleetPosition| channel.topic.is_sharded() && place.tag != channel.tag;
        let id = &EventId { place: id.place.filter(|place| !is_foreign(place)), ..*id };
        let fleet = self.fleet_of(channel.order);
        let exact = self.number_of(id, channel, channels);
        let is_complete = |number: &u64| {
            let hole = channel.hole.as_ref();
            history.complete_after() <= *number && hole.is_none_or(|hole| !hole.is_after(*number))
        };
        if let Some(number) = exact.filter(is_complete) {
            return ChannelPlace::Complete(number);
        }
        let mut behind_fence = None;
        for answer in channel.answers.iter().filter_map(Weak::upgrade) {
            let Some(position) = self.own_tag(id, channels).and_then(|()| answer.position(id))
            else {
                continue;
            };
            let is_complete = history.complete_after() <= answer.asked_at;
            if !is_complete || !answer.is_quiet_since(position, channel.tag) {
                continue;
            }
            match position {
                StandsAt::Exactly(_) => return ChannelPlace::Complete(answer.asked_at),
                StandsAt::AtLeast(_) if history.is_quiet_since(answer.asked_at) => {
                    behind_fence = Some(answer.asked_at);
                }
                StandsAt::AtLeast(_) => {}
            }
        }
        let mark = id.place.and_then(|place| fleet?.mark_number(place.name.mark));
        let mark = mark.filter(|mark| {
            channel.is_confirmed() && channel.confirmed <= *mark && history.is_quiet_since(*mark)
        });
        match (behind_fence.or(mark), exact) {
            (Some(number), _) => ChannelPlace::CompleteBehindFence(number),
            (None, Some(number)) => ChannelPlace::Incomplete(number),
            (None, None) if self.is_dropped(id, channel, channels) => ChannelPlace::Expired,
            (None, None) => ChannelPlace::Unknown,
        }
    }

    /// Whether a client with this id stood before the newest message that the history of `channel`, one of `channels`,
    /// has dropped.
    fn is_dropped(&self, id: &EventId, channel: &Channel, channels: &[ChannelIndex]) -> bool {
        let place = id.place.filter(|_| self.own_tag(id, channels).is_some());
        let dropped = channel.history.as_ref().and_then(|history| history.dropped().known());
        let Some((FleetPosition { tag, name: seen }, dropped)) = place.zip(dropped) else {
            return false;
        };
        if seen.mark == dropped.mark {
            return tag == channel.tag && seen.k < dropped.k;
        }
        let fleet = self.fleet_of(channel.order);
        let numbers = [seen.mark, dropped.mark].map(|mark| fleet?.mark_number(mark));
        matches!(numbers, [Some(seen), Some(dropped)] if seen < dropped)
    }

    /// The number at which a client with this id stands on `channel`, one of `channels`, if this gateway has
    /// received what the client saw last.
    fn number_of(&self, id: &EventId, channel: &Channel, channels: &[ChannelIndex]) -> Option<u64> {
        if id.run == self.run {
            return Some(id.number).filter(|number| *number <= self.numbers.newest());
        }
        if let Some(number) = self.number_of_earlier(id) {
            return Some(number);
        }
        let place = id.place?;
        self.own_tag(id, channels)?;
        let mark =
            self.fleet_of(channel.order).and_then(|fleet| fleet.mark_number(place.name.mark));
        if place.name.k == 0 {
            // Before the confirmation a sharded channel may have been in another order.
            let is_there = |mark: &u64| !channel.topic.is_sharded() || *mark >= channel.confirmed;
            return mark.filter(is_there);
        }
        let named = channels.iter().map(|index| &self.channels[*index as usize]);
        let mut named = named.filter(|channel| channel.tag == place.tag);
        named.next()?.history.as_ref()?.number_of(place.name, mark)
    }

    /// `None` unless the place in the id is on exactly one of the stream's subscriptions. An id of another
    /// stream means nothing here, and must not reveal anything about channels that were not asked for.
    fn own_tag(&self, id: &EventId, channels: &[ChannelIndex]) -> Option<()> {
        let Some(place) = id.place else { return Some(()) };
        let named = channels.iter().map(|index| &self.channels[*index as usize]);
        (named.filter(|channel| channel.tag == place.tag).count() == 1).then_some(())
    }
}
