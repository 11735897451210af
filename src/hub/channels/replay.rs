//! What a client missed, out of the histories of its channels.
//!
//! Looked for when all its channels are confirmed: from then on it is known since when each of them
//! is complete.

use std::sync::Arc;

use tokio::time::Instant;

use super::channel::Confirmation;
use super::hub_state::HubState;
use super::logs::PastCall;
use crate::event::Ids;
use crate::hub::history::page::{ChannelPast, Page, page};
use crate::hub::inbox::{ChannelIndex, Message};
use crate::hub::position::resume::Resume;
use crate::hub::requests::shard_request::{Caller, ReplayCall};

impl HubState {
    /// Sends a piece of the past, or lets the call wait until all its channels are confirmed. Returns
    /// what the source is to read first.
    pub(super) fn look_into(&mut self, caller: Caller, call: ReplayCall) -> Option<PastCall> {
        let known = |topic| self.by_topic.get(topic).copied();
        // Where one is not known it was refused, and the stream is at its end.
        let indices = call.topics.iter().map(known).collect::<Option<Vec<ChannelIndex>>>()?;
        let is_awaited = |&&index: &&ChannelIndex| {
            self.channels[index as usize].confirmation == Confirmation::Awaited
        };
        if let Some(&awaited) = indices.iter().find(is_awaited) {
            self.wait_for(awaited, caller, call);
            return None;
        }
        self.look_back(&indices);
        if call.topics.first().is_some_and(|topic| topic.ids == Ids::Entries) {
            return self.replay_logs(caller, call, &indices);
        }
        self.replay(caller, call, &indices);
        None
    }

    /// Nobody waits for this any more.
    pub(super) fn withdraw(&mut self, caller: Caller) {
        self.waiting.remove(&caller);
        self.log_calls.withdraw(caller);
    }

    fn wait_for(&mut self, index: ChannelIndex, caller: Caller, call: ReplayCall) {
        let waiting = &mut self.waiting;
        waiting.insert(caller, call);
        let awaited_by = &mut self.channels[index as usize].awaited_by;
        // While the source is away, clients come and go.
        if awaited_by.len() == awaited_by.capacity() {
            awaited_by.retain(|caller| waiting.contains_key(caller));
        }
        awaited_by.push(caller);
    }

    /// The pasts of these channels are about to be looked at.
    fn look_back(&mut self, indices: &[ChannelIndex]) {
        let now = Instant::now();
        for &index in indices {
            let channel = &mut self.channels[index as usize];
            channel.used = self.numbers.newest();
            channel.change_history(&mut self.memory, |history| history.expire(now));
        }
    }

    fn replay(&mut self, (shard, member): Caller, call: ReplayCall, indices: &[ChannelIndex]) {
        let ReplayCall { resume, max_bytes, ticket, .. } = call;
        let (newest, settled) = (self.numbers.newest(), self.numbers.settled());
        let (page, floors) = match resume {
            // A number that we have not given yet is not ours either.
            Resume::After { number, floors } if number <= newest => {
                let floor = |at: usize| floors.as_ref().map_or(0, |floors| floors[at]);
                let pasts = self.pasts(indices, |at| number.max(floor(at)));
                let page = page(&pasts, settled, max_bytes);
                let told = page.is_expired_told.then(|| complete_after(&pasts));
                (page, told.or(floors))
            }
            Resume::Newest(count) => {
                let start = |&index: &ChannelIndex| {
                    let history = self.channels[index as usize].history.as_ref();
                    history.map_or(newest, |history| history.start_of_newest(count))
                };
                let floors: Arc<[u64]> = indices.iter().map(start).collect();
                let pasts = self.pasts(indices, |at| floors[at]);
                (page(&pasts, settled, max_bytes), Some(floors))
            }
            _ => (Page::unknown_id(indices.to_vec(), settled), None),
        };
        let number = settled;
        self.ports.tell(shard, Message::Replay { member, ticket, page, floors, number });
    }

    fn pasts(
        &self,
        indices: &[ChannelIndex],
        start: impl Fn(usize) -> u64,
    ) -> Vec<ChannelPast<'_>> {
        let past = |(at, &channel): (usize, &ChannelIndex)| {
            let history = self.channels[channel as usize].history.as_ref()?;
            Some(ChannelPast { channel, history, after: start(at) })
        };
        let pasts: Vec<_> = indices.iter().enumerate().filter_map(past).collect();
        debug_assert_eq!(pasts.len(), indices.len(), "where ids are ours there is a history");
        pasts
    }
}

/// From where on the next piece has all of each channel: what is missing before was told.
fn complete_after(pasts: &[ChannelPast<'_>]) -> Arc<[u64]> {
    pasts.iter().map(ChannelPast::complete_after).collect()
}
