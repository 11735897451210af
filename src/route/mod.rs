//! From a request to a route, and from a route to channels.
//!
//! [`router`] finds the route, [`channels`] the topics of a stream. Knows requests only by their
//! host, path, query and method.

mod backend;
mod channels;
mod handover;
mod router;
mod template;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::Method;
use tokio::time::Instant;

use crate::event::Format;
use crate::hub::{HistorySettings, StreamSettings};
use crate::log_limit::LogLimit;

pub use backend::{ProxySettings, UpstreamAddress, UpstreamTls};
pub use channels::{ChannelError, Channels};
pub use handover::{Handover, HandoverSettings};
pub use router::{Matched, Parameters, Router, RouterError};

/// What a stream can be asked for with.
pub const STREAM_METHODS: [Method; 2] = [Method::GET, Method::HEAD];

/// One entry of `routes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// A path with `{name}` for one segment and `{*name}` for the rest.
    pub path: String,
    /// Only for this host (without port, in lower case).
    pub host: Option<String>,
    /// Only for these methods; empty: all of them.
    pub methods: Vec<Method>,
    /// What answers.
    pub target: Target,
    /// Which pages of other origins may read the answer.
    pub cors: CorsSettings,
    /// How its backend may hand streams over; `None`: it may not.
    pub handover: Option<HandoverSettings>,
}

/// A route, ready to be taken.
#[derive(Debug)]
pub struct Route {
    /// As it was configured.
    pub settings: Arc<RouteSettings>,
    /// Its place among the routes.
    pub place: usize,
    /// Of an events route.
    pub channels: Option<Channels>,
    /// Of a proxy route whose backend may hand streams over.
    pub handover: Option<Handover>,
    /// Connections to its upstreams that are open, of all shards.
    pub upstream_connections: Arc<AtomicUsize>,
    // What its backend does wrong again and again.
    warnings: LogLimit,
    // The names in its path, in order; of an events route: nobody else wants their values.
    parameters: Vec<String>,
}

impl Route {
    fn new(place: usize, settings: Arc<RouteSettings>) -> Self {
        let channels = match &settings.target {
            Target::Events(events) => Some(Channels::new(events.clone())),
            Target::Proxy(_) | Target::Demo => None,
        };
        let handover = settings.handover.clone().map(Handover::new);
        let parameters = match channels {
            Some(_) => router::parameter_names(&settings.path),
            None => Vec::new(),
        };
        let upstream_connections = Arc::default();
        let warnings = LogLimit::new();
        Self { place, parameters, settings, channels, handover, upstream_connections, warnings }
    }

    /// Lets `log` warn of what its backend does, unless a warning of this kind has just been logged;
    /// with the number of those that were held back since.
    pub fn warn(&self, kind: &'static str, log: impl FnOnce(u64)) {
        if let Some(held_back) = self.warnings.pass(kind, Instant::now()) {
            log(held_back);
        }
    }

    fn takes(&self, method: &Method, preflight: Option<&Method>) -> bool {
        match preflight {
            // A stream answers for itself; to a backend this is a request as any other.
            Some(asked) if self.channels.is_some() => {
                STREAM_METHODS.contains(asked) && self.lists(asked)
            }
            _ => self.lists(method),
        }
    }

    fn lists(&self, method: &Method) -> bool {
        self.settings.methods.is_empty() || self.settings.methods.contains(method)
    }

    /// Those that it is known to take.
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

/// What a route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A stream of events.
    Events(EventsSettings),
    /// A backend.
    Proxy(ProxySettings),
    /// The demo page of `ssegate dev`.
    Demo,
}

/// A stream of events, as a route describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsSettings {
    /// Templates over path and query: `{channel}`, `news`, `user:{query.id}`.
    pub channels: Vec<String>,
    /// How payloads are written.
    pub format: Format,
    /// Where its events come from.
    pub source: EventsSource,
    /// What is kept of each channel; `None` is `history: off`, and events then carry no id of ours.
    pub history: Option<HistorySettings>,
    /// Put before a channel's name when it is subscribed.
    pub strip_prefix: String,
    /// Whether a name with glob characters subscribes to a pattern. Otherwise it is a plain name.
    pub patterns: bool,
    /// Channels on one stream, at most.
    pub max_channels: usize,
    /// How the stream is kept.
    pub stream: StreamSettings,
    /// The form of `ready`.
    pub ready: Ready,
}

/// The form in which a client is told that it is subscribed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ready {
    /// A block for a browser's `EventSource`, a line for everybody else.
    #[default]
    Auto,
    /// A comment line.
    Line,
    /// A block with the client's position.
    Block,
}

/// Where the events of a route come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventsSource {
    /// What is published to those who listen.
    #[default]
    PubSub,
    /// Logs, whose source keeps their entries: Redis Streams.
    Log,
}

/// Cross-origin reading (the CORS protocol of the Fetch standard).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsSettings {
    /// Origins as browsers write them, `https://app.example`; `*` for all.
    pub origins: Vec<String>,
    /// Whether cookies may come along; not with `*`.
    pub credentials: bool,
}
