//! What a client missed, out of the histories of its channels.

use std::sync::Arc;

use tokio::time::Instant;

use super::channel::Confirmation;
use super::state::State;
use crate::hub::calls::{Caller, ReplayCall};
use crate::hub::history::page::{Page, Past, page};
use crate::hub::inbox::{ChannelIndex, Message};
use crate::hub::resume::Resume;

impl State {
    /// Answers with a piece of the past.
    pub(super) fn replay(&mut self, (shard, member): Caller, asked: ReplayCall) {
        let ReplayCall { topics, resume, max_bytes, ticket } = asked;
        let indices: Vec<ChannelIndex> =
            topics.iter().filter_map(|topic| self.by_topic.get(topic).copied()).collect();
        self.look_back(&indices);
        let (page, floors) = match resume {
            // A number that we have not given yet is not ours either.
            Resume::After { number, floors } if number <= self.number => {
                let floor = |at: usize| floors.as_ref().and_then(|floors| floors.get(at).copied());
                let starts = |at| floor(at).map_or(number, |floor| floor.max(number));
                (self.page(&indices, starts, max_bytes), floors)
            }
            Resume::Newest(count) => {
                let start = |&index: &ChannelIndex| {
                    let history = self.channels[index as usize].history.as_ref();
                    history.map_or(self.number, |history| history.start_of_newest(count))
                };
                let floors: Arc<[u64]> = indices.iter().map(start).collect();
                (self.page(&indices, |at| floors[at], max_bytes), Some(floors))
            }
            _ => (Page::unknown_id(indices, self.number), None),
        };
        let number = self.number;
        self.ports.tell(shard, Message::Replay { member, ticket, page, floors, number });
    }

    /// The pasts of these channels are about to be looked at.
    pub(super) fn look_back(&mut self, indices: &[ChannelIndex]) {
        let now = Instant::now();
        let number = self.number;
        for &index in indices {
            let channel = &mut self.channels[index as usize];
            let is_followed = channel.confirmation != Confirmation::Awaited;
            channel.used = number;
            channel.change_history(&mut self.memory, |history| {
                history.expire(now);
                // What is not heard yet has no past that could be promised.
                if !is_followed {
                    history.begin(number);
                }
            });
        }
    }

    fn page(
        &self,
        indices: &[ChannelIndex],
        start: impl Fn(usize) -> u64,
        max_bytes: usize,
    ) -> Page {
        let past = |(at, &channel): (usize, &ChannelIndex)| {
            let history = self.channels[channel as usize].history.as_ref()?;
            Some(Past { channel, history, after: start(at) })
        };
        let pasts: Vec<_> = indices.iter().enumerate().filter_map(past).collect();
        page(&pasts, max_bytes)
    }
}
