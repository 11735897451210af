//! Requests of events routes: opens an event stream.

use std::rc::Rc;

use http::header::{CACHE_CONTROL, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
pub(super) use ssegate_auth::signed_url::LAST_EVENT_ID_KEYS;
use ssegate_hub::{LastSeen, StreamOpening, StreamRequest};

use super::admission::Admission;
use super::body::{ResponseBody, StreamBody};
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::stream_head::stream_response;
use super::{Service, cors, present};
use crate::query;
use crate::route::{Channels, Parameters, Ready, Route, STREAM_METHODS};
use crate::server::connection::ConnectionState;

/// Sent by an `EventSource` that reconnects (WHATWG HTML 9.2.4).
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// <https://www.w3.org/TR/fetch-metadata/#sec-fetch-mode-header>
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Opens the stream.
///
/// # Errors
/// The method or a channel is not valid, a limit is reached, or the gateway is draining.
pub(super) fn open<B>(
    service: &Service,
    route: &Route,
    channels: &Channels,
    parameters: &Parameters,
    (request, info, admission): (&Request<B>, &RequestInfo, &Admission),
    connection: Rc<ConnectionState>,
) -> Result<Response<ResponseBody>, Rejection> {
    let method = request.method();
    if info.preflight.is_some() {
        return Ok(cors::preflight(&route.settings.cors, info.origin.as_ref(), cors::LISTENING));
    }
    if !STREAM_METHODS.contains(method) {
        return Err(Rejection::Method(STREAM_METHODS.into()));
    }
    let query = request.uri().query().unwrap_or_default();
    let mut topics = channels.topics(parameters, query, admission.identity.as_ref())?;
    if service.health().is_draining() {
        return Err(Rejection::Draining);
    }
    if *method == Method::HEAD {
        return Ok(stream_response(ResponseBody::empty()));
    }
    service.limit_channels((channels.server(), &topics), request, &connection)?;
    let mut counted = service.count_stream(route, admission, Rc::clone(&connection))?;
    let last_event_id = last_event_id(request);
    if last_event_id.is_some() {
        service.metrics().stream_resumed();
        info.note(|log| log.note_last_event_id());
    }
    let followed = admission.channels_to_keep(&topics);
    present::join(service, (route, channels), &topics, admission, &mut counted);
    channels.add_presence(&mut topics);
    let opening = StreamRequest {
        topics,
        settings: channels.stream().clone(),
        prefix_bytes: channels.prefix_bytes(),
        history: channels.history(),
        last_seen: LastSeen::up_to(last_event_id),
        opening: StreamOpening {
            is_continued: false,
            ready_has_position: is_told_position(channels.ready(), request.headers()),
        },
        expires_at: admission.expires_at,
        cut: connection.current_request_abort(),
        tag: service.tag(route, request, &connection),
    };
    let feed = service.shards().subscribe(channels.server(), opening);
    counted.watch(followed, feed.stopper());
    let body = StreamBody::new(feed, counted);
    Ok(stream_response(ResponseBody::Stream(body)))
}

/// The last event ID: from the Last-Event-ID field, or from the query for clients that cannot set
/// the field. An empty one is ignored.
pub(super) fn last_event_id<B>(request: &Request<B>) -> Option<Vec<u8>> {
    let header = request.headers().get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    header.map(|id| id.as_bytes().to_vec()).or_else(|| {
        let query = query::parse(request.uri().query()?);
        let mut ids = query
            .into_iter()
            .filter(|(key, id)| LAST_EVENT_ID_KEYS.contains(&key.as_str()) && !id.is_empty());
        ids.next().map(|(_, id)| id.into_bytes())
    })
}

/// Whether `: ready` is a block with the client's position, rather than a line.
pub(super) fn is_told_position(ready: Ready, headers: &HeaderMap) -> bool {
    match ready {
        Ready::Auto => is_event_source(headers),
        Ready::Line => false,
        Ready::Block => true,
    }
}

/// Whether the request comes from a browser's `EventSource`, which handles a block without data as
/// the standard specifies; other clients dispatch an event for it.
///
/// Its cache mode is no-store (WHATWG HTML 9.2.2), so it sends `Cache-Control: no-cache` (Fetch
/// 4.5), which a page's `fetch` does not do by default. Other clients send that field, too, but
/// neither `Sec-Fetch-Mode: cors` nor a browser's User-Agent. The latter is needed because browsers
/// send `Sec-Fetch-Mode` to potentially trustworthy origins only.
fn is_event_source(headers: &HeaderMap) -> bool {
    let is_not_cached = headers.get_all(CACHE_CONTROL).iter().any(|value| {
        let mut directives = value.as_bytes().split(|&byte| byte == b',');
        directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
    });
    let is_cors = || headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "cors");
    let agent = || headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    is_not_cached && (is_cors() || agent().starts_with(b"Mozilla/"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::last_event_id;

    #[test]
    fn an_empty_last_event_id_is_ignored() {
        for (header, uri, expected) in [
            (Some("a-1"), "/?last_event_id=a-2", Some("a-1")),
            (Some(""), "/?last_event_id=a-2", Some("a-2")),
            (None, "/?last_event_id=&lastEventId=a-3", Some("a-3")),
            (None, "/?Last-Event-ID=", None),
            (Some(""), "/", None),
            (None, "/", None),
        ] {
            let mut request = Request::builder().uri(uri);
            if let Some(header) = header {
                request = request.header("last-event-id", header);
            }
            let id = last_event_id(&request.body(()).expect("a request"));
            assert_eq!(id.as_deref(), expected.map(str::as_bytes), "{header:?} {uri}");
        }
    }
}
