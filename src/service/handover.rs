//! A stream that the backend hands over: its answer opens the stream, and the gateway keeps it.
//!
//! The client sees the backend's status and headers, then its body, then what is published on the
//! channels that it named. When the client comes back the backend is asked again, and decides
//! again.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::asked::Asked;
use super::body::{ResponseBody, StreamBody};
use super::prologue::Prologue;
use super::rejection::Rejection;
use super::{Service, passing};
use crate::grip::instruct::{HeldChannel, Hold, InstructError, KeepAlive};
use crate::hub::{Position, StreamRequest, StreamSettings};
use crate::proxy::UpstreamBody;
use crate::route::{ChannelError, Handover, Route};
use crate::server::connection::ConnectionState;
use crate::sse::encode;

/// Why a stream cannot be taken over: the backend's fault, told in the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    #[error("{0}")]
    Instruct(#[from] InstructError),
    #[error("Grip-Channel: {0}")]
    Channel(#[from] ChannelError),
    #[error("the body has a Content-Encoding, and events cannot follow it")]
    Encoded,
}

/// Where and for whom a stream is taken over.
pub(super) struct Handing<'a> {
    pub(super) service: &'a Service,
    pub(super) route: &'a Route,
    pub(super) handover: &'a Handover,
    pub(super) asked: &'a Asked,
    pub(super) last_event_id: Option<Vec<u8>>,
}

/// Takes the stream over, or says why not.
pub(super) fn hold(
    handing: Handing<'_>,
    mut response: Response<UpstreamBody>,
    hold: Hold,
    connection: Rc<ConnectionState>,
) -> Result<Response<ResponseBody>, Rejection> {
    let Handing { service, route, handover, asked, last_event_id } = handing;
    let Hold { channels, keep_alive, status } = hold;
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    let route_name = &route.settings.path;
    if !may_have_a_body(response.status()) {
        let status = response.status().as_u16();
        tracing::warn!(route = route_name, status, "a response without a body cannot be a stream");
        return Ok(response.map(ResponseBody::Upstream));
    }
    if passing::is_encoded(response.headers()) {
        return Err(Rejection::Handover(HandoverError::Encoded));
    }
    let names = channels.iter().map(|channel| channel.name.as_str());
    let topics = handover.channels.topics_of(names).map_err(HandoverError::from)?;
    if service.health().is_draining() {
        return Err(Rejection::Draining);
    }
    if !passing::is_event_stream(response.headers())
        && response.headers().contains_key(CONTENT_TYPE)
    {
        let hint = "an EventSource wants Content-Type: text/event-stream";
        tracing::warn!(route = route_name, hint, "a stream is handed over as something else");
    }
    open_up(response.headers_mut());
    if asked.method == Method::HEAD {
        return Ok(response.map(ResponseBody::Upstream));
    }
    let settings = kept_alive(handover.channels.stream(), keep_alive);
    let retry = settings.retry;
    let subscriber = service.shard().subscribe(StreamRequest {
        topics,
        settings,
        prefix_bytes: handover.channels.prefix_bytes(),
        history: handover.channels.history(),
        // The backend has seen where the client stands, and knows best what its body tells of.
        last_event_id: oldest_prev_id(channels).or(last_event_id),
        is_continued: true,
        cut: connection.cut_for_current_request(),
    });
    let cut = connection.cut_for_current_request();
    let counted = service.count_stream(route, connection);
    let (head, body) = response.into_parts();
    let prologue = Prologue::new(body, retry, service.shard().clone(), cut);
    let stream = StreamBody::continuing(prologue, subscriber, counted);
    Ok(Response::from_parts(head, ResponseBody::Stream(stream)))
}

/// RFC 9110, section 6.4.1.
fn may_have_a_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Makes the head of a whole response that of one without an end.
fn open_up(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    let or_insert = |headers: &mut HeaderMap, name, value| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    or_insert(headers, CONTENT_TYPE, "text/event-stream");
    or_insert(headers, CACHE_CONTROL, "no-store");
    passing::forbid_buffering(headers);
}

/// The route's settings, with what the backend wants to be said on a quiet stream.
fn kept_alive(
    settings: &Arc<StreamSettings>,
    keep_alive: Option<KeepAlive>,
) -> Arc<StreamSettings> {
    let Some(KeepAlive { text, timeout }) = keep_alive else {
        return Arc::clone(settings);
    };
    let mut settings = StreamSettings::clone(settings);
    settings.keep_alive_text = encode::keep_alive(&text);
    settings.keep_alive = timeout.unwrap_or(settings.keep_alive);
    Arc::new(settings)
}

/// The id after which the stream begins: of several the oldest, so that nothing is left out.
fn oldest_prev_id(channels: Vec<HeldChannel>) -> Option<Vec<u8>> {
    let ids = channels.into_iter().filter_map(|channel| channel.prev_id);
    let age = |id: &String| Position::parse(id.as_bytes()).map(|position| position.number);
    // What is no id of ours sorts first: then the client is told that it may have missed something.
    ids.min_by_key(age).map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::{HeldChannel, oldest_prev_id};

    #[test]
    fn of_several_ids_the_oldest_counts_and_an_unknown_one_before_all() {
        let oldest = |ids: &[&str]| {
            let channel = |id: &&str| HeldChannel {
                name: "a".into(),
                prev_id: Some((*id).to_owned()).filter(|id| !id.is_empty()),
            };
            oldest_prev_id(ids.iter().map(channel).collect())
                .map(|id| String::from_utf8(id).expect("text"))
        };
        assert_eq!(oldest(&[]), None);
        assert_eq!(oldest(&["", ""]), None);
        assert_eq!(oldest(&["", "abcdef-10", "abcdef-9"]).as_deref(), Some("abcdef-9"));
        assert_eq!(oldest(&["abcdef-10", "what"]).as_deref(), Some("what"));
    }
}
