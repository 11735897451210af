//! The settings of streams while they are put together: those of the stages, then `sse`, then a route.

use std::time::Duration;

use ssegate_format::Format;
use ssegate_hub::{HistorySettings, Replay, StreamSettings};
use ssegate_strict_yaml::{TimeOrZero, sets};

use crate::route::{EventsSettings, EventsSource, Ready, ServerChoice};

/// The default limit of channels on one stream.
const MAX_CHANNELS: usize = 100;

/// The default of `linger` where a channel has no history.
const LINGER_WITHOUT_HISTORY: Duration = Duration::from_secs(30);

/// The settings of the streams of `sse` or of a route.
#[derive(Clone, Debug)]
pub(super) struct StreamOptions {
    /// Its `linger` is not used; see [`Self::linger`].
    pub(super) stream: StreamSettings,
    pub(super) linger: LingerOption,
    pub(super) history: Option<HistorySettings>,
    pub(super) max_channels: usize,
    pub(super) ready: Ready,
    pub(super) source: EventsSource,
    pub(super) format: Format,
    pub(super) patterns: bool,
    pub(super) sharded: bool,
}

/// How long a channel stays subscribed after its last client has left.
#[derive(Clone, Copy, Debug)]
pub(super) enum LingerOption {
    /// As long as clients can resume: the age of the history.
    WithHistory,
    /// This long.
    For(Duration),
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            stream: StreamSettings::default(),
            linger: LingerOption::WithHistory,
            history: Some(HistorySettings::default()),
            max_channels: MAX_CHANNELS,
            ready: Ready::default(),
            source: EventsSource::default(),
            format: Format::default(),
            patterns: false,
            sharded: false,
        }
    }
}

impl StreamOptions {
    /// The same settings without a replay.
    pub(super) fn without_replay(&self) -> Self {
        let stream = StreamSettings { replay: Replay::None, ..self.stream.clone() };
        Self { stream, ..self.clone() }
    }

    /// The settings of a route's streams.
    pub(super) fn events(
        self,
        channels: Vec<String>,
        (strip_prefix, server): (String, ServerChoice),
    ) -> EventsSettings {
        let linger = match (self.linger, self.history) {
            (LingerOption::For(time), _) => time,
            (LingerOption::WithHistory, Some(history)) => history.age,
            (LingerOption::WithHistory, None) => LINGER_WITHOUT_HISTORY,
        };
        EventsSettings {
            channels,
            format: self.format,
            source: self.source,
            server,
            history: self.history,
            strip_prefix,
            patterns: self.patterns,
            sharded: self.sharded,
            follow: Vec::new(),
            max_channels: self.max_channels,
            claim: None,
            stream: StreamSettings { linger, ..self.stream },
            ready: self.ready,
        }
    }
}

sets! {
    TimeOrZero => LingerOption = |time| LingerOption::For(time.0);
}
