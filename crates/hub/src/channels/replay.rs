//! Pages of the past, out of the histories of a stream's channels.
//!
//! They are read once all channels are confirmed: from then on it is known since when each of them is
//! complete.

use std::sync::Arc;

use tokio::time::Instant;

use super::channel::Confirmation;
use super::hub_state::HubState;
use crate::fleet::member::Fleet;
use crate::fleet::rules::FleetRule;
use crate::gap::GapReason;
use crate::history::merge::HistorySlice;
use crate::history::page::ReplayPage;
use crate::inbox::message::{Message, ReplayMessage};
use crate::position::cursor::Cursor;
use crate::position::event_id::EventId;
use crate::position::resume::Resume;
use crate::requests::shard_request::{ReplayRequest, StreamAddress};
use crate::requests::source_request::LogRead;
use crate::subject::ChannelIndex;
use crate::{EntryId, Ids};

impl HubState {
    /// Sends the requested page, or keeps the request until all channels are confirmed. Returns what the
    /// source must read of a log first.
    pub(super) fn replay(&mut self, mut request: ReplayRequest) -> Option<LogRead> {
        let channels = self.channels_of(&request)?;
        if let Some(&awaited) = self.first_awaited(&channels) {
            self.wait_for(awaited, request);
            return None;
        }
        self.touch(&channels);
        let mut is_unsure = false;
        match &request.resume {
            Resume::AfterId(id) => {
                let (resume, is_certain) = self.after_id(id, &channels);
                (request.resume, is_unsure) = (resume, !is_certain);
            }
            Resume::Whole => request.resume = self.since_confirmed(&channels),
            Resume::After { .. } | Resume::Newest(_) | Resume::Foreign(_) | Resume::Unknown => {}
        }
        if request.resume == Resume::Unknown {
            let start = self.newest_entries(&channels);
            let page = ReplayPage::unknown_id(channels.len(), self.numbers.settled(), start);
            self.send_page(request, page);
            return None;
        }
        if request.topics.first().is_some_and(|topic| topic.ids.is_log()) {
            return self.replay_logs(request, &channels);
        }
        if let Resume::Foreign(ids) = &request.resume {
            let ids = Arc::clone(ids);
            self.replay_foreign(request, &ids, &channels);
            return None;
        }
        let mut page = self.page(&request, &channels);
        if is_unsure {
            page.begin_without_place(GapReason::UnknownId, vec![0]);
        }
        self.send_page(request, page);
        None
    }

    /// The first of these channels that is not confirmed yet.
    pub(super) fn first_awaited<'a>(
        &self,
        channels: &'a [ChannelIndex],
    ) -> Option<&'a ChannelIndex> {
        let is_awaited = |&&index: &&ChannelIndex| {
            self.channels[index as usize].confirmation == Confirmation::Awaited
        };
        channels.iter().find(is_awaited)
    }

    /// The subscriber has left.
    pub(super) fn cancel_replay(&mut self, stream: StreamAddress) {
        self.waiting.remove(&stream);
        self.pending_log_reads.remove(&stream);
    }

    /// The channels of a request; `None` if one of them was refused: then the stream ends.
    pub(super) fn channels_of(&self, request: &ReplayRequest) -> Option<Vec<ChannelIndex>> {
        request.topics.iter().map(|topic| self.by_topic.get(topic).copied()).collect()
    }

    /// The histories of these channels are about to be read.
    pub(super) fn touch(&mut self, channels: &[ChannelIndex]) {
        let now = Instant::now();
        for &index in channels {
            let channel = &mut self.channels[index as usize];
            channel.used = self.numbers.newest();
            channel.change_history(&mut self.budget, |history| history.expire(now));
        }
    }

    pub(super) fn send_page(&mut self, request: ReplayRequest, page: ReplayPage) {
        let ReplayRequest { stream: StreamAddress { shard, key }, topics, ticket, .. } = request;
        let number = self.numbers.settled();
        let message = ReplayMessage { stream: key, ticket, topics, page, number };
        self.senders.send_to(shard, Message::Replay(Box::new(message)));
    }

    /// The histories of these channels, each after the number that `after` returns for its place.
    pub(super) fn slices(
        &self,
        channels: &[ChannelIndex],
        after: impl Fn(usize) -> u64,
    ) -> Vec<HistorySlice<'_>> {
        let slice = |(place, &channel): (usize, &ChannelIndex)| {
            let history = self.channels[channel as usize].history.as_ref()?;
            Some(HistorySlice { channel, history, after: after(place) })
        };
        let slices: Vec<_> = channels.iter().enumerate().filter_map(slice).collect();
        debug_assert_eq!(slices.len(), channels.len(), "a stream with ids of ours has histories");
        slices
    }

    pub(super) fn page(&self, request: &ReplayRequest, channels: &[ChannelIndex]) -> ReplayPage {
        let (newest, settled) = (self.numbers.newest(), self.numbers.settled());
        let max_bytes = request.max_bytes;
        let (slices, floors) = match &request.resume {
            Resume::After { cursor, floors } if cursor.number() <= newest => {
                let floor = |place: usize| floors.as_ref().map_or(0, |floors| floors[place]);
                (self.slices(channels, |place| cursor.number().max(floor(place))), floors.clone())
            }
            Resume::Newest(count) => {
                let number = |&index: &ChannelIndex| {
                    let history = self.channels[index as usize].history.as_ref();
                    history.map_or(newest, |history| history.number_before_newest(*count))
                };
                let floors: Arc<[u64]> = channels.iter().map(number).collect();
                (self.slices(channels, |place| floors[place]), Some(floors))
            }
            // A number that was not given yet is unknown, too.
            Resume::After { .. }
            | Resume::Whole
            | Resume::AfterId(_)
            | Resume::Foreign(_)
            | Resume::Unknown => {
                return ReplayPage::unknown_id(channels.len(), settled, Box::default());
            }
        };
        let mut page = ReplayPage::read(&slices, settled, max_bytes, self.is_gap_first());
        page.floors = page.floors.or(floors);
        page
    }

    /// What follows the event with this id on the one channel of a stream, and whether that is certain. An id
    /// of ours may be that of an event that is not kept any more.
    fn after_id(&self, id: &[u8], channels: &[ChannelIndex]) -> (Resume, bool) {
        let history = channels.first().and_then(|&index| {
            let channel = self.channels.get(index as usize)?;
            channel.history.as_ref()
        });
        if let Some(place) = history.and_then(|history| history.place_of_id(id)) {
            return (self.after_number(place.number), place.is_certain);
        }
        let ours = EventId::parse(id).filter(|id| id.run == self.run);
        (ours.map_or(Resume::Unknown, |id| self.after_number(id.number)), true)
    }

    /// Everything since the one channel of a stream was confirmed. What was dropped since is missing.
    fn since_confirmed(&self, channels: &[ChannelIndex]) -> Resume {
        let confirmed = channels.first().map(|&index| self.channels[index as usize].confirmed);
        self.after_number(confirmed.unwrap_or_default())
    }

    fn after_number(&self, number: u64) -> Resume {
        Resume::after(Cursor::new(Ids::Mixed, self.run, std::iter::empty()).at(number))
    }

    /// Whether the gap for what is no longer kept comes first on a page.
    fn is_gap_first(&self) -> bool {
        let is_any = self.fleet.has_marks() || self.nodes.all().any(Fleet::has_marks);
        is_any && FleetRule::GapFirst.holds()
    }

    fn newest_entries(&self, channels: &[ChannelIndex]) -> Box<[Option<EntryId>]> {
        let entries = channels.iter().filter_map(|&index| self.channels[index as usize].entry());
        entries.map(Some).collect()
    }

    pub(super) fn wait_for(&mut self, index: ChannelIndex, request: ReplayRequest) {
        let (waiting, stream) = (&mut self.waiting, request.stream);
        waiting.insert(stream, request);
        let streams = &mut self.channels[index as usize].waiting;
        // While the source is away, clients come and go.
        if streams.len() == streams.capacity() {
            streams.retain(|stream| waiting.contains_key(stream));
        }
        streams.push(stream);
    }
}
