//! A request for a stream of events.

use std::rc::Rc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response};

use super::body::{ResponseBody, StreamBody};
use super::rejection::Rejection;
use super::{Service, cors};
use crate::hub::StreamRequest;
use crate::route::{Channels, Parameters, Route};
use crate::server::connection::ConnectionState;

/// Opens the stream, or says why not.
pub(super) fn open<B>(
    service: &Service,
    route: &Route,
    channels: &Channels,
    parameters: &Parameters,
    request: &Request<B>,
    connection: Rc<ConnectionState>,
) -> Result<Response<ResponseBody>, Rejection> {
    let (method, headers) = (request.method(), request.headers());
    if cors::is_preflight(method, headers) {
        return Ok(cors::preflight(&route.settings.cors, headers));
    }
    if *method != Method::GET && *method != Method::HEAD {
        return Err(Rejection::Method(vec![Method::GET, Method::HEAD]));
    }
    let topics = channels.topics(parameters, request.uri().query().unwrap_or_default())?;
    if service.health().is_draining() {
        return Err(Rejection::Draining);
    }
    if *method == Method::HEAD {
        return Ok(stream_response(ResponseBody::empty()));
    }
    let subscriber = service.shard().subscribe(StreamRequest {
        topics,
        settings: channels.stream().clone(),
        prefix_bytes: channels.prefix_bytes(),
        cut: connection.cut_for_current_request(),
    });
    let label = service.label(route);
    let body = StreamBody::new(subscriber, connection, label, service.metrics().clone());
    Ok(stream_response(ResponseBody::Stream(body)))
}

/// The head of every stream: nobody on the way may keep, compress or collect it.
pub(super) fn stream_response(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
