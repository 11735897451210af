//! The settings of a route, as gateway.yaml says them.

use std::sync::Arc;

use http::Method;
use ssegate_format::Format;
use ssegate_hub::{ChannelName, HistorySettings, StreamSettings};

use super::keep::KeepSettings;
use super::presence::PresenceSettings;
use super::proxy::ProxySettings;
use super::servers::ServerChoice;
use super::share::ShareSettings;
use crate::auth::AuthSettings;
use crate::grip::signature::Secret;

/// One entry of `routes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// A path with `{name}` for one segment and `{*name}` for the rest.
    pub path: String,
    /// The host that it matches, without port and in lower case; `None`: every host.
    pub host: Option<String>,
    /// The methods that it matches; empty: all methods.
    pub methods: Vec<Method>,
    /// What handles the requests.
    pub target: Target,
    /// Who may make the requests; `None`: everybody.
    pub auth: Option<Arc<AuthSettings>>,
    /// Which other origins may read the responses.
    pub cors: CorsSettings,
    /// How the backend may hand streams over; `None`: it may not.
    pub handover: Option<HandoverSettings>,
    /// Which event streams of the backend are kept; `None`: none.
    pub keep: Option<Arc<KeepSettings>>,
    /// Which event streams of the backend several readers have together; `None`: none.
    pub share: Option<Arc<ShareSettings>>,
    /// The `presence` of an events route; `None`: off.
    pub presence: Option<Arc<PresenceSettings>>,
}

/// What handles the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A stream of events.
    Events(EventsSettings),
    /// A backend.
    Proxy(ProxySettings),
    /// Publishes what is sent to it.
    Publish(PublishSettings),
    /// The demo page of `ssegate dev`.
    Demo,
}

/// Publishing on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishSettings {
    /// Templates of channel names, from path and query, without the `strip_prefix` of the routes that follow
    /// them. Empty with `claim`: each message names its channel.
    pub channels: Vec<String>,
    /// The claim of the client's token that lists the channels it may publish to; `None`: all that the templates
    /// make.
    pub claim: Option<String>,
    /// The largest body of a request, in bytes.
    pub max_body: usize,
    /// About how many entries each Redis Stream keeps; `None`: all.
    pub max_stream_entries: Option<usize>,
}

impl Default for PublishSettings {
    fn default() -> Self {
        Self { channels: Vec::new(), claim: None, max_body: 1 << 20, max_stream_entries: None }
    }
}

/// A stream of events on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsSettings {
    /// Templates of channel names, from path and query: `{channel}`, `news`, `user:{query.id}`.
    pub channels: Vec<String>,
    /// The format of messages.
    pub format: Format,
    /// The kind of source.
    pub source: EventsSource,
    /// Which server the channels are at.
    pub server: ServerChoice,
    /// The history of each channel; `None` (`history: off`): no history, and events have no id of the
    /// gateway.
    pub history: Option<HistorySettings>,
    /// The prefix of a channel's name in Redis that clients do not see.
    pub strip_prefix: String,
    /// Whether a name with glob characters subscribes to a pattern.
    pub patterns: bool,
    /// Whether its channels are sharded ones (`SSUBSCRIBE`).
    pub sharded: bool,
    /// The patterns that are followed from the start, as the source takes them.
    pub follow: Vec<ChannelName>,
    /// The most channels on one stream.
    pub max_channels: usize,
    /// The claim of the client's token that lists the channels it may have. Without `channels` it is
    /// subscribed to all of them.
    pub claim: Option<String>,
    /// The settings of the stream.
    pub stream: StreamSettings,
    /// The form of `ready`.
    pub ready: Ready,
}

/// The form of `ready`, by which a client knows that all its channels are subscribed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ready {
    /// [`Block`](Self::Block) for a browser's `EventSource`, [`Line`](Self::Line) for other clients.
    #[default]
    Auto,
    /// A comment line.
    Line,
    /// A block with the client's position as id.
    Block,
}

/// The kind of source of a route's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventsSource {
    /// Redis pub/sub: a message reaches the current subscribers.
    #[default]
    PubSub,
    /// Logs, whose entries are kept: Redis Streams.
    Log,
    /// Redis pub/sub, which gateways record: a log whose messages reach the current subscribers at once.
    Recorded,
}

impl EventsSource {
    /// Whether Redis keeps the past of the channels.
    pub fn is_log(self) -> bool {
        matches!(self, Self::Log | Self::Recorded)
    }
}

/// Which other origins may read responses (CORS protocol, Fetch standard).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsSettings {
    /// Origins as browsers send them, `https://app.example`; `*` for all.
    pub origins: Vec<String>,
    /// Whether requests may have credentials, such as cookies; never with `*`.
    pub credentials: bool,
}

/// The `handover` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverSettings {
    /// The secret that the gateway shares with the backend.
    pub key: Secret,
    /// The `iss` claim of `Grip-Sig`.
    pub issuer: String,
    /// The settings of the streams. `channels` is empty: the backend names the channels.
    pub events: EventsSettings,
}
