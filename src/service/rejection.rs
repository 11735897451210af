//! The responses to rejected requests: the one place that chooses error statuses.
//!
//! An `EventSource` stops reconnecting on any status but 200 (WHATWG HTML 9.2.3), so for an event
//! stream only a permanent error gets an error status. A temporary one gets 200 and a stream with a
//! jittered `retry:` that ends at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use ssegate_auth::Refusal;
use ssegate_http2::RequestError;
use ssegate_hub::InvalidChannelName;
use ssegate_hub::jittered;
use ssegate_sse::encode;
use ssegate_sse::frame::Form;

use super::body::ResponseBody;
use super::handover_error::HandoverError;
use super::publish::PublishRefusal;
use super::request_info::RequestInfo;
use super::stream_head::stream_response;
use crate::auth::AuthResponse;
use crate::proxy::{FailureClass, ProxyError};
use crate::route::ChannelError;
use crate::source::kept::KeptAway;
use crate::source::presence::PresenceAway;
use crate::source::publishing::NotPublished;

/// The `retry:` of a stream that is temporarily not available; jittered up to twice this. Also the
/// value of Retry-After.
const RETRY: Duration = Duration::from_secs(3);

/// Why a request is rejected. The text is for the client; [`Rejection::message`] completes some
/// with facts about the request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error(
        "a backend can read this path as another, which is not routed or needs other credentials"
    )]
    AmbiguousPath,
    #[error("{0}")]
    Channel(#[from] ChannelError),
    #[error("this stream is not kept any more")]
    Gone,
    #[error(
        "no kept stream of yours is here: the address or the credentials may be wrong, or the stream was forgotten"
    )]
    NoStream,
    #[error("no memory is left to compare this request with those that were made before")]
    KeptMemory,
    /// Another gateway may have the stream.
    #[error("{0}")]
    KeptAway(#[from] KeptAway),
    #[error("a stream of this name is running")]
    SameKey,
    #[error("the gateway is shutting down")]
    Draining,
    #[error("too many requests from this address")]
    Rate,
    #[error("too many new channels from this address")]
    NewChannels,
    #[error("the path and query are longer than {0} bytes")]
    Uri(usize),
    #[error("the request was cancelled: by another one of its name, or by a DELETE")]
    Cancelled,
    #[error("cross-origin requests are not allowed here")]
    ForeignOrigin,
    #[error("the backend sent invalid Grip headers")]
    Handover(#[from] HandoverError),
    #[error("the Host header is missing, repeated, not valid, or differs from the request target")]
    Host,
    #[error("the Content-Length is too large: no body is that long")]
    Length,
    #[error("method not allowed")]
    Method(Vec<Method>),
    #[error("no route matches")]
    NotFound,
    #[error("internal error; see the log of the gateway")]
    Panicked,
    #[error("unsupported scheme: use http or https")]
    Scheme,
    #[error("unsupported transfer coding: use chunked")]
    TransferCoding,
    #[error("a CONNECT request must not have a Content-Length")]
    TunnelLength,
    #[error("the request target has no path")]
    Path,
    #[error("the message could not be published; see the log of the gateway")]
    Publish,
    #[error("{0}")]
    Publishing(#[from] PublishRefusal),
    #[error("{0}")]
    Unfit(#[from] RequestError),
    #[error("the name of the header {0} has an underscore, which backends may read as a hyphen")]
    Underscore(HeaderName),
    /// No credential, or one that is not accepted; with the value of `WWW-Authenticate`.
    #[error("{1}")]
    Unauthorized(Option<String>, Refusal),
    /// The response with which an auth backend refuses.
    #[error("refused by the auth backend")]
    OfAuthBackend(Arc<AuthResponse>),
    #[error("the token has expired")]
    Renewal,
    /// The backend or key set that decides is away.
    #[error("{0}")]
    CannotVerify(&'static str),
    #[error("{0}")]
    Presence(#[from] PresenceAway),
    #[error("too many passwords wait to be verified")]
    PasswordsBusy,
    #[error("the credential has no identity by which its streams could be counted")]
    Nameless,
    #[error("more than {0} streams of one identity")]
    StreamsOfIdentity(usize),
    /// The first of the requests that share a stream got the reason.
    #[error("the backend did not respond to a request like this one")]
    SharedAway,
    #[error("{}", .0.class())]
    Upstream(ProxyError),
}

impl Rejection {
    /// The label value in the metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::AmbiguousPath => "ambiguous_path",
            Self::Channel(ChannelError::TooMany(_)) => "max_channels",
            Self::Channel(ChannelError::NotAllowed(_) | ChannelError::NoPattern) => "not_allowed",
            Self::Channel(_) => "channel",
            Self::Cancelled => "cancelled",
            Self::CannotVerify(_) => "cannot_verify",
            Self::Draining => "draining",
            Self::ForeignOrigin => "foreign_origin",
            Self::Gone => "gone",
            Self::SameKey => "same_key",
            Self::Handover(_) => "handover",
            Self::Host => "host",
            Self::KeptAway(_) => "kept_away",
            Self::KeptMemory => "kept_memory",
            Self::Length => "length",
            Self::Method(_) => "method",
            Self::Nameless => "nameless",
            Self::NewChannels => "new_channels_per_address",
            Self::NoStream => "no_stream",
            Self::NotFound => "not_found",
            Self::Panicked => "panic",
            Self::PasswordsBusy => "passwords_busy",
            Self::Path => "path",
            Self::Presence(_) => "presence",
            Self::Publish | Self::Publishing(_) => "publish",
            Self::Rate => "requests_per_address",
            Self::Renewal => "renewal",
            Self::Scheme => "scheme",
            Self::SharedAway => "shared_away",
            Self::StreamsOfIdentity(_) => "streams_per_identity",
            Self::TransferCoding => "transfer_coding",
            Self::TunnelLength => "tunnel_length",
            Self::Unauthorized(..) | Self::OfAuthBackend(_) => "unauthorized",
            Self::Underscore(_) => "underscore",
            Self::Unfit(RequestError::TooLarge) => "header",
            Self::Unfit(_) => "malformed",
            Self::Upstream(error) if error.class() == FailureClass::LargeRequest => "body",
            Self::Uri(_) => "uri",
            Self::Upstream(_) => "upstream",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Channel(ChannelError::NotAllowed(_) | ChannelError::NoPattern)
            | Self::Unauthorized(None, _) => StatusCode::FORBIDDEN,
            Self::Unauthorized(Some(_), _) | Self::Renewal => StatusCode::UNAUTHORIZED,
            Self::AmbiguousPath
            | Self::Channel(_)
            | Self::Host
            | Self::Length
            | Self::Path
            | Self::Scheme
            | Self::TransferCoding
            | Self::TunnelLength
            | Self::Underscore(_)
            | Self::Unfit(RequestError::Malformed(_) | RequestError::Invalid(_)) => {
                StatusCode::BAD_REQUEST
            }
            Self::Unfit(RequestError::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::OfAuthBackend(response) => response.status,
            Self::CannotVerify(_)
            | Self::Draining
            | Self::KeptAway(_)
            | Self::KeptMemory
            | Self::Presence(_)
            | Self::SharedAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::ForeignOrigin | Self::Nameless => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NewChannels | Self::PasswordsBusy | Self::Rate | Self::StreamsOfIdentity(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::NoStream | Self::NotFound => StatusCode::NOT_FOUND,
            Self::Gone => StatusCode::GONE,
            Self::Cancelled | Self::SameKey => StatusCode::CONFLICT,
            Self::Uri(_) => StatusCode::URI_TOO_LONG,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Publish | Self::Handover(_) => StatusCode::BAD_GATEWAY,
            Self::Publishing(refusal) => publish_status(refusal),
            Self::Upstream(error) => match error.class() {
                FailureClass::Unreachable
                | FailureClass::NoResponse
                | FailureClass::InvalidResponse
                | FailureClass::LargeResponse
                | FailureClass::NoSwitch => StatusCode::BAD_GATEWAY,
                FailureClass::Loop => StatusCode::LOOP_DETECTED,
                FailureClass::Busy => StatusCode::SERVICE_UNAVAILABLE,
                FailureClass::TooSlow => StatusCode::GATEWAY_TIMEOUT,
                // A client that has only closed its sending side reads the response.
                FailureClass::BrokenRequest | FailureClass::ClientLeft => StatusCode::BAD_REQUEST,
                FailureClass::LargeRequest => StatusCode::PAYLOAD_TOO_LARGE,
                FailureClass::SlowRequest => StatusCode::REQUEST_TIMEOUT,
            },
        }
    }

    /// Whether the error is temporary, so that a retry of the same request may succeed.
    fn is_temporary(&self) -> bool {
        match self {
            Self::CannotVerify(_) | Self::PasswordsBusy | Self::SharedAway => true,
            Self::Draining | Self::Handover(_) | Self::Panicked => true,
            Self::KeptAway(_) | Self::KeptMemory => true,
            Self::NewChannels | Self::Rate | Self::Renewal | Self::StreamsOfIdentity(_) => true,
            Self::Upstream(error) => !error.class().is_client_error(),
            _ => false,
        }
    }

    /// Whether the response is a stream that ends at once, so that the client reconnects.
    pub(super) fn ends_with_retry(&self, info: &RequestInfo) -> bool {
        self.is_temporary() && info.is_from_event_source()
    }

    /// The label value of `ssegate_streams_sent_away_total`: for a backend, the kind of its error.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Upstream(error) => error.kind(),
            other => other.as_str(),
        }
    }

    /// Whether the client left in the middle of its request, so that nobody may read the response.
    pub(super) fn has_client_left(&self) -> bool {
        match self {
            Self::Upstream(error) => error.class() == FailureClass::ClientLeft,
            Self::Publishing(refusal) => *refusal == PublishRefusal::Incomplete,
            _ => false,
        }
    }

    /// Whether a proxy in front may have parsed the request differently, so that further requests
    /// on the connection cannot be trusted (request smuggling).
    fn is_ambiguous(&self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::Length
                | Self::Path
                | Self::Scheme
                | Self::TransferCoding
                | Self::Underscore(_)
        )
    }

    /// The error message for the client.
    fn message(&self, info: &RequestInfo) -> String {
        match self {
            // Only the path is repeated: the query may contain secrets.
            Self::NotFound => format!("no route matches {}", info.path()),
            Self::Method(methods) if methods.is_empty() => {
                format!("{} is not supported: this is not a forward proxy", info.method)
            }
            Self::Method(methods) => {
                format!("{} is not allowed here; use {}", info.method, list(methods))
            }
            other => other.to_string(),
        }
    }

    /// How to fix the error, as a second line, where the message does not say it.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Channel(ChannelError::Missing) => {
                Some("Name a channel, for example /events/news or /events?channel=news.")
            }
            Self::Channel(ChannelError::Invalid(InvalidChannelName::Reserved)) => {
                Some("Names that begin with __keyspace@, __keyevent@ or __sentinel__ are reserved.")
            }
            Self::AmbiguousPath => Some(
                "Send it without dot segments, repeated slashes and needless percent-encoding. A path \
                 with or without a slash at its end may need a route of its own.",
            ),
            Self::ForeignOrigin => Some(
                "A page of another origin needs its origin in cors.origins of the route and, to send \
                 cookies, credentials: true.",
            ),
            Self::NotFound => Some("Check the URL, or add a route for it to gateway.yaml."),
            Self::Underscore(_) => {
                Some("Rename the header, or set underscores_in_headers on the route.")
            }
            Self::Upstream(error) if error.class() == FailureClass::Loop => {
                Some("Set upstream of this route in gateway.yaml to the address of the backend.")
            }
            _ => None,
        }
    }

    /// The response, as an event stream, JSON or text.
    pub(super) fn response(&self, info: &RequestInfo) -> Response<ResponseBody> {
        if self.ends_with_retry(info) {
            return stream_with_retry(self);
        }
        if let Self::OfAuthBackend(refusal) = self {
            let mut response = Response::new(ResponseBody::bytes(refusal.body.clone()));
            *response.status_mut() = refusal.status;
            *response.headers_mut() = refusal.headers.clone();
            return response;
        }
        let status = self.status();
        let (kind, body) = if info.accepts_json {
            let error = self.message(info);
            let body = serde_json::json!({"status": status.as_u16(), "error": error});
            ("application/json", format!("{body}\n"))
        } else {
            let hint = self.hint().map(|hint| format!("\n{hint}")).unwrap_or_default();
            ("text/plain; charset=utf-8", format!("{status}: {}{hint}\n", self.message(info)))
        };
        let mut response = Response::new(ResponseBody::bytes(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // HTTP/2 frames requests unambiguously, so its connection stays open.
        let is_ambiguous = self.is_ambiguous() || info.method == Method::CONNECT;
        if is_ambiguous && info.version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY.as_secs()));
        }
        if let Self::Unauthorized(Some(challenge), _) = self
            && let Ok(challenge) = HeaderValue::from_str(challenge)
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::Method(methods) = self
            && let Ok(allow) = HeaderValue::from_str(&list(methods))
        {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

fn publish_status(refusal: &PublishRefusal) -> StatusCode {
    match refusal {
        PublishRefusal::Invalid(_) | PublishRefusal::Incomplete => StatusCode::BAD_REQUEST,
        PublishRefusal::BodyTooLarge(_) | PublishRefusal::MessageTooLarge(_) => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        PublishRefusal::Slow(_) => StatusCode::REQUEST_TIMEOUT,
        PublishRefusal::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
        PublishRefusal::Refused(_) => StatusCode::BAD_GATEWAY,
        PublishRefusal::NotPublished { why, .. } => match why {
            NotPublished::Away | NotPublished::Busy | NotPublished::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            NotPublished::Lost => StatusCode::BAD_GATEWAY,
            NotPublished::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            NotPublished::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        },
    }
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// A stream that ends at once, with the reason in a comment and a `retry:`. These are lines without
/// an empty line after them, since some clients dispatch an event for a block without data.
fn stream_with_retry(reason: &Rejection) -> Response<ResponseBody> {
    let mut lines = BytesMut::new();
    // The texts of temporary errors contain nothing from a client or backend.
    encode::reason(&reason.to_string()).put(Form::Text, &mut lines);
    encode::retry(jittered(RETRY)).put(Form::Text, &mut lines);
    stream_response(ResponseBody::bytes(lines))
}
