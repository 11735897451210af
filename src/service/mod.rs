//! Handles a request: from its header to its response.
//!
//! Owns the limits of requests, the choice of the route and all error responses ([`rejection`]).
//! Does not know sockets or Redis. A request goes to an event stream ([`events`]), a backend
//! ([`proxy_handler`]), into Redis ([`publish`]) or to the demo page.

mod admission;
mod auth_backend;
mod auth_backends;
mod auth_question;
mod backend_stream;
mod backend_stream_end;
mod backend_stream_state;
mod backend_streams;
mod body;
mod client;
mod contained;
mod cors;
mod counted;
mod demo;
mod dispatch;
mod events;
mod handover;
mod handover_error;
mod html;
mod inspection;
mod joined;
mod kept;
mod kept_address;
mod kept_again;
mod kept_body;
mod kept_detach;
mod kept_name;
mod kept_origin;
mod kept_request;
mod kept_resume;
mod logged_request;
mod max_forwards;
#[cfg(debug_assertions)]
mod panic_injection;
mod presence;
mod present;
mod prologue;
mod proxy_handler;
mod publish;
mod recheck;
mod rejection;
mod request_info;
mod request_limits;
mod request_log;
mod request_settings;
mod response_end;
mod revocable;
mod route_auth;
mod route_table;
mod screening;
mod shared;
mod shared_request;
mod start_page;
mod stream_feed;
mod stream_guard;
mod stream_head;
mod stream_shards;
mod stream_stopper;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use backend_stream::BackendStream;
pub use backend_stream_end::BackendStreamEnd;
pub use body::{ResponseBody, StreamBody, TimedBody};
pub use contained::ContainedBody;
pub use inspection::{
    FollowError, HubQuestion, HubView, Questions, ShardQuestion, ShardView, SlowReader,
    StatusInspection, TopicView,
};
pub use kept::registry::KeptStreams;
pub use publish::AdminPublishing;
pub use request_settings::RequestSettings;
pub use shared::source::SharedSource;
pub use shared::upstreams::{SharedPieces, SharedStreams};
pub use stream_shards::StreamShards;

use http::{Request, Response, StatusCode, Version};
use ssegate_http2::RequestError;
use ssegate_hub::{Shard, TIMER_TICK};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::TaskTracker;

use self::admission::Admission;
use self::backend_streams::BackendStreams;
use self::counted::CountedStream;
use self::recheck::Rechecks;
use self::rejection::Rejection;
use self::request_info::RequestInfo;
use self::revocable::RevocableRequests;
use self::route_table::RouteTable;
use crate::auth::SharedAuth;
use crate::health::Health;
use crate::log::AccessLog;
use crate::metrics::{Metrics, RouteMetrics};
use crate::route::{Route, Router};
use crate::server::clients::Clients;
use crate::server::connection::{ConnectionState, Handler};
use crate::server::contain::Contained;
use crate::server::request_body::RequestBody;
use crate::server::upload_memory::UploadMemory;
use crate::source::presence::Presence;
use crate::source::publishing::Publisher;

/// Handles the requests of one shard. A cheap handle.
#[derive(Clone)]
pub struct Service(Rc<ServiceShared>);

struct ServiceShared {
    requests: RefCell<Rc<RequestSettings>>,
    clients: Clients,
    auth: SharedAuth,
    routes: RefCell<Rc<RouteTable>>,
    shards: StreamShards,
    sharing: Shard,
    shared: SharedStreams,
    backend_streams: BackendStreams,
    revocable_requests: RevocableRequests,
    rechecks: Rechecks,
    publisher: Publisher,
    kept: KeptStreams,
    presence: Presence,
    // Ends when no pump of a kept stream runs on this shard.
    pumps: TaskTracker,
    health: Health,
    metrics: Metrics,
    access: AccessLog,
    // The budget for growing HTTP/2 windows.
    memory: UploadMemory,
    // The metrics of requests that match no route.
    unrouted: Arc<RouteMetrics>,
}

impl Service {
    /// The service of one shard.
    pub fn new(
        router: Arc<Router>,
        (requests, clients, auth): (RequestSettings, Clients, SharedAuth),
        (shards, sharing): (StreamShards, Shard),
        (publisher, kept, shared, presence): (Publisher, KeptStreams, SharedStreams, Presence),
        health: Health,
        (metrics, access): (Metrics, AccessLog),
        memory: UploadMemory,
    ) -> Self {
        let routes = RouteTable::new(router, None, (&metrics, &health), &memory, &auth);
        let routes = RefCell::new(Rc::new(routes));
        let requests = RefCell::new(Rc::new(requests));
        let unrouted = metrics.route("");
        let shared = ServiceShared {
            requests,
            clients,
            auth,
            routes,
            shards,
            sharing,
            shared,
            backend_streams: BackendStreams::new(),
            revocable_requests: RevocableRequests::default(),
            rechecks: Rechecks::new(),
            publisher,
            kept,
            presence,
            pumps: TaskTracker::new(),
            health,
            metrics,
            access,
            memory,
            unrouted,
        };
        Self(Rc::new(shared))
    }

    /// Visits the backends' own event streams when they are due, and rechecks whether clients may still have their
    /// streams. Never returns.
    pub async fn run(&self) {
        let mut tick = tokio::time::interval(TIMER_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = Instant::now();
            // A reload changes the timeout.
            self.0.backend_streams.visit_due(now, self.shard().write_timeout());
            self.0.rechecks.ask_due(now);
            self.0.kept.forget_due(now);
            self.0.kept.write_again(&self.0.pumps);
        }
    }

    /// Ends the backends' own event streams, spread evenly over `over`. Those of requests that still
    /// wait for their response end as soon as they are opened.
    ///
    /// Kept streams continue until the drain is over: they would be lost with the process. Shared ones end with their
    /// last reader.
    pub async fn drain(&self, over: Duration) {
        self.0.shared.drain();
        let last = async {
            tokio::time::sleep(over).await;
            self.0.kept.lose_all();
        };
        tokio::join!(self.0.backend_streams.drain(over), last);
    }

    /// Waits until no kept or shared stream of this shard runs.
    pub async fn pumps_ended(&self) {
        self.0.pumps.close();
        self.0.pumps.wait().await;
    }

    /// Uses `router` and `requests` for new requests; running ones continue with the old.
    /// Connections to backends whose settings are unchanged are kept.
    pub fn change(&self, router: Arc<Router>, requests: RequestSettings) {
        self.0.requests.replace(Rc::new(requests));
        let before = self.routes();
        let seen = (self.metrics(), self.health());
        let routes = RouteTable::new(router, Some(&before), seen, &self.0.memory, self.auth());
        self.0.routes.replace(Rc::new(routes));
        self.0.backend_streams.reschedule(Instant::now());
    }

    fn routes(&self) -> Rc<RouteTable> {
        Rc::clone(&self.0.routes.borrow())
    }

    /// The shard of the hub of the first server.
    fn shard(&self) -> &Shard {
        self.0.shards.first()
    }

    /// The shard of the hub of each server.
    fn shards(&self) -> &StreamShards {
        &self.0.shards
    }

    /// The shard of the hub of shared streams.
    fn sharing(&self) -> &Shard {
        &self.0.sharing
    }

    fn shared(&self) -> &SharedStreams {
        &self.0.shared
    }

    fn backend_streams(&self) -> &BackendStreams {
        &self.0.backend_streams
    }

    fn kept(&self) -> &KeptStreams {
        &self.0.kept
    }

    fn presence(&self) -> &Presence {
        &self.0.presence
    }

    /// The pumps of kept and shared streams that run on this shard.
    fn pumps(&self) -> &TaskTracker {
        &self.0.pumps
    }

    fn rechecks(&self) -> &Rechecks {
        &self.0.rechecks
    }

    fn auth(&self) -> &SharedAuth {
        &self.0.auth
    }

    fn health(&self) -> &Health {
        &self.0.health
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The metrics of the route.
    fn metrics_of(&self, route: &Route) -> Arc<RouteMetrics> {
        let routes = self.0.routes.borrow();
        let of_label = || self.metrics().route(&route.label);
        routes.metrics_of(route).map_or_else(of_label, Arc::clone)
    }

    /// Counts a stream that is opened now.
    ///
    /// # Errors
    /// Its identity has the maximum number of streams.
    fn count_stream(
        &self,
        route: &Route,
        admission: &Admission,
        connection: Rc<ConnectionState>,
    ) -> Result<CountedStream, Rejection> {
        let guard = self.admit_stream(admission)?;
        Ok(CountedStream::open(connection, self.metrics_of(route), guard))
    }

    fn reject(
        &self,
        metrics: &RouteMetrics,
        rejection: &Rejection,
        info: &RequestInfo,
    ) -> Response<ResponseBody> {
        let label = metrics.label();
        match rejection {
            Rejection::Upstream(error) if error.class().is_client_error() => {
                tracing::debug!(route = label, %error, "cannot forward the request");
            }
            Rejection::Upstream(error) => {
                if let Some(held_back) = error.held_back() {
                    let (method, path, kind) = (&info.method, info.path(), error.kind());
                    tracing::warn!(
                        route = label, %method, path, kind, %error, held_back,
                        "the request to the backend failed"
                    );
                }
            }
            _ => {}
        }
        self.metrics().request_rejected(rejection.as_str());
        info.note(|log| match rejection.has_client_left() {
            true => log.note_client_left(),
            false => log.note_error(rejection.cause()),
        });
        let mut response = rejection.response(info);
        if rejection.ends_with_retry(info) {
            self.metrics().stream_sent_away(rejection.cause());
            if info.is_via_gateway {
                shared::response::note_away(response.headers_mut());
            }
        }
        metrics.response_sent(response.status().as_u16());
        metrics.request_ended(info.received_at.elapsed());
        response
    }
}

impl Handler for Service {
    type Body = ContainedBody<ResponseBody>;

    fn handle(
        &self,
        request: Request<RequestBody>,
        connection: Rc<ConnectionState>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static {
        let service = self.clone();
        async move {
            let info = RequestInfo::new(&request);
            info.log_in(service.log_request(&request, &connection));
            #[cfg(debug_assertions)]
            let polls = panic_injection::polls_of_body(&request);
            let responding = async {
                #[cfg(debug_assertions)]
                panic_injection::panic_at(&request);
                service.respond(request, &info, connection).await
            };
            let response = Contained::new(responding).await.unwrap_or_else(|_panicked| {
                service.metrics().panicked("request");
                service.reject(&service.0.unrouted, &Rejection::Panicked, &info)
            });
            let response = service.finish(response, &info);
            #[cfg(debug_assertions)]
            let response = response.map(|body| body.inject_panic(polls));
            response
        }
    }

    fn refuse(
        &self,
        head: &Request<()>,
        why: RequestError,
        connection: &ConnectionState,
    ) -> Response<Self::Body> {
        let info = RequestInfo::new(head);
        // One that is given up after its header has a line already.
        if head.version() == Version::HTTP_2 {
            info.log_in(self.log_request(head, connection));
        }
        let response = self.reject(&self.0.unrouted, &why.into(), &info);
        self.finish(response, &info)
    }

    fn note_unreadable(&self, status: StatusCode, why: &'static str, connection: &ConnectionState) {
        self.0.access.write_unreadable(connection.client(), status.as_u16(), why);
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("shards", &self.0.shards).finish_non_exhaustive()
    }
}
