//! A stream that the backend hands over: its answer opens the stream, and the gateway keeps it.
//!
//! The client sees the backend's status and headers, then its body, then what is published on the
//! channels that it named. When the client comes back the backend is asked again, and decides
//! again.

use std::collections::HashSet;
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
use crate::grip::instruct::{HeldChannel, Hold, InstructError, KeepAlive};
use crate::hub::{Beginning, Position, StreamRequest, StreamSettings, id_after};
use crate::proxy::UpstreamBody;
use crate::route::{ChannelError, EventsSource, Handover, Route};
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
        tracing::warn!(route = route_name, status, "a response without a body cannot be a stream");
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
    if !passing::is_event_stream(response.headers())
        && response.headers().contains_key(CONTENT_TYPE)
    {
        let hint = "an EventSource wants Content-Type: text/event-stream";
        tracing::warn!(route = route_name, hint, "a stream is handed over as something else");
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
        // The backend has seen where the client stands, and knows best what its body tells of.
        last_event_id: begins_after(channels, handover.channels.source()).or(last_event_id),
        begins: Beginning { is_continued: true, is_told_position },
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

/// The id after which the stream begins, where the backend says so.
fn begins_after(mut channels: Vec<HeldChannel>, source: EventsSource) -> Option<Vec<u8>> {
    if source == EventsSource::Log {
        let mut seen = HashSet::new();
        channels.retain(|channel| seen.insert(channel.name.clone()));
        let ids = channels.iter().map(|channel| channel.prev_id.as_deref());
        return id_after(ids).map(String::into_bytes);
    }
    // One number stands for all channels: of several the oldest, so that nothing is left out. What
    // is no id of ours sorts before: then the client is told that it may have missed something.
    let ids = channels.into_iter().filter_map(|channel| channel.prev_id);
    let age = |id: &String| Position::parse(id.as_bytes()).map(|position| position.number);
    ids.min_by_key(age).map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::{HeldChannel, begins_after};
    use crate::route::EventsSource;

    /// The id that is made of those of channels, each `name=id`.
    fn begins(source: EventsSource, channels: &[&str]) -> Option<String> {
        let channel = |text: &&str| {
            let (name, id) = text.split_once('=').expect("name=id");
            let prev_id = Some(id.to_owned()).filter(|id| !id.is_empty());
            HeldChannel { name: name.to_owned(), prev_id }
        };
        let id = begins_after(channels.iter().map(channel).collect(), source);
        id.map(|id| String::from_utf8(id).expect("text"))
    }

    #[test]
    fn of_several_ids_the_oldest_counts_and_an_unknown_one_before_all() {
        for (channels, id) in [
            (&[][..], None),
            (&["a=", "b="], None),
            (&["a=", "b=abcdef-10", "c=abcdef-9"], Some("abcdef-9")),
            (&["a=abcdef-10", "b=what"], Some("what")),
        ] {
            assert_eq!(begins(EventsSource::PubSub, channels).as_deref(), id, "{channels:?}");
        }
    }

    #[test]
    fn each_log_has_a_place_of_its_own() {
        for (channels, id) in [
            (&["a="][..], None),
            (&["a=1-0"], Some("1-0")),
            (&["a=1-0", "b=", "a=2-0", "c=3-1"], Some("1-0~~3-1")),
        ] {
            assert_eq!(begins(EventsSource::Log, channels).as_deref(), id, "{channels:?}");
        }
    }
}
