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
use super::events::EVENT_STREAM;
use super::prologue::Prologue;
use super::rejection::Rejection;
use super::{Service, passing};
use crate::event::InvalidChannelName;
use crate::grip::instruct::{HeldChannel, Hold, InstructError, KeepAlive};
use crate::hub::{LastSeen, StreamOpening, StreamRequest, StreamSettings};
use crate::proxy::UpstreamBody;
use crate::route::{ChannelError, Handover, Route};
use crate::server::connection::ConnectionState;
use crate::server::event_stream::is_event_stream;
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

impl HandoverError {
    /// A word for it, by which lines in the log are limited.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Instruct(InstructError::Hold(_)) => "hold",
            Self::Instruct(InstructError::LongPolling) => "long_polling",
            Self::Instruct(InstructError::NoChannel) => "no_channel",
            Self::Instruct(InstructError::Filter) => "filter",
            Self::Instruct(InstructError::Unreadable(header)) => header,
            Self::Channel(ChannelError::TooMany(_)) => "channels",
            Self::Channel(ChannelError::Invalid(InvalidChannelName::Reserved)) => "reserved",
            Self::Channel(ChannelError::Invalid(InvalidChannelName::TooLong)) => "long_name",
            Self::Channel(_) => "channel",
            Self::Encoded => "encoded",
        }
    }
}

/// Where and for whom a stream is taken over.
pub(super) struct Handing<'a> {
    pub(super) service: &'a Service,
    pub(super) route: &'a Route,
    pub(super) handover: &'a Handover,
    pub(super) asked: &'a Asked,
    pub(super) last_event_id: Option<Vec<u8>>,
    pub(super) is_told_position: bool,
}

/// Takes the stream over, or says why not.
pub(super) fn hold(
    handing: Handing<'_>,
    mut response: Response<UpstreamBody>,
    hold: Hold,
    connection: Rc<ConnectionState>,
) -> Result<Response<ResponseBody>, Rejection> {
    let Handing { service, route, handover, asked, last_event_id, is_told_position } = handing;
    let Hold { channels, keep_alive, status } = hold;
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    let route_name = &route.settings.path;
    if !may_have_a_body(response.status()) {
        let status = response.status().as_u16();
        route.warn("no_body", |held_back| {
            const MESSAGE: &str = "a response without a body cannot be a stream";
            tracing::warn!(route = route_name, status, held_back, "{MESSAGE}");
        });
        return Ok(response.map(ResponseBody::upstream));
    }
    if passing::is_encoded(response.headers()) {
        return Err(Rejection::Handover(HandoverError::Encoded));
    }
    let names = channels.iter().map(|channel| channel.name.as_str());
    let topics = handover.channels.topics_of(names).map_err(HandoverError::from)?;
    if service.health().is_draining() {
        return Err(Rejection::Draining);
    }
    if !is_event_stream(response.headers()) && response.headers().contains_key(CONTENT_TYPE) {
        let hint = "an EventSource wants Content-Type: text/event-stream";
        route.warn("content_type", |held_back| {
            const MESSAGE: &str = "a stream is handed over as something else";
            tracing::warn!(route = route_name, hint, held_back, "{MESSAGE}");
        });
    }
    open_up(response.headers_mut());
    if asked.method == Method::HEAD {
        return Ok(response.map(ResponseBody::upstream));
    }
    let settings = kept_alive(handover.channels.stream(), keep_alive);
    let retry = settings.retry;
    let subscriber = service.shard().subscribe(StreamRequest {
        topics,
        settings,
        prefix_bytes: handover.channels.prefix_bytes(),
        history: handover.channels.history(),
        // The backend knows best what its body tells of; of the rest, the client.
        last_seen: LastSeen { id: last_event_id, channel_ids: told(channels) },
        opening: StreamOpening { is_continued: true, ready_has_position: is_told_position },
        cut: connection.cut_for_current_request(),
    });
    let counted = service.count_stream(route, connection);
    let (head, body) = response.into_parts();
    let prologue = Prologue::new(body, retry, service.shard().clone());
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
    or_insert(headers, CONTENT_TYPE, EVENT_STREAM);
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

/// Of each channel, the newest event that the body tells of.
fn told(channels: Vec<HeldChannel>) -> Vec<Option<String>> {
    // Each once, as its topic.
    let mut told: Vec<HeldChannel> = Vec::with_capacity(channels.len());
    for channel in channels {
        match told.iter_mut().find(|known| known.name == channel.name) {
            Some(known) => known.prev_id = known.prev_id.take().or(channel.prev_id),
            None => told.push(channel),
        }
    }
    told.into_iter().map(|channel| channel.prev_id).collect()
}

#[cfg(test)]
mod tests {
    use super::{HeldChannel, told};

    #[test]
    fn each_channel_has_the_id_that_the_body_leads_up_to() {
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
            let ids = told(channels.iter().map(channel).collect());
            assert_eq!(ids.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        }
    }
}
