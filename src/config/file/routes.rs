//! `routes`: what a route matches, and its `events`, `handover` and `cors`.

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use ssegate_format::Format;

use super::proxy::ProxyFile;
use super::stream::stream_mapping;
use crate::config::field::Field;
use crate::config::mapping::sets;
use crate::route::EventsSource;

/// A route: what it matches, and either `events` or `proxy`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(
    rename = "Route",
    extend("required" = ["path"]),
    extend("oneOf" = [{ "required": ["events"] }, { "required": ["proxy"] }])
)]
pub(in crate::config) struct RouteFile {
    /// A path with `{name}` for one segment and `{*name}` for the rest.
    #[schemars(regex(pattern = r"^/|\$\{"))]
    pub(in crate::config) path: Field<String>,
    /// Match only this host, without its port. Default: all hosts.
    pub(in crate::config) host: Field<String>,
    /// Match only these methods. Default: all methods.
    pub(in crate::config) methods: Field<Vec<Field<MethodFile>>>,
    /// A stream of events.
    pub(in crate::config) events: Field<EventsFile>,
    /// A backend.
    pub(in crate::config) proxy: Field<ProxyFile>,
    /// Which other origins may read the responses.
    pub(in crate::config) cors: Field<CorsFile>,
    /// With `proxy`: streams that the backend hands over.
    pub(in crate::config) handover: Field<HandoverFile>,
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(rename = "Method")]
pub(in crate::config) enum MethodFile {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
}

stream_mapping! {
    /// A stream of events.
    #[schemars(rename = "Events", extend("required" = ["channels"]))]
    EventsFile {
        /// The channels to subscribe to: names with `{parameter}` of the path and `{query.name}`.
        #[schemars(length(min = 1))]
        channels: Vec<Field<String>>,
        /// The kind of source.
        source: SourceFile => source,
        /// The format of messages. An id in them is used only with `history: off`, otherwise the event has
        /// an id of the gateway.
        format: Format => format,
        /// The prefix of a channel's name in Redis, hidden from clients.
        strip_prefix: String,
        /// Whether `*`, `?` and `[` in a channel's name subscribe to a pattern.
        patterns: bool => patterns,
    }
}

stream_mapping! {
    /// Streams that the backend hands over with GRIP headers: it names the channels and ends its response,
    /// and the gateway keeps the stream open. `replay` is `none` by default, whatever `sse` has: it follows
    /// the body of the response. A backend can override `keep_alive` with `Grip-Keep-Alive`.
    #[schemars(rename = "Handover", extend("required" = ["key"]))]
    HandoverFile {
        /// The secret with which the backend verifies `Grip-Sig`: at least 32 bytes, plain or after
        /// `base64:`.
        key: String,
        /// The `iss` claim of `Grip-Sig`. Default: `ssegate`.
        issuer: String,
        /// The kind of source, as on an events route.
        source: SourceFile => source,
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
pub(in crate::config) enum SourceFile {
    /// PUBLISH: a message reaches the current subscribers.
    Pubsub,
    /// XADD: Redis keeps the entries, and a client that reconnects misses none that is still there.
    Stream,
}

/// Which other origins may read the responses.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cors")]
pub(in crate::config) struct CorsFile {
    /// Origins as browsers send them, `https://app.example`; or `*` for all.
    pub(in crate::config) origins: Field<Vec<Field<String>>>,
    /// Whether requests may have credentials, such as cookies.
    pub(in crate::config) credentials: Field<bool>,
}

sets! {
    SourceFile => EventsSource = |word| match word {
        SourceFile::Pubsub => EventsSource::PubSub,
        SourceFile::Stream => EventsSource::Log,
    };
    Format => Format = |format| *format;
}

impl From<MethodFile> for Method {
    fn from(word: MethodFile) -> Self {
        match word {
            MethodFile::Get => Self::GET,
            MethodFile::Head => Self::HEAD,
            MethodFile::Post => Self::POST,
            MethodFile::Put => Self::PUT,
            MethodFile::Patch => Self::PATCH,
            MethodFile::Delete => Self::DELETE,
            MethodFile::Options => Self::OPTIONS,
            MethodFile::Connect => Self::CONNECT,
            MethodFile::Trace => Self::TRACE,
        }
    }
}
