//! What the source has confirmed, and what it has lost.

use super::channel::Confirmation;
use super::state::State;
use crate::hub::inbox::Message;

impl State {
    pub(super) fn confirm(&mut self, is_pattern: bool, name: &str) {
        for &index in self.names.readings(is_pattern, name) {
            let channel = &mut self.channels[index as usize];
            match channel.confirmation {
                Confirmation::Given => continue,
                Confirmation::Awaited => {
                    if let Some(history) = &mut channel.history {
                        history.begin(self.number);
                    }
                }
                Confirmation::Withdrawn => self.restored.push(index),
            }
            channel.confirmation = Confirmation::Given;
            let (number, entry) = (self.number, channel.entry);
            self.ports.deal(channel.shards, || Message::Confirmed {
                channel: index,
                number,
                entry,
            });
        }
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
}
