//! The hub as one gateway of a fleet: marks, and streams whose client comes from another gateway.

use std::sync::Arc;

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::Ids;
use crate::fleet::marks::ReceivedMark;
use crate::fleet::member::{Fleet, FleetLink};
use crate::fleet::message::{ForAll, ForOne, HexId, encode};
use crate::fleet::name::MarkId;
use crate::fleet::order_id::OrderId;
use crate::fleet::requests::FleetRequest;
use crate::fleet::rules::FleetRule;
use crate::fleet::warm_up::WarmUp;
use crate::inbox::message::Message;
use crate::position::cursor::Cursor;
use crate::position::event_id::{EventId, RunTag};
use crate::position::resume::Resume;
use crate::requests::shard_request::{ReplayRequest, StreamAddress};
use crate::subject::ChannelIndex;

impl HubState {
    /// The source has subscribed to the marks, before everything else on its connection.
    ///
    /// `asks`: whether to ask the other gateways what they follow, unless that was done before.
    pub(super) fn begin_fleet(&mut self, order: OrderId, asks: bool, now: Instant) {
        let Some(fleet) = self.fleet_mut(order) else { return };
        let is_first = fleet.link == FleetLink::None;
        fleet.link = FleetLink::Up;
        // What was asked on a connection that was lost since is asked again.
        if (is_first && asks) || !fleet.warm_up.is_over() {
            self.begin_warm_up(order, now);
        }
        let Some(fleet) = self.fleet_mut(order) else { return };
        fleet.timers.notify_one();
        let streams = std::mem::take(&mut fleet.unfenced);
        self.fence(order, streams);
    }

    /// All subscriptions that can be restored are confirmed again, and the gaps were sent.
    pub(super) fn restore_fleet(&mut self, now: Instant) {
        let number = self.numbers.newest();
        self.fleet.named_after.get_or_insert(number);
        self.fleet.confirmed(now);
    }

    /// The source has lost its connection: open questions will not be answered.
    pub(super) fn lose_fleet(&mut self, order: OrderId) {
        let Some(fleet) = self.fleet_mut(order) else { return };
        if fleet.link == FleetLink::None {
            return;
        }
        fleet.link = FleetLink::Away;
        fleet.named_after = None;
        fleet.requests.clear();
        fleet.pacer.stop();
        fleet.lists.clear();
        fleet.leaving.clear();
        fleet.unfenced.append(&mut fleet.asking.stop());
        fleet.unfenced.extend(fleet.fences.drain().flat_map(|(_, streams)| streams));
        let locating = &fleet.locating;
        fleet.unfenced.retain(|stream| locating.contains_key(stream));
    }

    /// There is no fleet any more: decides for all streams that wait for it.
    pub(super) fn end_fleet(&mut self, order: OrderId) {
        self.lose_fleet(order);
        let Some(fleet) = self.fleet_mut(order) else { return };
        fleet.link = FleetLink::None;
        fleet.warm_up = WarmUp::default();
        let streams = std::mem::take(&mut fleet.unfenced);
        self.place_streams(order, streams);
    }

    /// Takes a message that was published for all gateways; returns false if it is not one that a gateway writes.
    pub(super) fn receive_for_all(&mut self, order: OrderId, body: &[u8], now: Instant) -> bool {
        self.end_message_of(order);
        let Ok(message) = serde_json::from_slice::<ForAll>(body) else { return false };
        match message {
            ForAll::Mark { mark } => {
                self.mark(order, mark.0, now);
            }
            ForAll::Question { mark, ask, of } => {
                if self.mark(order, mark.0, now) {
                    if ask == self.run {
                        self.note_question(order, mark.0);
                    } else {
                        self.answer(order, mark, ask, &of);
                    }
                }
            }
            ForAll::List { list } if list != self.run => {
                if let Some(fleet) = self.fleet_mut(order) {
                    fleet.note_list(list, now);
                }
            }
            ForAll::Leaving { leaves, follows } if leaves != self.run => {
                self.note_leaving(order, follows, now);
            }
            ForAll::List { .. } | ForAll::Leaving { .. } => {}
        }
        true
    }

    /// Takes a message that was published for this gateway; returns false if it is not one that a gateway writes.
    pub(super) fn receive_for_one(&mut self, order: OrderId, body: &[u8]) -> bool {
        self.end_message_of(order);
        match serde_json::from_slice(body) {
            Ok(ForOne::Answer(answer)) => self.take_answer(order, answer),
            Ok(ForOne::Follows { follows, .. }) => {
                if let Some(fleet) = self.fleet_mut(order) {
                    fleet.warm_up.note_followed(follows, order);
                }
            }
            Err(_) => return false,
        }
        true
    }

    /// A mark has come. Returns whether it is new.
    fn mark(&mut self, order: OrderId, id: MarkId, now: Instant) -> bool {
        let number = self.numbers.newest();
        let Some(fleet) = self.fleet_mut(order) else { return false };
        let is_new = fleet.marks.push(id, number);
        if is_new {
            fleet.pacer.heard(now);
            if fleet.newest_mark().is_some() {
                self.senders.send_to_all(&Message::Mark(order, ReceivedMark { id, number }));
            }
        }
        is_new
    }

    /// Serves a client that comes from another gateway, or from an earlier run. At once if its position is
    /// certain here, or cannot be found out. Otherwise after asking the other gateways, where that may help,
    /// and behind a fence.
    pub(super) fn replay_foreign(
        &mut self,
        request: ReplayRequest,
        ids: &[Option<EventId>],
        channels: &[ChannelIndex],
    ) {
        let located = self.locate_client(ids, channels);
        // The client may have a copy of a message of which another copy is still to come. Behind the fence,
        // all have come.
        let is_settled = located.newest() <= self.numbers.settled();
        let is_sure = located.is_sure() && is_settled;
        // No gateway has written any of these ids: asking cannot help.
        let is_hopeless = ids.iter().all(Option::is_none);
        // Asking cannot help for channels in several orders, or in an order that has ended or has no marks.
        let order = self
            .order_of(channels)
            .filter(|order| self.fleet_of(*order).is_some_and(Fleet::has_marks));
        let is_decided = is_sure || is_hopeless || !FleetRule::Fence.holds();
        let Some(order) = order.filter(|_| !is_decided) else {
            let page = self.page_of_located(&request, channels, &located);
            return self.send_page(request, page);
        };
        let stream = request.stream;
        let Some(fleet) = self.fleet_mut(order) else { return };
        fleet.locating.insert(stream, request);
        if !fleet.is_up() {
            fleet.wait_for_source(stream);
        } else if !located.is_sure() {
            self.ask_for(order, stream, channels, Instant::now());
        } else {
            self.fence(order, vec![stream]);
        }
    }

    /// Decides for these streams once everything that is published before now has come.
    pub(super) fn fence(&mut self, order: OrderId, streams: Vec<StreamAddress>) {
        let Some(fleet) = self.fleet_mut(order) else { return };
        if streams.is_empty() {
            return;
        }
        if !fleet.is_up() {
            fleet.unfenced.extend(streams);
            return;
        }
        // A fence that the source has not taken yet serves these streams, too.
        let ticket = fleet.requests.waiting_fence().unwrap_or_else(|| {
            fleet.next_fence += 1;
            fleet.requests.put(FleetRequest::Fence(fleet.next_fence));
            fleet.next_fence
        });
        fleet.fences.entry(ticket).or_default().extend(streams);
    }

    /// Everything that was published before this fence was requested has come.
    pub(super) fn pass_fence(&mut self, order: OrderId, ticket: u64) {
        self.end_message_of(order);
        let streams = self.fleet_mut(order).and_then(|fleet| fleet.fences.remove(&ticket));
        self.place_streams(order, streams.unwrap_or_default());
    }

    /// Decides where these streams stand, from what is known now.
    fn place_streams(&mut self, order: OrderId, streams: Vec<StreamAddress>) {
        for stream in streams {
            let locating = self.fleet_mut(order).and_then(|fleet| fleet.locating.remove(&stream));
            let Some(request) = locating else { continue };
            let Some(channels) = self.channels_of(&request) else { continue };
            // The channel was closed and opened again meanwhile: the page is requested anew once it is confirmed.
            if let Some(&awaited) = self.first_awaited(&channels) {
                self.wait_for(awaited, request);
                continue;
            }
            let Resume::Foreign(ids) = &request.resume else { continue };
            let ids = Arc::clone(ids);
            self.touch(&channels);
            // The slot of its channel has moved meanwhile: the fence was that of another node.
            if self.order_of(&channels) != Some(order) {
                self.replay_foreign(request, &ids, &channels);
                continue;
            }
            let located = self.locate_client(&ids, &channels);
            let page = self.page_of_located(&request, &channels, &located);
            self.send_page(request, page);
        }
    }

    /// Does what is due. Returns what the source must follow for it.
    pub(super) fn run_fleets(&mut self, now: Instant) -> Vec<crate::Topic> {
        let orders = self.orders();
        orders.into_iter().flat_map(|order| self.run_fleet(order, now)).collect()
    }

    fn run_fleet(&mut self, order: OrderId, now: Instant) -> Vec<crate::Topic> {
        let Some(fleet) = self.fleet_mut(order) else { return Vec::new() };
        let is_mark_due = fleet.pacer.take_due(now);
        if !fleet.is_up() {
            return Vec::new();
        }
        let list = fleet.take_list(now);
        if is_mark_due {
            let mark = ForAll::Mark { mark: HexId(fastrand::u64(..)) };
            self.publish_for_all(order, &mark, None);
        }
        if let Some(run) = list {
            self.send_followed(order, run);
        }
        self.ask_due(order, now);
        self.warm_up_due(order, now)
    }

    pub(super) fn publish_for_all(
        &self,
        order: OrderId,
        message: &ForAll,
        question: Option<MarkId>,
    ) {
        let body = encode(message).into();
        if let Some(fleet) = self.fleet_of(order) {
            fleet.requests.put(FleetRequest::PublishForAll { body, question });
        }
    }

    pub(super) fn publish_for_one(&self, order: OrderId, run: RunTag, message: &ForOne) {
        let (run, body) = (run.to_string(), encode(message).into());
        if let Some(fleet) = self.fleet_of(order) {
            fleet.requests.put(FleetRequest::PublishForOne { run, body });
        }
    }

    /// The position before the first event of any channels whose events the hub numbers.
    pub(super) fn beginning(&self) -> Cursor {
        Cursor::new(Ids::Ours, self.run, std::iter::empty())
    }
}
