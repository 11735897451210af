//! Resolves the keys of streams: `sse` gives the defaults, and a route overrides them.

use std::time::Duration;

use crate::config::field::{Field, OrOff};
use crate::config::file::{HistoryFile, QueueFile, ReadyFile, ReplayFile, SseFile, WhenFullFile};
use crate::hub::{HistorySettings, Replay, StreamSettings, WhenFull};
use crate::route::Ready;

use super::{MAX_LENGTH, Resolver};

/// The default limit of channels on one stream.
const MAX_CHANNELS: usize = 100;

/// The default of `linger` where a channel has no history.
const LINGER_WITHOUT_HISTORY: Duration = Duration::from_secs(30);

/// The settings of streams, from `sse` or from a route.
#[derive(Clone, Debug)]
pub(in crate::config) struct StreamDefaults {
    stream: StreamSettings,
    /// The value of `linger`; `None`: it follows from the history.
    linger: Option<Duration>,
    pub(in crate::config) history: Option<HistorySettings>,
    pub(in crate::config) max_channels: usize,
    pub(in crate::config) ready: Ready,
}

impl Default for StreamDefaults {
    fn default() -> Self {
        Self {
            stream: StreamSettings::default(),
            linger: None,
            history: Some(HistorySettings::default()),
            max_channels: MAX_CHANNELS,
            ready: Ready::default(),
        }
    }
}

impl StreamDefaults {
    /// The settings of a stream.
    pub(in crate::config) fn stream(&self) -> StreamSettings {
        // A channel must stay subscribed while clients may resume from its history.
        let linger = self.history.map_or(LINGER_WITHOUT_HISTORY, |history| history.age);
        StreamSettings { linger: self.linger.unwrap_or(linger), ..self.stream.clone() }
    }
}

impl StreamDefaults {
    /// The same settings without a replay.
    pub(super) fn without_replay(&self) -> Self {
        let stream = StreamSettings { replay: Replay::None, ..self.stream.clone() };
        Self { stream, ..self.clone() }
    }
}

impl Resolver<'_> {
    pub(super) fn stream_defaults(&self, sse: Field<SseFile>) -> StreamDefaults {
        self.stream_keys(sse.or_default(), &StreamDefaults::default())
    }

    /// Returns the settings of `file`, and those of `defaults` where a key is absent.
    pub(super) fn stream_keys(&self, file: SseFile, defaults: &StreamDefaults) -> StreamDefaults {
        let SseFile { keep_alive, retry, history, replay, gap_events, linger, .. } = file;
        let SseFile { ready, max_channels, max_stream_age, queue, .. } = file;
        let default = &defaults.stream;
        let QueueFile { bytes, when_full } = queue.or_default();
        StreamDefaults {
            stream: StreamSettings {
                keep_alive: self.time(keep_alive, default.keep_alive),
                keep_alive_text: default.keep_alive_text.clone(),
                retry: self.time(retry, default.retry),
                gap_events: gap_events.or(default.gap_events),
                replay: replay.value().map_or(default.replay, Replay::from),
                max_queue_bytes: self.size(bytes, default.max_queue_bytes, 1, MAX_LENGTH),
                when_full: when_full.value().map_or(default.when_full, WhenFull::from),
                linger: default.linger,
                max_age: match max_stream_age {
                    Field::Absent => default.max_age,
                    age => {
                        Some(self.time_or_none(age, Duration::ZERO)).filter(|age| !age.is_zero())
                    }
                },
            },
            linger: match linger {
                Field::Absent => defaults.linger,
                linger => Some(self.time_or_none(linger, default.linger)),
            },
            history: self.history(history, defaults.history),
            ready: ready.value().map_or(defaults.ready, Ready::from),
            max_channels: self.count(max_channels, defaults.max_channels),
        }
    }

    fn history(
        &self,
        field: Field<OrOff<HistoryFile>>,
        default: Option<HistorySettings>,
    ) -> Option<HistorySettings> {
        let file = match field.value() {
            None => return default,
            Some(OrOff::Off) => return None,
            Some(OrOff::On(file)) => file,
        };
        let default = default.unwrap_or_default();
        Some(HistorySettings {
            count: self.count(file.count, default.count),
            bytes: self.size(file.bytes, default.bytes, 1, usize::MAX),
            age: self.time(file.age, default.age),
        })
    }
}

impl From<ReplayFile> for Replay {
    fn from(word: ReplayFile) -> Self {
        match word {
            ReplayFile::None => Self::None,
            ReplayFile::Newest(count) => Self::Newest(count),
            ReplayFile::All => Self::All,
        }
    }
}

impl From<ReadyFile> for Ready {
    fn from(word: ReadyFile) -> Self {
        match word {
            ReadyFile::Auto => Self::Auto,
            ReadyFile::Line => Self::Line,
            ReadyFile::Block => Self::Block,
        }
    }
}

impl From<WhenFullFile> for WhenFull {
    fn from(word: WhenFullFile) -> Self {
        match word {
            WhenFullFile::Disconnect => Self::Disconnect,
            WhenFullFile::DropOldest => Self::DropOldest,
            WhenFullFile::Latest => Self::Latest,
        }
    }
}
