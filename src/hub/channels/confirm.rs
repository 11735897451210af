//! What the source has confirmed, and what it has lost.
//!
//! Each confirmation takes a number of its own, so that a client stands either before it, and may
//! have missed something while nobody listened, or behind it. Where the two had one number, a client
//! with the newest id of a channel that was closed and opened again would count as complete.

use super::channel::Confirmation;
use super::hub_state::HubState;
use super::name_index::ChannelIndexes;
use crate::hub::inbox::{ChannelIndex, Message};
use crate::hub::requests::shard_request::Caller;

impl HubState {
    pub(super) fn confirm(&mut self, is_pattern: bool, name: &str) {
        let news = self.not_confirmed(is_pattern, name);
        if news.is_empty() {
            return;
        }
        let number = self.numbers.take();
        let mut callers = Vec::new();
        for index in news {
            let channel = &mut self.channels[index as usize];
            if channel.confirmation == Confirmation::Withdrawn {
                self.restored.push(index);
            } else if let Some(history) = &mut channel.history {
                history.begin(number);
            }
            channel.confirmation = Confirmation::Given;
            channel.confirmed = number;
            callers.append(&mut channel.awaited_by);
            let entry = channel.entry;
            self.ports.deal(channel.shards, || Message::Confirmed {
                channel: index,
                number,
                entry,
            });
        }
        self.serve_waiting(callers);
    }

    /// The source may not listen to it: nobody waits for it any more. What comes until it is
    /// confirmed after all is missing, also for who is told so now.
    pub(super) fn deny(&mut self, is_pattern: bool, name: &str) {
        let mut awaited = self.not_confirmed(is_pattern, name);
        awaited
            .retain(|index| self.channels[*index as usize].confirmation == Confirmation::Awaited);
        if awaited.is_empty() {
            return;
        }
        let number = self.numbers.take();
        let mut callers = Vec::new();
        for index in awaited {
            let channel = &mut self.channels[index as usize];
            channel.confirmation = Confirmation::Denied;
            if let Some(history) = &mut channel.history {
                history.begin(number);
            }
            callers.append(&mut channel.awaited_by);
        }
        self.serve_waiting(callers);
    }

    pub(super) fn lose(&mut self) {
        for (_, channel) in &mut self.channels {
            // A log is read on where it was left.
            if channel.confirmation == Confirmation::Given && !channel.is_log() {
                channel.confirmation = Confirmation::Withdrawn;
            }
        }
        // A gap that has not been told yet is told when they are confirmed again.
        for index in self.restored.drain(..) {
            self.channels[index as usize].confirmation = Confirmation::Withdrawn;
        }
        self.ports.tell_all(&Message::Lost);
    }

    fn not_confirmed(&self, is_pattern: bool, name: &str) -> ChannelIndexes {
        let is_news = |index: &ChannelIndex| {
            self.channels[*index as usize].confirmation != Confirmation::Given
        };
        self.names.readings(is_pattern, name).iter().copied().filter(is_news).collect()
    }

    fn serve_waiting(&mut self, callers: Vec<Caller>) {
        for caller in callers {
            if let Some(call) = self.waiting.remove(&caller) {
                let of_logs = self.look_into(caller, call);
                debug_assert!(of_logs.is_none(), "the channels of a stream are of one kind");
            }
        }
    }
}
