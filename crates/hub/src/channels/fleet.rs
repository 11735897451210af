//! The hub as one gateway of a fleet: marks, and streams whose client comes from another gateway.

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::Ids;
use crate::fleet::marks::HeardMark;
use crate::fleet::member::FleetLink;
use crate::fleet::message::{ForAll, ForOne, HexId, encode};
use crate::fleet::name::MarkId;
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
    pub(super) fn begin_fleet(&mut self, now: Instant) {
        let is_first = self.fleet.link == FleetLink::None;
        self.fleet.link = FleetLink::Up;
        // What was asked on a connection that was lost since is asked again.
        if is_first || !self.fleet.warm_up.is_over() {
            self.begin_warm_up(now);
        }
        let streams = std::mem::take(&mut self.fleet.unfenced);
        self.fence(streams);
        self.fleet.timers.notify_one();
    }

    /// All subscriptions that can be restored are, and the gaps were sent.
    pub(super) fn restore_fleet(&mut self, now: Instant) {
        let number = self.numbers.newest();
        self.fleet.named_after.get_or_insert(number);
        self.fleet.confirmed(now);
    }

    /// The source has lost its connection: what was asked will not be answered.
    pub(super) fn lose_fleet(&mut self) {
        let fleet = &mut self.fleet;
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
    pub(super) fn end_fleet(&mut self) {
        self.lose_fleet();
        self.fleet.link = FleetLink::None;
        self.fleet.warm_up = WarmUp::default();
        let streams = std::mem::take(&mut self.fleet.unfenced);
        self.place_streams(streams);
    }

    /// Takes what was published for all gateways; returns false if no gateway has written it.
    pub(super) fn hear_for_all(&mut self, body: &[u8], now: Instant) -> bool {
        // It came behind the message before: no further copy of that follows.
        self.end_message();
        let Ok(message) = serde_json::from_slice::<ForAll>(body) else { return false };
        match message {
            ForAll::Mark { mark } => {
                self.mark(mark.0, now);
            }
            ForAll::Question { mark, ask, of } => {
                if self.mark(mark.0, now) {
                    if ask == self.run {
                        self.note_question(mark.0);
                    } else {
                        self.answer(mark, ask, &of);
                    }
                }
            }
            ForAll::List { list } if list != self.run => {
                self.fleet.note_list(list, now);
            }
            ForAll::Leaving { leaves, follows } if leaves != self.run => {
                self.note_leaving(follows, now);
            }
            ForAll::List { .. } | ForAll::Leaving { .. } => {}
        }
        true
    }

    /// Takes what was published for this gateway; returns false if no gateway has written it.
    pub(super) fn hear_for_one(&mut self, body: &[u8]) -> bool {
        self.end_message();
        match serde_json::from_slice(body) {
            Ok(ForOne::Answer(answer)) => self.take_answer(answer),
            Ok(ForOne::Follows { follows, .. }) => self.fleet.warm_up.note_followed(follows),
            Err(_) => return false,
        }
        true
    }

    /// A mark has come. Returns whether it is new.
    fn mark(&mut self, id: MarkId, now: Instant) -> bool {
        let number = self.numbers.newest();
        let is_new = self.fleet.marks.push(id, number);
        if is_new {
            self.fleet.pacer.heard(now);
            if self.fleet.newest_mark().is_some() {
                self.senders.send_to_all(&Message::Mark(HeardMark { id, number }));
            }
        }
        is_new
    }

    /// Serves a client that comes from another gateway, or from an earlier run: at once if its position is
    /// known here for certain, otherwise after the other gateways were asked, and behind a fence.
    pub(super) fn replay_foreign(
        &mut self,
        request: ReplayRequest,
        ids: &[Option<EventId>],
        channels: &[ChannelIndex],
    ) {
        let located = self.locate_client(ids, channels);
        // A client may have a message of which another copy is still to come: behind the fence it has.
        let is_settled = located.newest() <= self.numbers.settled();
        let is_sure = located.is_sure() && is_settled;
        // No gateway has written these ids: nothing can be found out.
        let is_hopeless = ids.iter().all(Option::is_none);
        let is_decided = is_sure || is_hopeless || !self.fleet.has_marks();
        if is_decided || !FleetRule::Fence.holds() {
            let page = self.page_of_located(&request, channels, &located);
            return self.send_page(request, page);
        }
        let stream = request.stream;
        self.fleet.locating.insert(stream, request);
        if !self.fleet.is_up() {
            self.fleet.wait_for_source(stream);
        } else if !located.is_sure() {
            self.ask_for(stream, channels, Instant::now());
        } else {
            self.fence(vec![stream]);
        }
    }

    /// Decides for these streams once everything has come that is published before now.
    pub(super) fn fence(&mut self, streams: Vec<StreamAddress>) {
        let fleet = &mut self.fleet;
        if streams.is_empty() {
            return;
        }
        if !fleet.is_up() {
            fleet.unfenced.extend(streams);
            return;
        }
        // One that the source has not taken yet is as good.
        let ticket = fleet.requests.waiting_fence().unwrap_or_else(|| {
            fleet.next_fence += 1;
            fleet.requests.put(FleetRequest::Fence(fleet.next_fence));
            fleet.next_fence
        });
        fleet.fences.entry(ticket).or_default().extend(streams);
    }

    /// Everything has come that was published before this fence was requested.
    pub(super) fn pass_fence(&mut self, ticket: u64) {
        self.end_message();
        let streams = self.fleet.fences.remove(&ticket).unwrap_or_default();
        self.place_streams(streams);
    }

    /// Decides where these streams stand, by what is known now.
    fn place_streams(&mut self, streams: Vec<StreamAddress>) {
        for stream in streams {
            let Some(request) = self.fleet.locating.remove(&stream) else { continue };
            let Some(channels) = self.channels_of(&request) else { continue };
            // Closed and opened again since: it is requested anew once it is confirmed.
            if let Some(&awaited) = self.first_awaited(&channels) {
                self.wait_for(awaited, request);
                continue;
            }
            let Resume::Foreign(ids) = &request.resume else { continue };
            self.touch(&channels);
            let located = self.locate_client(ids, &channels);
            let page = self.page_of_located(&request, &channels, &located);
            self.send_page(request, page);
        }
    }

    /// Does what is due. Returns what the source must follow for it.
    pub(super) fn run_fleet(&mut self, now: Instant) -> Vec<crate::Topic> {
        if self.fleet.pacer.take_due(now) && self.fleet.is_up() {
            let mark = ForAll::Mark { mark: HexId(fastrand::u64(..)) };
            self.publish_for_all(&mark, None);
        }
        if !self.fleet.is_up() {
            return Vec::new();
        }
        if let Some(run) = self.fleet.take_list(now) {
            self.tell_followed(run);
        }
        self.ask_due(now);
        self.warm_up_due(now)
    }

    pub(super) fn publish_for_all(&self, message: &ForAll, question: Option<MarkId>) {
        let body = encode(message).into();
        self.fleet.requests.put(FleetRequest::PublishForAll { body, question });
    }

    pub(super) fn publish_for_one(&self, run: RunTag, message: &ForOne) {
        let (run, body) = (run.to_string(), encode(message).into());
        self.fleet.requests.put(FleetRequest::PublishForOne { run, body });
    }

    /// Before the first event of any channels whose events the hub numbers.
    pub(super) fn beginning(&self) -> Cursor {
        Cursor::new(Ids::Ours, self.run, std::iter::empty())
    }
}
