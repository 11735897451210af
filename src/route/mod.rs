//! Routes: which route a request matches, and which channels its stream has.
//!
//! Knows of a request only its host, path, query and method.
//!
//! [`router`] finds the route, [`channels`] the topics of its stream, and [`publish`] what may be published to.
//! [`followers`] finds the route that follows a channel, and [`servers`] the server that it is at.

mod allowed_channels;
mod channel_error;
mod channels;
mod follow;
mod followers;
mod handover;
mod jump_hash;
mod keep;
mod parameters;
mod path_readings;
mod presence;
mod proxy;
mod publish;
mod reserved_headers;
mod router;
mod servers;
mod settings;
mod share;
mod template;
mod template_text;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::Method;
use ssegate_hub::ChannelName;
use tokio::time::Instant;

use crate::log_limit::LogLimit;
pub use crate::upstream_address::{UpstreamAddress, UpstreamTls};

pub use channel_error::ChannelError;
pub use channels::Channels;
pub use follow::{is_within, may_match_reserved, with_prefix};
pub use followers::{ChannelFollower, disagreements, first_elsewhere, follower_of, streams};
pub use handover::RouteHandover;
pub use keep::{
    KeepLimits, KeepSettings, KeepStore, KeySource, OnLost, OwnerCredential, ResumePlace,
    ResumeTemplate, SameKey, WhenNobody,
};
pub use parameters::Parameters;
pub use presence::{PresenceSettings, RoutePresence};
pub use proxy::ProxySettings;
pub use publish::{PublishChannels, PublishRoute};
pub use reserved_headers::ReservedHeaders;
pub use router::{Matched, Router, RouterError};
pub use servers::{ServerChoice, ServerList, ServerPlace};
pub use settings::{
    CorsSettings, EventsSettings, EventsSource, HandoverSettings, PublishSettings, Ready,
    RouteSettings, Target,
};
pub use share::{ShareKeyPart, ShareLimits, ShareSettings};
pub use template_text::TemplateText;

/// What the names of channels and keys begin with that gateways use among themselves. Clients can neither
/// subscribe to them nor publish to them over HTTP, and no pattern delivers them.
pub const OWN_NAMES: &str = ChannelName::OF_GATEWAYS;

/// The methods of an events route without `methods`.
pub const STREAM_METHODS: [Method; 2] = [Method::GET, Method::HEAD];

/// A route of the running gateway.
#[derive(Debug)]
pub struct Route {
    /// Its settings.
    pub settings: Arc<RouteSettings>,
    /// Its index in the list of routes.
    pub index: usize,
    /// What metrics, logs and the status page call it: its path, behind its host if it has one
    /// (`app.example/events/{channel}`). Routes that differ by their methods only share it.
    pub label: Box<str>,
    /// What it matches, as one text: the same route after a reload has the same. Empty unless it has `keep`,
    /// `share` or `presence`.
    pub scope: Arc<str>,
    /// The channels of an events route.
    pub channels: Option<Channels>,
    /// The `presence` of an events route, if it has any.
    pub presence: Option<RoutePresence>,
    /// The channels of a publish route.
    pub publish: Option<PublishRoute>,
    /// The handover of a proxy route whose backend may hand streams over.
    pub handover: Option<RouteHandover>,
    /// The number of open connections to its upstreams, over all shards.
    pub upstream_connections: Arc<AtomicUsize>,
    /// Limits repeated warnings about its backend.
    warnings: LogLimit,
    /// The names of the path's parameters, in order. Empty unless it is an events or publish route: no other
    /// route uses their values.
    parameters: Vec<String>,
}

impl Route {
    fn new(index: usize, settings: Arc<RouteSettings>) -> Self {
        let channels = match &settings.target {
            Target::Events(events) => {
                Some(Channels::new(events.clone(), has_presence_events(&settings)))
            }
            Target::Proxy(_) | Target::Publish(_) | Target::Demo => None,
        };
        let publish = match &settings.target {
            Target::Publish(publish) => Some(PublishRoute::new(publish.clone())),
            Target::Events(_) | Target::Proxy(_) | Target::Demo => None,
        };
        let presence = settings.presence.clone().map(RoutePresence::new);
        let handover = settings.handover.clone().map(RouteHandover::new);
        let parameters = match channels.is_some() || publish.is_some() {
            true => parameters::parameter_names(&settings.path),
            false => Vec::new(),
        };
        let upstream_connections = Arc::default();
        let warnings = LogLimit::new();
        let RouteSettings { host, path, methods, .. } = &*settings;
        let label = format!("{}{path}", host.as_deref().unwrap_or_default()).into();
        let (keep, share) = (settings.keep.is_some(), settings.share.is_some());
        let scope = match keep || share || presence.is_some() {
            true => format!("{host:?} {path} {methods:?}").into(),
            false => Arc::default(),
        };
        Self {
            index,
            label,
            scope,
            parameters,
            settings,
            channels,
            presence,
            publish,
            handover,
            upstream_connections,
            warnings,
        }
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
            Some(requested) if self.publish.is_some() => self.allows(requested),
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

    /// Whether every client that may use `other` may use this route, too.
    fn is_open_to_users_of(&self, other: &Self) -> bool {
        let (auth, other) = (&self.settings.auth, &other.settings.auth);
        auth.is_none() || auth == other
    }

    /// Whether more of its path is literal.
    fn is_more_specific_than(&self, other: &Self) -> bool {
        let literal = |route: &Self| route.settings.path.find('{').unwrap_or(usize::MAX);
        literal(self) > literal(other)
    }

    fn has_catch_all(&self) -> bool {
        self.settings.path.contains("{*")
    }
}

fn has_presence_events(settings: &RouteSettings) -> bool {
    settings.presence.as_ref().is_some_and(|presence| presence.has_events)
}
