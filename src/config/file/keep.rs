//! `keep`: event streams of a backend that survive their readers.

use schemars::JsonSchema;
use serde::Deserialize;
use ssegate_strict_yaml::{Count, Field, Size, Time, TimeOrZero, mapping, sets};

use super::method::MethodFile;
use crate::route::{KeepLimits, KeepSettings, OnLost, SameKey};

mapping! {
    /// Event streams of the backend that survive their readers: the gateway keeps what came, so that a client that
    /// lost its connection gets the rest. See docs/KEPT_STREAMS.md.
    #[schemars(rename = "Keep")]
    pub(crate) struct KeepFile sets KeepSettings {
        /// The methods of requests whose response is kept: 200, `text/event-stream`, without a content coding. The
        /// response may say `Ssegate-Keep: no`, or, to a request with another method, `yes`.
        methods: Vec<Field<MethodFile>>,
        /// Where the name of a stream is found, such as that of its conversation: `header:NAME` and `body:/POINTER`
        /// (RFC 6901, a body of at most 1 MiB) of the request, `response:NAME`. The first that is there counts.
        /// Default: none, but for `Ssegate-Key` of the response.
        key: Vec<Field<String>>,
        /// Whose a stream is: names of header fields (`authorization`), `cookie:NAME`, and `jwt:CLAIM` on a route
        /// with `auth`. Only a request with the same values gets it again. A request with none of them is not
        /// kept.
        owner: Vec<Field<String>>,
        /// Whether streams of requests without credentials are kept, for everybody who knows their addresses.
        public: bool => is_public,
        /// Where streams are kept.
        store: KeepStoreFile,
        /// With `store: redis`: the secret of all gateways, by which each knows whose a stream is. At least 32 bytes,
        /// plain or after `base64:`.
        secret: String,
        /// What happens when nobody reads: `continue`, `cancel`, or `cancel_after 30s`.
        when_nobody: String,
        /// What happens to the running streams of the same name, owner and method when another one begins.
        same_key: SameKeyFile => same_key,
        /// Where a client finds the running stream of a name, besides its address: `{path}/{key}/stream`, in which
        /// `{path}` is the path of the request that began it. Such requests do not reach the backend.
        resume_at: String,
        /// How long a stream is kept that has ended.
        after_end: TimeOrZero => after_end,
        /// How much is kept.
        limits: KeepLimitsFile => limits,
        /// How a client is told that it cannot have all events.
        on_lost: OnLostFile => on_lost,
    }
}

mapping! {
    /// How much is kept on a route.
    #[schemars(rename = "KeepLimits")]
    pub(crate) struct KeepLimitsFile sets KeepLimits {
        /// A stream that runs for longer is cancelled.
        age: Time => age,
        /// The most bytes of one stream. The oldest events go first, and a client that needs them is told by
        /// `on_lost`.
        bytes: Size => bytes in Size::kib(1)..=Size::MAX_LENGTH,
        /// The most events of one stream.
        events: Count => events,
        /// The most streams of one owner, running and ended. Ended ones go first; where all run, one more is not
        /// kept.
        per_owner: Count => per_owner,
        /// The memory of all streams of the route. Ended ones go first; where all run, one more is not kept.
        total: Size => total in Size::kib(64)..=Size::MAX,
    }
}

/// Where streams are kept.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "KeepStore")]
pub(crate) enum KeepStoreFile {
    /// In this process: they end with it, and other gateways do not know them.
    Memory,
    /// Also in the Redis of `redis.url`, so that a client continues at any gateway. Needs `secret`.
    Redis,
}

/// What happens to the running streams of the same name.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "SameKey")]
pub(crate) enum SameKeyFile {
    /// They go on.
    Parallel,
    /// They are cancelled.
    Replace,
    /// The new request gets 409.
    Reject,
}

/// How a client is told that it cannot have all events.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OnLost")]
pub(crate) enum OnLostFile {
    /// Its connection is cut, or its request gets 410.
    Cut,
    /// An error as OpenAI's API sends it.
    Openai,
    /// An error as Anthropic's API sends it.
    Anthropic,
    /// An error as a UI message stream of the AI SDK has it.
    AiSdk,
    /// An event `gap`, as on an events route.
    Gap,
}

sets! {
    SameKeyFile => SameKey = |word| match word {
        SameKeyFile::Parallel => SameKey::Parallel,
        SameKeyFile::Replace => SameKey::Replace,
        SameKeyFile::Reject => SameKey::Reject,
    };
}

sets! {
    OnLostFile => OnLost = |word| match word {
        OnLostFile::Cut => OnLost::Cut,
        OnLostFile::Openai => OnLost::OpenAi,
        OnLostFile::Anthropic => OnLost::Anthropic,
        OnLostFile::AiSdk => OnLost::AiSdk,
        OnLostFile::Gap => OnLost::Gap,
    };
}
