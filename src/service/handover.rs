//! Streams that a backend hands over with GRIP headers: its response opens the stream, and the
//! gateway continues it.
//!
//! The client gets the backend's status, header and body, then the events of the channels in
//! `Grip-Channel`. When the client reconnects, its request goes to the backend again.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use ssegate_hub::{LastSeen, StreamOpening, StreamRequest, StreamSettings};
use ssegate_sse::encode;

use super::admission::Admission;
use super::body::{ResponseBody, StreamBody};
use super::handover_error::HandoverError;
use super::prologue::Prologue;
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::stream_head::{EVENT_STREAM, forbid_buffering};
use super::{Service, backend_stream};
use crate::grip::instruct::{GripKeepAlive, HeldChannel, Hold};
use crate::proxy::UpstreamBody;
use crate::route::{Route, RouteHandover};
use crate::server::connection::ConnectionState;
use crate::server::event_stream::is_event_stream;

/// The request and the route of a handover.
pub(super) struct HandoverContext<'a> {
    pub(super) service: &'a Service,
    pub(super) route: &'a Route,
    pub(super) handover: &'a RouteHandover,
    pub(super) info: &'a RequestInfo,
    pub(super) admission: &'a Admission,
    pub(super) last_event_id: Option<Vec<u8>>,
    pub(super) is_told_position: bool,
    /// What the stream is known by.
    pub(super) tag: u64,
}

/// Turns the backend's response into a stream of the gateway.
///
/// # Errors
/// The backend's GRIP headers are not valid for the route, or the gateway is draining.
pub(super) fn hold(
    context: HandoverContext<'_>,
    mut response: Response<UpstreamBody>,
    hold: Hold,
    connection: Rc<ConnectionState>,
) -> Result<Response<ResponseBody>, Rejection> {
    let HandoverContext { service, route, handover, info, admission, .. } = context;
    let HandoverContext { last_event_id, is_told_position, tag, .. } = context;
    let Hold { channels, keep_alive, status } = hold;
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    let route_name = &*route.label;
    if !may_have_a_body(response.status()) {
        let status = response.status().as_u16();
        route.warn("no_body", |held_back| {
            const MESSAGE: &str = "Grip-Hold on a response that cannot have a body: ignored";
            tracing::warn!(route = route_name, status, held_back, "{MESSAGE}");
        });
        return Ok(response.map(ResponseBody::upstream));
    }
    if backend_stream::is_encoded(response.headers()) {
        return Err(Rejection::Handover(HandoverError::Encoded));
    }
    let names = channels.iter().map(|channel| channel.name.as_str());
    let topics = handover.channels.topics_of(names).map_err(HandoverError::from)?;
    if service.health().is_draining() {
        return Err(Rejection::Draining);
    }
    if !is_event_stream(response.headers()) && response.headers().contains_key(CONTENT_TYPE) {
        let hint = "an EventSource accepts only Content-Type: text/event-stream";
        route.warn("content_type", |held_back| {
            const MESSAGE: &str =
                "Grip-Hold: stream with another Content-Type than text/event-stream";
            tracing::warn!(route = route_name, hint, held_back, "{MESSAGE}");
        });
    }
    make_open_ended(response.headers_mut());
    if info.method == Method::HEAD {
        return Ok(response.map(ResponseBody::upstream));
    }
    let counted = service.count_stream(route, admission, Rc::clone(&connection))?;
    let settings = with_keep_alive(handover.channels.stream(), keep_alive);
    let retry = settings.retry;
    if last_event_id.is_some() {
        service.metrics().stream_resumed();
        info.note(|log| log.note_last_event_id());
    }
    let followed = admission.channels_to_keep(&topics);
    let opening = StreamRequest {
        topics,
        settings,
        prefix_bytes: handover.channels.prefix_bytes(),
        history: handover.channels.history(),
        // `prev-id` of a channel takes precedence over the client's Last-Event-ID.
        last_seen: LastSeen { id: last_event_id, channel_ids: prev_ids(channels) },
        opening: StreamOpening { is_continued: true, ready_has_position: is_told_position },
        expires_at: admission.expires_at,
        cut: connection.current_request_abort(),
        tag,
    };
    let feed = service.shards().subscribe(handover.channels.server(), opening);
    counted.watch(followed, feed.stopper());
    let (head, body) = response.into_parts();
    let prologue = Prologue::new(body, retry, service.shard().clone());
    let stream = StreamBody::continuing(prologue, feed, counted);
    Ok(Response::from_parts(head, ResponseBody::Stream(stream)))
}

/// Whether a response with this status can have a body (RFC 9110, section 6.4.1).
fn may_have_a_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Turns the header of a complete response into that of an event stream.
fn make_open_ended(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    let or_insert = |headers: &mut HeaderMap, name, value| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    or_insert(headers, CONTENT_TYPE, EVENT_STREAM);
    or_insert(headers, CACHE_CONTROL, "no-store");
    forbid_buffering(headers);
}

/// The route's settings with the backend's `Grip-Keep-Alive`.
fn with_keep_alive(
    settings: &Arc<StreamSettings>,
    keep_alive: Option<GripKeepAlive>,
) -> Arc<StreamSettings> {
    let Some(GripKeepAlive { text, timeout }) = keep_alive else {
        return Arc::clone(settings);
    };
    let mut settings = StreamSettings::clone(settings);
    settings.keep_alive_text = encode::keep_alive(&text);
    settings.keep_alive = timeout.unwrap_or(settings.keep_alive);
    Arc::new(settings)
}

/// The `prev-id` of each channel: the newest event that the backend's body accounts for.
fn prev_ids(channels: Vec<HeldChannel>) -> Vec<Option<String>> {
    // Without duplicates, as the topics.
    let mut unique: Vec<HeldChannel> = Vec::with_capacity(channels.len());
    for channel in channels {
        match unique.iter_mut().find(|known| known.name == channel.name) {
            Some(known) => known.prev_id = known.prev_id.take().or(channel.prev_id),
            None => unique.push(channel),
        }
    }
    unique.into_iter().map(|channel| channel.prev_id).collect()
}

#[cfg(test)]
mod tests {
    use super::{HeldChannel, prev_ids};

    #[test]
    fn the_first_prev_id_of_a_repeated_channel_is_used() {
        for (channels, expected) in [
            (&["a="][..], &[None][..]),
            (&["a=1-0", "b=", "a=2-0", "c=3-1"], &[Some("1-0"), None, Some("3-1")]),
            (&["a=", "b=", "a=2-0"], &[Some("2-0"), None]),
        ] {
            let channel = |text: &&str| {
                let (name, id) = text.split_once('=').expect("name=id");
                let prev_id = Some(id.to_owned()).filter(|id| !id.is_empty());
                HeldChannel { name: name.to_owned(), prev_id }
            };
            let ids = prev_ids(channels.iter().map(channel).collect());
            assert_eq!(ids.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        }
    }
}
