//! The keys of streams: `sse`, and the same keys on a route.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use ssegate_hub::{HistorySettings, Replay, StreamSettings, WhenFull};
use ssegate_strict_yaml::{Count, Size, Time, mapping, quoted, sets};

use crate::route::Ready;

/// Declares a mapping with the keys of streams, after its own.
macro_rules! stream_mapping {
    ($(#[$attribute:meta])* struct $name:ident { $($own:tt)* }) => {
        ssegate_strict_yaml::mapping! {
            $(#[$attribute])*
            pub(crate) struct $name sets $crate::config::stream_options::StreamOptions {
                $($own)*
                /// A comment is sent after this long without a write.
                keep_alive: ssegate_strict_yaml::Time => stream.keep_alive,
                /// How long a client waits before it reconnects: the `retry` field at the start of a stream.
                retry: ssegate_strict_yaml::Time => stream.retry,
                /// The events kept of each channel, so that clients can resume. `off`: none.
                history: ssegate_strict_yaml::OrOff<$crate::config::file::stream::HistoryFile> => history,
                /// The events of each channel's history that a client without an id receives first: `none`,
                /// `last`, a number of events, or `all`.
                replay: $crate::config::file::stream::ReplayFile => stream.replay,
                /// Whether a client that missed events receives an `event: gap`.
                gap_events: bool => stream.gap_events,
                /// How long a channel stays subscribed after its last client has left. Default: the age of
                /// the history, or 30s without a history.
                linger: ssegate_strict_yaml::TimeOrZero => linger,
                /// The form of `ready`, which tells a client that all its channels are subscribed: `line`, a
                /// comment; `block`, with the position as id, so that a client without any event can
                /// resume; or `auto`, a block for a browser's `EventSource` and a line for other clients,
                /// some of which take a block without data for an event.
                ready: $crate::config::file::stream::ReadyFile => ready,
                /// The most channels on one stream.
                max_channels: ssegate_strict_yaml::Count => max_channels,
                /// A stream is closed after this, or up to a quarter earlier, and its client reconnects and
                /// resumes, perhaps at another gateway. 0s: never.
                max_stream_age: ssegate_strict_yaml::TimeOrZero => stream.max_age,
                /// The events that wait for a slow client.
                queue: $crate::config::file::stream::QueueFile => stream,
            }
        }
    };
}

pub(super) use stream_mapping;

stream_mapping! {
    /// Defaults for all events routes.
    #[schemars(rename = "Sse")]
    struct SseFile {}
}

mapping! {
    /// The newest events of a channel, within all three limits.
    #[schemars(rename = "History")]
    pub(crate) struct HistoryFile sets HistorySettings {
        /// The most events.
        count: Count => count,
        /// The largest size of all events.
        bytes: Size => bytes in Size::BYTE..=Size::MAX,
        /// The longest time since an event was received.
        age: Time => age,
    }
}

mapping! {
    /// The events that wait for a slow client.
    #[schemars(rename = "Queue")]
    pub(crate) struct QueueFile sets StreamSettings {
        /// The largest size of all events. A single event may always wait, whatever its size.
        bytes: Size => max_queue_bytes in Size::BYTE..=Size::MAX_LENGTH,
        /// What happens when the queue is full.
        when_full: WhenFullFile => when_full,
    }
}

/// What happens when the queue of a client is full.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WhenFull")]
pub(crate) enum WhenFullFile {
    /// The stream is closed; the client reconnects and resumes.
    Disconnect,
    /// The oldest events are dropped, and reported as a gap.
    DropOldest,
    /// Only the newest event of each channel is kept: for dashboards.
    Latest,
}

/// The form of `ready`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Ready")]
pub(crate) enum ReadyFile {
    /// A block for a browser's `EventSource`, a line for other clients.
    Auto,
    /// A comment line.
    Line,
    /// A block with the client's position as id.
    Block,
}

/// What a client without an id receives first: `none`, `last`, a number of events, or `all`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum ReplayFile {
    None,
    Newest(usize),
    All,
}

impl ReplayFile {
    /// The highest number of events; `all` has no limit.
    const MOST: usize = 10_000;
}

impl TryFrom<String> for ReplayFile {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "none" => Ok(Self::None),
            "last" => Ok(Self::Newest(1)),
            "all" => Ok(Self::All),
            number => match number.parse() {
                Ok(count @ 1..=Self::MOST) => Ok(Self::Newest(count)),
                _ => Err(format!(
                    "expected none, last, all or a number from 1 to {}; this is {}",
                    Self::MOST,
                    quoted(&text)
                )),
            },
        }
    }
}

impl JsonSchema for ReplayFile {
    fn schema_name() -> Cow<'static, str> {
        "Replay".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": r"^(none|last|all|[0-9]+)$|\$\{",
            "minimum": 1,
            "maximum": Self::MOST,
            "examples": ["none", "last", 10, "all"],
        })
    }
}

sets! {
    ReplayFile => Replay = |word| match *word {
        ReplayFile::None => Replay::None,
        ReplayFile::Newest(count) => Replay::Newest(count),
        ReplayFile::All => Replay::All,
    };
    ReadyFile => Ready = |word| match word {
        ReadyFile::Auto => Ready::Auto,
        ReadyFile::Line => Ready::Line,
        ReadyFile::Block => Ready::Block,
    };
    WhenFullFile => WhenFull = |word| match word {
        WhenFullFile::Disconnect => WhenFull::Disconnect,
        WhenFullFile::DropOldest => WhenFull::DropOldest,
        WhenFullFile::Latest => WhenFull::Latest,
    };
}
