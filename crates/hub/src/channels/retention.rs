//! How much is kept of each channel, and how long it is followed without subscribers.

use std::sync::Arc;

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::Ids;
use crate::Topic;
use crate::history::History;
use crate::history::retention::HistorySettings;
use crate::history::retention::Retention;
use crate::settings::HubSettings;
use crate::subject::ChannelIndex;

impl HubState {
    /// Changes the bounds, after a reload.
    pub(super) fn change(&mut self, settings: HubSettings) {
        let rules = Arc::clone(&settings.retention);
        let is_retention_new = rules != self.settings.retention;
        self.budget.set_max_bytes(settings.history_memory);
        let is_followed_new = settings.followed != self.settings.followed;
        self.settings = settings;
        if is_retention_new {
            let channels = self.channels.iter();
            let ruled = channels
                .filter_map(|(_, channel)| Some((channel.index, rules.of(&channel.topic)?)));
            for (index, retention) in ruled.collect::<Vec<_>>() {
                self.retain(index, retention);
            }
        }
        if is_followed_new {
            self.change_followed(Instant::now());
        }
        self.evict_surplus(0);
    }

    /// The retention of a channel that a stream joins; `requested` is that of the stream's route.
    pub(super) fn retention_for(&self, topic: &Topic, requested: Retention) -> Retention {
        self.settings.retention.of(topic).unwrap_or_else(|| {
            // No route leads there any more: what its streams have requested counts.
            let known = self.by_topic.get(topic).map(|index| &self.channels[*index as usize]);
            known.map_or(requested, |channel| channel.retention().or_more(requested))
        })
    }

    /// Changes the retention of a channel.
    pub(super) fn retain(&mut self, index: ChannelIndex, retention: Retention) {
        // Not the newest number: entries of logs may have taken later ones, and a gap that reached up to
        // those would lie behind the next copy of this message.
        self.retain_from(index, retention, self.numbers.message());
    }

    /// Changes the retention of a channel. If it had no history, it is complete after `number`.
    pub(super) fn retain_from(&mut self, index: ChannelIndex, retention: Retention, number: u64) {
        let Retention { history, linger } = retention;
        let channel = &mut self.channels[index as usize];
        // A log always needs a short history, to join what is read again with what is live.
        let history = history.or_else(|| channel.is_log().then_some(HistorySettings::LEAST));
        if let Some(settings) = history {
            if channel.history.is_none() {
                channel.history = Some(match channel.topic.ids {
                    Ids::Entries | Ids::Recorded => {
                        History::of_log(settings, self.numbers.newest(), channel.newest_entry)
                    }
                    Ids::Ours | Ids::Publisher => History::new(settings, number),
                    Ids::Mixed => History::of_foreign_ids(settings, number),
                });
            }
            let now = Instant::now();
            channel.change_history(&mut self.budget, |history| history.set_bounds(settings, now));
        }
        channel.linger = linger;
        self.renew_linger(index);
    }
}
