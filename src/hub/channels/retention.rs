//! How much is kept of each channel, and for how long it is followed.

use std::sync::Arc;

use tokio::time::Instant;

use super::hub_state::HubState;
use super::lingering::Linger;
use crate::event::{Ids, Topic};
use crate::hub::history::History;
use crate::hub::history::retention::Retention;
use crate::hub::inbox::ChannelIndex;
use crate::hub::{HistorySettings, HubSettings};

impl HubState {
    /// Keeps to other bounds from now on.
    pub(super) fn change(&mut self, settings: HubSettings) {
        let rules = Arc::clone(&settings.retention);
        let is_retention_new = rules != self.settings.retention;
        self.memory.hold(settings.history_memory);
        self.settings = settings;
        if is_retention_new {
            let channels = self.channels.iter();
            let ruled = channels.filter_map(|(index, channel)| {
                Some((ChannelIndex::try_from(index).ok()?, rules.of(&channel.topic)?))
            });
            for (index, retention) in ruled.collect::<Vec<_>>() {
                self.retain(index, retention);
            }
        }
    }

    /// What is to be kept of a channel that somebody joins who wants this.
    pub(super) fn retention_for(&self, topic: &Topic, wanted: Retention) -> Retention {
        self.settings.retention.of(topic).unwrap_or_else(|| {
            // No route leads there, or no longer: what its streams have asked for.
            let known = self.by_topic.get(topic).map(|index| &self.channels[*index as usize]);
            known.map_or(wanted, |channel| channel.retention().or_more(wanted))
        })
    }

    /// Keeps so much of the channel from now on.
    pub(super) fn retain(&mut self, index: ChannelIndex, retention: Retention) {
        let Retention { history, linger } = retention;
        let channel = &mut self.channels[index as usize];
        // Between what is read of a log again and what is read live there is always a little.
        let history = history.or_else(|| channel.is_log().then_some(HistorySettings::LEAST));
        if let Some(settings) = history {
            if channel.history.is_none() {
                channel.history = Some(match channel.topic.ids {
                    Ids::Entries => History::of_log(settings, self.numbers.newest(), channel.entry),
                    // Entries of logs have taken later numbers, but are not heard here. A gap that
                    // reached up to those would lie behind the next copy of this message.
                    Ids::Ours | Ids::Publisher => History::new(settings, self.numbers.message()),
                });
            }
            let now = Instant::now();
            channel.change_history(&mut self.memory, |history| history.keep(settings, now));
        }
        channel.linger = linger;
        if let Some(lingers) = channel.lingers {
            self.lingering.remove(index, lingers);
            let lingers = Linger { until: lingers.since + linger, ..lingers };
            channel.lingers = Some(lingers);
            self.lingering.add(index, lingers);
        }
    }
}
