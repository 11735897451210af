//! `routes`: what a route matches, and its `events`, `publish`, `handover` and `cors`.

use schemars::JsonSchema;
use serde::Deserialize;
use ssegate_format::Format;
use ssegate_strict_yaml::{Count, Field, OrOff, Size, mapping, sets};

use super::auth::AuthFile;
use super::keep::KeepFile;
use super::method::MethodFile;
use super::presence::PresenceFile;
use super::proxy::ProxyFile;
use super::share::ShareFile;
use super::stream::stream_mapping;
use crate::route::{EventsSource, PublishSettings};

/// A route: what it matches, and `events`, `proxy` or `publish`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(
    rename = "Route",
    extend("required" = ["path"]),
    extend("oneOf" = [{ "required": ["events"] }, { "required": ["proxy"] }, { "required": ["publish"] }])
)]
pub(crate) struct RouteFile {
    /// A path with `{name}` for one segment and `{*name}` for the rest.
    #[schemars(regex(pattern = r"^/|\$\{"))]
    pub(crate) path: Field<String>,
    /// Match only this host, without its port. Default: all hosts.
    pub(crate) host: Field<String>,
    /// Match only these methods. Default: all methods.
    pub(crate) methods: Field<Vec<Field<MethodFile>>>,
    /// A stream of events.
    pub(crate) events: Field<EventsFile>,
    /// A backend.
    pub(crate) proxy: Field<ProxyFile>,
    /// Publishes what is sent to it with POST. Needs `auth`.
    pub(crate) publish: Field<PublishFile>,
    /// Who may make the requests. Default: `auth` of the whole file; `off`: everybody.
    pub(crate) auth: Field<OrOff<Box<AuthFile>>>,
    /// Which other origins may read the responses.
    pub(crate) cors: Field<CorsFile>,
    /// With `events`: who listens to the channels is known.
    pub(crate) presence: Field<PresenceFile>,
    /// With `proxy`: streams that the backend hands over.
    pub(crate) handover: Field<HandoverFile>,
    /// With `proxy`: event streams of the backend that survive their readers.
    pub(crate) keep: Field<KeepFile>,
    /// With `proxy`: event streams of the backend that several readers have together.
    pub(crate) share: Field<ShareFile>,
}

stream_mapping! {
    /// A stream of events.
    #[schemars(
        rename = "Events",
        extend("anyOf" = [{ "required": ["channels"] }, { "required": ["claim"] }])
    )]
    struct EventsFile {
        /// The channels to subscribe to: names with `{parameter}` of the path and `{query.name}` and, on a
        /// route with `auth`, `{auth.id}` and `{claim.name}`. A name has 255 bytes at most, a sharded one 239.
        #[schemars(length(min = 1))]
        channels: Vec<Field<String>>,
        /// The kind of source.
        source: SourceFile => source,
        /// The server of its channels, one of `redis.named`. Default: that of `redis.url`.
        redis: String,
        /// The format of messages. An id in them is used only with `history: off`, otherwise the event has
        /// an id of the gateway.
        format: Format => format,
        /// The prefix of a channel's name in Redis, hidden from clients.
        strip_prefix: String,
        /// Whether `*`, `?` and `[` in a channel's name subscribe to a pattern.
        patterns: bool => patterns,
        /// Whether its channels are sharded (`SSUBSCRIBE`, `SPUBLISH`): each is at one node of a Cluster, and a message
        /// reaches that alone. With `redis+cluster://`, or at one server of Redis 7. Without `patterns`, which Redis does not
        /// have for them.
        sharded: bool => sharded,
        /// Patterns of channels that are subscribed from the start: what is published to these channels is kept
        /// in their histories, also while no client has them. A channel stays until `max_channels` is reached,
        /// the longest unused first. With `source: recorded` they are recorded instead. Without the
        /// `strip_prefix`; needs a history.
        #[schemars(length(min = 1))]
        follow: Vec<Field<String>>,
        /// The claim of the token that lists the channels which its bearer may have: names, or patterns of
        /// names, as an array or as words. Without `channels` the stream has all of them.
        claim: String,
    }
}

mapping! {
    /// Publishes what is sent to it with POST: the body is the data; NDJSON or a JSON array are several
    /// messages. `PUBLISH` or `XADD`, as the events route of the channel says.
    #[schemars(rename = "Publish")]
    pub(crate) struct PublishFile sets PublishSettings {
        /// The channels to publish to, without the `strip_prefix` of their events routes: names with
        /// `{parameter}` of the path, `{query.name}`, `{auth.id}` and `{claim.name}`. Default: the only
        /// parameter of the path; with `claim` on a path without parameters, what each message names.
        #[schemars(length(min = 1))]
        channels: Vec<Field<String>>,
        /// The claim of the token that lists the channels which its bearer may publish to: names, or patterns
        /// of names, as an array or as words.
        claim: String,
        /// The largest body of a request. A larger one gets 413. Default: `1MiB`.
        max_body: Size => max_body in Size::BYTE..=Size::MAX_LENGTH,
        /// About how many entries each Redis Stream keeps when one is added (`MAXLEN ~`). Default: all.
        max_stream_entries: Count,
    }
}

stream_mapping! {
    /// Streams that the backend hands over with GRIP headers: it names the channels and ends its response,
    /// and the gateway keeps the stream open. `replay` is `none` by default, whatever `sse` has: it follows
    /// the body of the response. A backend can override `keep_alive` with `Grip-Keep-Alive`.
    #[schemars(rename = "Handover", extend("required" = ["key"]))]
    struct HandoverFile {
        /// The secret with which the backend verifies `Grip-Sig`: at least 32 bytes, plain or after
        /// `base64:`.
        key: String,
        /// The `iss` claim of `Grip-Sig`. Default: `ssegate`.
        issuer: String,
        /// The kind of source, as on an events route.
        source: SourceFile => source,
        /// The server of its channels, as on an events route.
        redis: String,
        /// The format of messages, as on an events route.
        format: Format => format,
        /// The prefix of a channel's name in Redis, hidden from clients.
        strip_prefix: String,
    }
}

/// The kind of source.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Source")]
pub(crate) enum SourceFile {
    /// PUBLISH: a message reaches the current subscribers.
    Pubsub,
    /// XADD: Redis keeps the entries, and a client that reconnects misses none that is still there.
    Stream,
    /// PUBLISH: a message reaches the current subscribers, and gateways record it in Redis for clients that
    /// reconnect.
    Recorded,
}

/// Which other origins may read the responses.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cors")]
pub(crate) struct CorsFile {
    /// Origins as browsers send them, `https://app.example`; or `*` for all.
    pub(crate) origins: Field<Vec<Field<String>>>,
    /// Whether requests may have credentials, such as cookies.
    pub(crate) credentials: Field<bool>,
}

sets! {
    SourceFile => EventsSource = |word| match word {
        SourceFile::Pubsub => EventsSource::PubSub,
        SourceFile::Stream => EventsSource::Log,
        SourceFile::Recorded => EventsSource::Recorded,
    };
}
