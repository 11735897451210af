//! What a refused request is answered: the one place that picks statuses.
//!
//! An `EventSource` gives up for good on any status but 200 (WHATWG HTML 9.2.3), so for a stream
//! only what is final gets an error status. What will pass is answered 200, with a `retry:` that
//! spreads the clients, and an end.

use std::time::Duration;

use bytes::BytesMut;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version};

use super::asked::Asked;
use super::body::ResponseBody;
use super::handover::HandoverError;
use crate::event::InvalidChannelName;
use crate::hub::jittered;
use crate::proxy::{FailureClass, ProxyError};
use crate::route::ChannelError;
use crate::server::refusal::Unfit;
use crate::sse::encode;
use crate::sse::frame::Form;

/// A client that asked for a stream that cannot be had now comes back after this, or up to twice
/// as long.
const COME_BACK: Duration = Duration::from_secs(3);

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("{0}")]
    Channel(#[from] ChannelError),
    #[error("the gateway is stopping")]
    Draining,
    #[error("requests come faster from this address than they may")]
    Rate,
    #[error("streams of new channels come faster from this address than they may")]
    NewChannels,
    #[error("the address of the request is longer than {0} bytes")]
    Uri(usize),
    #[error("a page of another site may not do this")]
    ForeignOrigin,
    #[error("the backend hands a stream over in a way that cannot be followed")]
    Handover(#[from] HandoverError),
    #[error("the request has no host, several that differ, or one that is not valid")]
    Host,
    #[error("this address knows only other methods")]
    Method(Vec<Method>),
    #[error("nothing is here")]
    NotFound,
    #[error("the gateway has failed; its log says where")]
    Panicked,
    #[error("the request has a scheme other than http and https")]
    Scheme,
    #[error("the request has a transfer coding other than chunked")]
    TransferCoding,
    #[error("a CONNECT has no body, and this one has a Content-Length")]
    TunnelLength,
    #[error("the request names no path")]
    Path,
    #[error("the event could not be published")]
    Publish,
    #[error("{0}")]
    Unfit(#[from] Unfit),
    #[error("the header {0} could be taken for another: it has an underscore")]
    Underscore(HeaderName),
    #[error("{}", .0.class())]
    Upstream(ProxyError),
}

impl Rejection {
    /// The word in the metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Channel(ChannelError::TooMany(_)) => "max_channels",
            Self::Channel(_) => "channel",
            Self::Draining => "draining",
            Self::ForeignOrigin => "foreign_origin",
            Self::Handover(_) => "handover",
            Self::Host => "host",
            Self::Method(_) => "method",
            Self::NewChannels => "new_channels_per_address",
            Self::NotFound => "not_found",
            Self::Panicked => "panic",
            Self::Path => "path",
            Self::Publish => "publish",
            Self::Rate => "requests_per_address",
            Self::Scheme => "scheme",
            Self::TransferCoding => "transfer_coding",
            Self::TunnelLength => "tunnel_length",
            Self::Underscore(_) => "underscore",
            Self::Unfit(Unfit::TooLarge) => "header",
            Self::Unfit(_) => "malformed",
            Self::Upstream(error) if error.class() == FailureClass::LargeRequest => "body",
            Self::Uri(_) => "uri",
            Self::Upstream(_) => "upstream",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Channel(_)
            | Self::Host
            | Self::Path
            | Self::Scheme
            | Self::TransferCoding
            | Self::TunnelLength
            | Self::Underscore(_)
            | Self::Unfit(Unfit::Malformed(_) | Unfit::Refused(_)) => StatusCode::BAD_REQUEST,
            Self::Unfit(Unfit::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NewChannels | Self::Rate => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Uri(_) => StatusCode::URI_TOO_LONG,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Publish | Self::Handover(_) => StatusCode::BAD_GATEWAY,
            Self::Upstream(error) => match error.class() {
                FailureClass::Unreachable
                | FailureClass::NoResponse
                | FailureClass::InvalidResponse
                | FailureClass::LargeResponse
                | FailureClass::NoSwitch => StatusCode::BAD_GATEWAY,
                FailureClass::Busy => StatusCode::SERVICE_UNAVAILABLE,
                FailureClass::TooSlow => StatusCode::GATEWAY_TIMEOUT,
                FailureClass::BrokenRequest => StatusCode::BAD_REQUEST,
                FailureClass::LargeRequest => StatusCode::PAYLOAD_TOO_LARGE,
                FailureClass::SlowRequest => StatusCode::REQUEST_TIMEOUT,
            },
        }
    }

    /// Whether the same request may be answered later.
    fn will_pass(&self) -> bool {
        match self {
            Self::Draining | Self::Handover(_) | Self::Panicked => true,
            Self::NewChannels | Self::Rate => true,
            Self::Upstream(error) => !error.class().is_client_error(),
            _ => false,
        }
    }

    /// Whether it is answered as a stream that ends at once.
    pub(super) fn is_come_back(&self, asked: &Asked) -> bool {
        self.will_pass() && asked.is_for_a_stream()
    }

    /// The word in the metrics for what a stream was sent away for: of a backend, what it did.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Upstream(error) => error.kind(),
            other => other.as_str(),
        }
    }

    /// Whether somebody on the way may have read another request than we have, and others behind it.
    fn is_ambiguous(&self) -> bool {
        matches!(
            self,
            Self::Host | Self::Path | Self::Scheme | Self::TransferCoding | Self::Underscore(_)
        )
    }

    /// What the client could do about it, where that is not plain.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Channel(ChannelError::Missing) => {
                Some("Name a channel, for example /events/news or /events?channel=news.")
            }
            Self::Channel(ChannelError::Invalid(InvalidChannelName::Reserved)) => Some(
                "Names that begin with __keyspace@, __keyevent@ or __sentinel__ are Redis's own.",
            ),
            _ => None,
        }
    }

    /// The answer, in the form that the client asked for.
    pub(super) fn response(&self, asked: &Asked) -> Response<ResponseBody> {
        if self.is_come_back(asked) {
            return come_back(self);
        }
        let status = self.status();
        let (kind, body) = if asked.accepts_json {
            let body = serde_json::json!({"status": status.as_u16(), "error": self.to_string()});
            ("application/json", format!("{body}\n"))
        } else {
            let hint = self.hint().map(|hint| format!("\n{hint}")).unwrap_or_default();
            ("text/plain; charset=utf-8", format!("{status}: {self}{hint}\n"))
        };
        let mut response = Response::new(ResponseBody::whole(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Over HTTP/2 a request has its stream to itself.
        let is_ambiguous = self.is_ambiguous() || asked.method == Method::CONNECT;
        if is_ambiguous && asked.version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from(COME_BACK.as_secs()));
        }
        if let Self::Method(methods) = self {
            let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            if let Ok(allow) = HeaderValue::from_str(&allow) {
                headers.insert(ALLOW, allow);
            }
        }
        response
    }
}

/// A stream that ends at once, and says why in a comment, and when to come back: in lines alone, since
/// some clients make an event of a block without data.
fn come_back(reason: &Rejection) -> Response<ResponseBody> {
    let mut lines = BytesMut::new();
    // No text of these repeats what somebody else has written.
    encode::reason(&reason.to_string()).put(Form::Text, &mut lines);
    encode::retry(jittered(COME_BACK)).put(Form::Text, &mut lines);
    super::events::stream_response(ResponseBody::whole(lines))
}
