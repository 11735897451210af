//! The access log of one request: from its header to the end of its response, or of its stream.
//!
//! A request that is not logged has none of this. Each owner passes it on: from the request to the body of its
//! response, or to the stream or tunnel that it becomes. The last owner writes the line, by dropping it.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use ssegate_auth::Identity;
use ssegate_hub::{CloseReason, ResumedFrom};
use tokio::time::Instant;

use super::backend_stream_end::BackendStreamEnd;
use crate::log::access::{masked_host, masked_referer, masked_target};
use crate::log::entry::{Asked, LineSubject, Outcome, RenderedRequest};
use crate::log::{AccessLog, SecretParameters};
use crate::metrics::RouteMetrics;
use crate::proxy::TunnelTally;

/// <https://www.w3.org/TR/trace-context/#traceparent-header>
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The status of a request whose client left before there was a response: nginx's, which programs that read logs know.
const CLIENT_LEFT: u16 = 499;

/// One request, as the access log sees it. Its line is written when it is dropped.
#[derive(Debug)]
pub(super) struct RequestLog {
    access: AccessLog,
    received_at: Instant,
    client: IpAddr,
    method: Method,
    target: Box<str>,
    version: Version,
    // Values keep the buffer of the whole header, so only while the request is handled.
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    route: Option<Arc<RouteMetrics>>,
    identity: Option<String>,
    upstream: Option<Duration>,
    error: Option<&'static str>,
    has_last_event_id: bool,
    has_client_left: bool,
    progress: ResponseProgress,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug)]
enum ResponseProgress {
    /// There is none.
    None,
    /// This many bytes of its body were handed over.
    Body { status: u16, bytes: u64, is_whole: bool },
    /// It became a stream or tunnel, which has its own lines.
    HandedOver,
}

/// A stream, as the access log sees it, while it is open.
#[derive(Debug)]
pub(super) struct StreamLog {
    access: AccessLog,
    request: RenderedRequest,
    status: u16,
    channels: usize,
    has_last_event_id: bool,
}

/// A tunnel, as the access log sees it. Its line is written when it is closed.
#[derive(Debug)]
pub(super) struct TunnelLog {
    access: AccessLog,
    request: RenderedRequest,
    received_at: Instant,
    status: u16,
    upstream: Option<Duration>,
    tally: Rc<TunnelTally>,
}

impl RequestLog {
    /// A request that was received now. `secrets` are the query parameters that carry credentials.
    pub(super) fn new<B>(
        access: &AccessLog,
        request: &Request<B>,
        client: IpAddr,
        secrets: &SecretParameters,
    ) -> Box<Self> {
        let headers = request.headers();
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let authority = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
        Box::new(Self {
            access: access.clone(),
            received_at: Instant::now(),
            client,
            method: request.method().clone(),
            target: masked_target(request.uri(), secrets),
            version: request.version(),
            host: authority.or_else(|| headers.get(HOST).cloned()),
            referer: headers.get(REFERER).cloned(),
            user_agent: headers.get(USER_AGENT).cloned(),
            traceparent: traceparent(headers),
            route: None,
            identity: None,
            upstream: None,
            error: None,
            has_last_event_id: false,
            has_client_left: false,
            progress: ResponseProgress::None,
        })
    }

    /// The request is for this route.
    pub(super) fn note_route(&mut self, route: &Arc<RouteMetrics>) {
        self.route = Some(Arc::clone(route));
    }

    /// The client has this identity.
    pub(super) fn note_identity(&mut self, identity: &Identity) {
        self.identity = self.access.identity(identity);
    }

    /// The request has a last event id.
    pub(super) fn note_last_event_id(&mut self) {
        self.has_last_event_id = true;
    }

    /// The backend has responded, or failed to, after this time.
    pub(super) fn note_upstream(&mut self, duration: Duration) {
        self.upstream = Some(duration);
    }

    /// The request was refused, or has failed.
    pub(super) fn note_error(&mut self, error: &'static str) {
        self.error = Some(error);
    }

    /// The client left in the middle of its request: the response does not count.
    pub(super) fn note_client_left(&mut self) {
        self.has_client_left = true;
    }

    /// The response has this status, and a body that is not a stream. `is_whole`: nothing more comes.
    pub(super) fn note_response(&mut self, status: u16, is_whole: bool) {
        self.progress = ResponseProgress::Body { status, bytes: 0, is_whole };
    }

    /// A part of the body was handed over. `is_whole_now`: it was the last.
    pub(super) fn note_sent(&mut self, length: usize, is_whole_now: bool) {
        if let ResponseProgress::Body { bytes, is_whole, .. } = &mut self.progress {
            *bytes += length as u64;
            *is_whole |= is_whole_now;
        }
    }

    /// The response is a stream of `channels`; writes the line of its opening.
    pub(super) fn into_stream(mut self: Box<Self>, status: u16, channels: usize) -> Box<StreamLog> {
        self.progress = ResponseProgress::HandedOver;
        let request = self.render();
        if self.access.wants(LineSubject::StreamOpened, false) {
            let outcome = Outcome {
                status,
                channels: Some(channels),
                upstream: self.upstream,
                ..Outcome::default()
            };
            self.access.write(&request, LineSubject::StreamOpened, &outcome);
        }
        let has_last_event_id = self.has_last_event_id;
        let access = self.access.clone();
        Box::new(StreamLog { access, request, status, channels, has_last_event_id })
    }

    /// The response is a tunnel, whose bytes are in `tally`.
    pub(super) fn into_tunnel(
        mut self: Box<Self>,
        status: u16,
        tally: Rc<TunnelTally>,
    ) -> TunnelLog {
        self.progress = ResponseProgress::HandedOver;
        let (access, request) = (self.access.clone(), self.render());
        let (received_at, upstream) = (self.received_at, self.upstream);
        TunnelLog { access, request, received_at, status, upstream, tally }
    }

    fn render(&self) -> RenderedRequest {
        let bytes = |value: &Option<HeaderValue>| {
            value.as_ref().map(|value| value.as_bytes().to_vec()).unwrap_or_default()
        };
        let (host, referer) =
            (masked_host(&bytes(&self.host)), masked_referer(&bytes(&self.referer)));
        let traceparent = self.traceparent.as_ref().and_then(|value| value.to_str().ok());
        self.access.render(&Asked {
            client: self.client,
            identity: self.identity.as_deref(),
            method: self.method.as_str(),
            host: &host,
            target: &self.target,
            version: self.version,
            route: self.route.as_ref().map_or("", |route| route.label()),
            referer: &referer,
            user_agent: self.user_agent.as_ref().map_or(b"", |value| value.as_bytes()),
            traceparent,
        })
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let (status, bytes, error) = match self.progress {
            ResponseProgress::HandedOver => return,
            _ if self.has_client_left => (CLIENT_LEFT, 0, Some("client_left")),
            ResponseProgress::None => (CLIENT_LEFT, 0, self.error.or(Some("client_left"))),
            ResponseProgress::Body { status, bytes, is_whole: true } => (status, bytes, self.error),
            ResponseProgress::Body { status, bytes, is_whole: false } => {
                (status, bytes, self.error.or(Some("cut_short")))
            }
        };
        let is_error = status >= 400 || error.is_some();
        if self.access.wants(LineSubject::Request, is_error) {
            let outcome = Outcome {
                status,
                bytes,
                duration: Some(self.received_at.elapsed()),
                upstream: self.upstream,
                error,
                ..Outcome::default()
            };
            self.access.write(&self.render(), LineSubject::Request, &outcome);
        }
    }
}

impl StreamLog {
    /// Writes the line of the stream's end. `events`: `None` for a stream that the backend writes, in which they are
    /// not counted.
    pub(super) fn close(
        &self,
        reason: &'static str,
        (events, bytes): (Option<u64>, u64),
        age: Duration,
        resumed: Option<ResumedFrom>,
    ) {
        if !self.access.wants(LineSubject::StreamClosed, is_trouble(reason)) {
            return;
        }
        // A route without a history has nothing to resume from, and a client may leave before the result is known.
        let resumed = self.has_last_event_id.then(|| resumed.map_or("none", ResumedFrom::as_str));
        let outcome = Outcome {
            status: self.status,
            bytes,
            duration: Some(age),
            channels: Some(self.channels),
            events,
            reason: Some(reason),
            resumed,
            ..Outcome::default()
        };
        self.access.write(&self.request, LineSubject::StreamClosed, &outcome);
    }
}

impl Drop for TunnelLog {
    fn drop(&mut self) {
        if self.access.wants(LineSubject::Tunnel, false) {
            let outcome = Outcome {
                status: self.status,
                bytes: self.tally.to_client(),
                bytes_received: Some(self.tally.to_backend()),
                duration: Some(self.received_at.elapsed()),
                upstream: self.upstream,
                reason: Some(self.tally.end()),
                ..Outcome::default()
            };
            self.access.write(&self.request, LineSubject::Tunnel, &outcome);
        }
    }
}

/// Whether a stream that was closed for this reason did not end as it should.
fn is_trouble(reason: &str) -> bool {
    let slow = CloseReason::SLOW.map(CloseReason::as_str);
    slow.contains(&reason)
        || reason == CloseReason::Refused.as_str()
        || reason == BackendStreamEnd::BackendFailed.as_str()
}

/// The `traceparent` of a request, if it is one.
fn traceparent(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let lengths = value.as_bytes().split(|byte| *byte == b'-').map(<[u8]>::len);
    let is_hexadecimal = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    let is_valid = lengths.eq([2, 32, 16, 2]) && value.as_bytes().iter().all(is_hexadecimal);
    is_valid.then(|| value.clone())
}
