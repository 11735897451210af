//! Routes: which route a request matches, and which channels its stream has.
//!
//! Knows of a request only its host, path, query and method.
//!
//! [`router`] finds the route, and [`channels`] the topics of its stream.

mod channels;
mod handover;
mod proxy;
mod router;
mod template;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::Method;
use ssegate_format::Format;
use ssegate_hub::{HistorySettings, StreamSettings};
use tokio::time::Instant;

use crate::log_limit::LogLimit;

pub use channels::{ChannelError, Channels};
pub use handover::{HandoverSettings, RouteHandover};
pub use proxy::{ProxySettings, UpstreamAddress, UpstreamTls};
pub use router::{Matched, Parameters, Router, RouterError};

/// The methods of an events route without `methods`.
pub const STREAM_METHODS: [Method; 2] = [Method::GET, Method::HEAD];

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
    /// Which other origins may read the responses.
    pub cors: CorsSettings,
    /// How the backend may hand streams over; `None`: it may not.
    pub handover: Option<HandoverSettings>,
}

/// A route of the running gateway.
#[derive(Debug)]
pub struct Route {
    /// Its settings.
    pub settings: Arc<RouteSettings>,
    /// Its index in the list of routes.
    pub index: usize,
    /// The channels of an events route.
    pub channels: Option<Channels>,
    /// The handover of a proxy route whose backend may hand streams over.
    pub handover: Option<RouteHandover>,
    /// The number of open connections to its upstreams, over all shards.
    pub upstream_connections: Arc<AtomicUsize>,
    /// Limits repeated warnings about its backend.
    warnings: LogLimit,
    /// The names of the path's parameters, in order. Empty unless it is an events route: no other route
    /// uses their values.
    parameters: Vec<String>,
}

impl Route {
    fn new(index: usize, settings: Arc<RouteSettings>) -> Self {
        let channels = match &settings.target {
            Target::Events(events) => Some(Channels::new(events.clone())),
            Target::Proxy(_) | Target::Demo => None,
        };
        let handover = settings.handover.clone().map(RouteHandover::new);
        let parameters = match channels {
            Some(_) => router::parameter_names(&settings.path),
            None => Vec::new(),
        };
        let upstream_connections = Arc::default();
        let warnings = LogLimit::new();
        Self { index, parameters, settings, channels, handover, upstream_connections, warnings }
    }

    /// Calls `log` to warn about the backend, unless a warning of this kind was logged recently. `log`
    /// gets the number of warnings suppressed since then.
    pub fn warn(&self, kind: &'static str, log: impl FnOnce(u64)) {
        if let Some(held_back) = self.warnings.pass(kind, Instant::now()) {
            log(held_back);
        }
    }

    fn accepts(&self, method: &Method, preflight: Option<&Method>) -> bool {
        match preflight {
            // The gateway responds to preflights of its own streams; a backend gets them like any request.
            Some(requested) if self.channels.is_some() => {
                STREAM_METHODS.contains(requested) && self.allows(requested)
            }
            _ => self.allows(method),
        }
    }

    fn allows(&self, method: &Method) -> bool {
        self.settings.methods.is_empty() || self.settings.methods.contains(method)
    }

    /// The methods for the `Allow` header.
    fn methods(&self) -> &[Method] {
        if self.settings.methods.is_empty() && self.channels.is_some() {
            return &STREAM_METHODS;
        }
        &self.settings.methods
    }

    fn has_catch_all(&self) -> bool {
        self.settings.path.contains("{*")
    }
}

/// What handles the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A stream of events.
    Events(EventsSettings),
    /// A backend.
    Proxy(ProxySettings),
    /// The demo page of `ssegate dev`.
    Demo,
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
    /// The history of each channel; `None` (`history: off`): no history, and events have no id of the
    /// gateway.
    pub history: Option<HistorySettings>,
    /// The prefix of a channel's name in Redis that clients do not see.
    pub strip_prefix: String,
    /// Whether a name with glob characters subscribes to a pattern.
    pub patterns: bool,
    /// The most channels on one stream.
    pub max_channels: usize,
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
}

/// Which other origins may read responses (CORS protocol, Fetch standard).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsSettings {
    /// Origins as browsers send them, `https://app.example`; `*` for all.
    pub origins: Vec<String>,
    /// Whether requests may have credentials, such as cookies; never with `*`.
    pub credentials: bool,
}
