//! The channels with the most messages, for the status page.
//!
//! Each channel counts its messages. The channels are compared only on request, in slices, so that the hub serves its
//! sources between two of them.

use super::Hub;
use super::hub_state::HubState;
use crate::Topic;
use crate::top_list::TopList;

/// How many channels are examined before the hub does something else: some microseconds.
const SLICE: usize = 1024;

/// A channel that has had messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusyChannel {
    /// The channel.
    pub topic: Topic,
    /// Its messages since the last call of [`Hub::busiest`].
    pub messages: u32,
}

impl Hub {
    /// Returns the `max` channels with the most messages since the call before, the busiest first. For one
    /// caller: two would each get a part of the counts. Must not be called again before it has returned.
    pub async fn busiest(&self, max: usize) -> Vec<BusyChannel> {
        let mut top = TopList::new(max);
        let mut next = Some(0);
        while let Some(first) = next {
            next = self.state.borrow_mut().count_messages(first, &mut top);
            tokio::task::yield_now().await;
        }
        top.into_items().collect()
    }
}

impl HubState {
    /// Offers the channels from `first` on that have had messages; returns where the next slice begins.
    fn count_messages(&mut self, first: usize, top: &mut TopList<BusyChannel>) -> Option<usize> {
        let end = first + SLICE;
        for place in first..end.min(self.channels.capacity()) {
            let Some(channel) = self.channels.get_mut(place) else { continue };
            let before = std::mem::replace(&mut channel.messages_seen, channel.messages);
            let messages = channel.messages.wrapping_sub(before);
            if messages > 0 {
                top.offer(u64::from(messages), || BusyChannel {
                    topic: channel.topic.clone(),
                    messages,
                });
            }
        }
        (end < self.channels.capacity()).then_some(end)
    }
}
