//! Requests of a route with `share`: which of them get a shared stream, and where in it each begins.
//!
//! The first request of a stream starts the request to the backend; those that come meanwhile wait for the same
//! response. Each of them has passed `auth` of its route, and ends like the streams of an events route.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use ssegate_hub::{
    EventId, HistorySettings, LastSeen, Replay, StreamOpening, StreamRequest, StreamSettings,
};

use super::admission::Admission;
use super::body::{ResponseBody, StreamBody};
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::shared::alone::Alone;
use super::shared::origin::RequestOrigin;
use super::shared::pump::SharedPump;
use super::shared::question::SharedQuestion;
use super::shared::readers::SharedReader;
use super::shared::upstream::{SharedEnd, SharedOpening, SharedPhase, SharedUpstream};
use super::shared::upstreams::{SharedFeed, SharedJoin, SharedPosition};
use super::{Service, cors, events};
use crate::proxy::{Proxy, gateways_passed, has_been_here};
use crate::route::{Route, ShareSettings};
use crate::server::connection::ConnectionState;
use crate::server::contain::Contained;
use crate::server::request_body::RequestBody;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request on a route with `share`.
pub(super) struct SharedErrand<'a> {
    pub(super) service: &'a Service,
    pub(super) route: &'a Route,
    pub(super) proxy: &'a Proxy,
    pub(super) info: &'a RequestInfo,
    pub(super) admission: &'a Admission,
    /// The fields that tell the backend the client's identity.
    pub(super) identity: &'a [(HeaderName, HeaderValue)],
}

/// The position of a reader when it joins.
struct Beginning {
    /// The id of the last event that it has.
    position: Option<Vec<u8>>,
    /// Whether it has waited for the backend's response: then the stream begins with it.
    has_waited: bool,
}

impl SharedErrand<'_> {
    /// Responds with a shared stream; `None`: the request is to be forwarded.
    ///
    /// # Errors
    /// The backend was asked, and is away; or the reader has the maximum number of streams.
    pub(super) async fn respond(
        self,
        request: &Request<RequestBody>,
        share: &ShareSettings,
        connection: &Rc<ConnectionState>,
    ) -> Result<Option<Response<ResponseBody>>, Rejection> {
        let metrics = self.service.metrics();
        let origin = RequestOrigin {
            scope: &self.route.scope,
            is_tls: connection.is_tls(),
            is_trusted: connection.is_trusted_proxy(),
            has_body: !request.body().is_end_stream(),
            identity: self.identity,
        };
        let question = match SharedQuestion::of(request, origin, share) {
            Ok(question) => question,
            Err(why) => {
                metrics.shared_alone(why.as_str());
                return Ok(None);
            }
        };
        if self.service.health().is_draining() {
            return Err(Rejection::Draining);
        }
        let position = events::last_event_id(request);
        let place = (&self.route.scope, self.proxy.settings(), request.uri().path());
        let number = position.as_deref().and_then(|id| self.service.sharing().number_given(id));
        // Includes ids of another gateway or process: the backend does not know them either.
        let is_ours = position.as_deref().is_some_and(|id| EventId::parse(id).is_some());
        let seen = SharedPosition { id: position.as_deref(), is_ours, number };
        if has_been_here(request.headers()) {
            return Ok(self.came_back((&question, seen), request.headers()));
        }
        let most = share.limits.upstreams;
        let joined = self.service.shared().join(question.key(), seen, place, most);
        let (upstream, reader, is_first) = match joined {
            SharedJoin::First(upstream, reader, feed) => {
                let last_id = position.clone().filter(|_| !is_ours);
                let most = self.service.0.publisher.max_event_bytes();
                let bounds = (share.leave, most.min(share.limits.bytes));
                let question = (question, gateways_passed(request.headers()));
                let pump = SharedPump::new(self.proxy.clone(), question, last_id, bounds);
                self.start(pump, feed);
                (upstream, reader, true)
            }
            SharedJoin::Later(upstream, reader) => (upstream, reader, false),
            SharedJoin::Remembered(SharedEnd::NoContent | SharedEnd::NothingAfter) => {
                return Ok(Some(self.nothing()));
            }
            SharedJoin::Remembered(end) => return Ok(self.alone(end.as_str())),
            SharedJoin::Full => return Ok(self.alone("max_upstreams")),
        };
        let has_waited = matches!(upstream.phase(), SharedPhase::Asked);
        match upstream.answered().await {
            // The drain may have begun since the backend was asked. No stream may be opened then.
            SharedPhase::Open(_) if self.service.health().is_draining() => Err(Rejection::Draining),
            SharedPhase::Open(opening) => {
                metrics.shared_request(if is_first { "first" } else { "joined" });
                let beginning = Beginning { position, has_waited };
                let stream = (&*upstream, &*opening, reader);
                let tag = self.service.tag(self.route, request, connection);
                self.open(stream, (beginning, tag), share, connection).map(Some)
            }
            SharedPhase::Closed(SharedEnd::NoContent | SharedEnd::NothingAfter) => {
                Ok(Some(self.nothing()))
            }
            SharedPhase::Closed(end @ SharedEnd::Unshared) => Ok(self.alone(end.as_str())),
            // Only the first is forwarded and shows the failure: not all of them ask a backend that has failed.
            SharedPhase::Closed(SharedEnd::Failed) if is_first => Ok(self.alone("failed")),
            SharedPhase::Closed(_) | SharedPhase::Asked => Err(Rejection::SharedAway),
        }
    }

    fn alone(&self, why: &str) -> Option<Response<ResponseBody>> {
        self.service.metrics().shared_alone(why);
        None
    }

    /// Handles a request that this gateway itself has sent.
    fn came_back(
        &self,
        (question, seen): (&SharedQuestion, SharedPosition<'_>),
        headers: &HeaderMap,
    ) -> Option<Response<ResponseBody>> {
        // A question of the gateway names no client. A request that is such a question would wait for its own response,
        // or read its own stream.
        let is_question = !headers.contains_key(X_FORWARDED_FOR);
        if is_question && self.service.shared().is_asked(question.key(), seen) {
            return Some(self.empty(StatusCode::LOOP_DETECTED));
        }
        self.alone(Alone::Loop.as_str())
    }

    /// The response if the backend has no more events (204): an `EventSource` does not reconnect after it.
    fn nothing(&self) -> Response<ResponseBody> {
        self.service.metrics().shared_request("no_content");
        self.empty(StatusCode::NO_CONTENT)
    }

    fn empty(&self, status: StatusCode) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = status;
        let (cors, origin) = (&self.route.settings.cors, self.info.origin.as_ref());
        cors::allow(cors, origin, response.headers_mut());
        response
    }

    /// Starts the request to the backend, which continues without this request. A panic ends only this stream.
    fn start(&self, pump: SharedPump, feed: SharedFeed) {
        let metrics = self.service.metrics().clone();
        let pumping = async move {
            if Contained::new(pump.run(feed)).await.is_err() {
                metrics.panicked("shared");
            }
        };
        drop(self.service.pumps().spawn_local(pumping));
    }

    /// Opens a reader.
    fn open(
        &self,
        (upstream, opening, reader): (&SharedUpstream, &SharedOpening, SharedReader),
        (beginning, tag): (Beginning, u64),
        share: &ShareSettings,
        connection: &Rc<ConnectionState>,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let Self { service, route, info, admission, .. } = *self;
        let counted = service.count_stream(route, admission, Rc::clone(connection))?;
        if beginning.position.is_some() {
            service.metrics().stream_resumed();
            info.note(|log| log.note_last_event_id());
        }
        let (settings, position) = beginning.of(opening, &share.stream);
        let (count, bytes) = (share.limits.events, share.limits.bytes);
        let subscriber = service.sharing().subscribe(StreamRequest {
            topics: vec![upstream.topic.clone()],
            settings,
            prefix_bytes: upstream.prefix_bytes,
            history: Some(HistorySettings { count, bytes, ..HistorySettings::default() }),
            last_seen: LastSeen::up_to(position),
            // A position of ours would replace the backend's id, which outlives the stream.
            opening: StreamOpening { is_continued: false, ready_has_position: false },
            expires_at: admission.expires_at,
            cut: connection.current_request_abort(),
            tag,
        });
        counted.watch(Box::default(), subscriber.ender().into());
        let body = ResponseBody::Stream(StreamBody::sharing(reader, subscriber, counted));
        let mut response = Response::new(body);
        *response.headers_mut() = opening.head.clone();
        self.allow_origin(response.headers_mut());
        Ok(response)
    }

    /// Adds the CORS headers for the reader's own origin, if the route lists origins: the backend does not know the
    /// origin.
    fn allow_origin(&self, headers: &mut HeaderMap) {
        let (cors, origin) = (&self.route.settings.cors, self.info.origin.as_ref());
        if cors.origins.is_empty() {
            return;
        }
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        cors::allow(cors, origin, headers);
    }
}

impl Beginning {
    /// Returns what the reader is sent first: the settings of its stream, and the id after which it begins.
    ///
    /// A reader that has waited without an id gets the stream from its beginning. So does a reader at the id after
    /// which the backend has begun.
    fn of(
        self,
        opening: &SharedOpening,
        settings: &Arc<StreamSettings>,
    ) -> (Arc<StreamSettings>, Option<Vec<u8>>) {
        let Self { position, has_waited } = self;
        let is_at_start = match &position {
            Some(_) => position == opening.after,
            None => has_waited,
        };
        if !is_at_start {
            return (Arc::clone(settings), position);
        }
        let settings = StreamSettings { replay: Replay::Whole, ..StreamSettings::clone(settings) };
        (Arc::new(settings), None)
    }
}
