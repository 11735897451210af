//! One request, from its start to its response.
//!
//! Finds the route, then hands the request to what the route leads to: a stream ([`events`]), a
//! backend ([`mod@backend`]), or the demo page. What is refused becomes a response in one place
//! ([`rejection`]).

mod asked;
mod backend;
mod backend_streams;
mod body;
mod client;
mod contained;
mod cors;
mod counted;
mod demo;
#[cfg(debug_assertions)]
mod drill;
mod events;
mod handover;
mod html;
mod last_hop;
mod passing;
mod prologue;
mod rejection;
mod screening;
mod start_page;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use body::{ResponseBody, StreamBody, TimedBody};
pub use contained::ContainedBody;
pub use passing::{PassingEnd, PassingStream};

use crate::server::request_body::RequestBody;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response};
use ipnet::IpNet;
use tokio::time::Instant;

use self::asked::Asked;
use self::backend::Backend;
use self::backend_streams::BackendStreams;
use self::counted::CountedStream;
use self::rejection::Rejection;
use crate::event::Topic;
use crate::health::Health;
use crate::hub::Shard;
use crate::metrics::{Metrics, RouteMetrics};
use crate::proxy::{self, Proxy};
use crate::route::{Matched, Parameters, ProxySettings, Route, Router, Target};
use crate::server::clients::{ClientLimits, Clients};
use crate::server::connection::{ConnectionState, Handler};
use crate::server::contain::Contained;
use crate::server::refusal::Unfit;
use crate::server::upload_memory::UploadMemory;

/// Answers the requests of one shard: a cheap handle.
#[derive(Clone)]
pub struct Service(Rc<Inner>);

struct Inner {
    requests: RefCell<Rc<RequestSettings>>,
    clients: Clients,
    routes: RefCell<Rc<Routes>>,
    shard: Shard,
    backend_streams: BackendStreams,
    // Where the demo page publishes; `None` where the source is no embedded bus.
    bus: Option<SocketAddr>,
    health: Health,
    metrics: Metrics,
    // Lends what windows over HTTP/2 grow by.
    memory: UploadMemory,
    // Of requests that lead nowhere.
    unrouted: Arc<RouteMetrics>,
}

/// Bounds of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSettings {
    /// The path and the query, in bytes; more is answered with 414.
    pub max_uri_bytes: usize,
    /// What one client may have.
    pub per_client: ClientLimits,
    /// Proxies that are believed when they say whose request it is.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            max_uri_bytes: 8 << 10,
            per_client: ClientLimits::default(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl RequestSettings {
    fn client_of<B>(&self, request: &Request<B>, connection: &ConnectionState) -> IpAddr {
        if connection.is_trusted_proxy() {
            return client::behind(connection.client(), request.headers(), &self.trusted_proxies);
        }
        connection.client()
    }
}

/// Where requests lead, and what this shard keeps for it.
struct Routes {
    router: Arc<Router>,
    // What is recorded of each, by their places.
    metrics: Vec<Arc<RouteMetrics>>,
    // By the places of their routes.
    backends: HashMap<usize, Backend>,
}

impl Service {
    /// The service of one shard.
    pub fn new(
        router: Arc<Router>,
        (requests, clients): (RequestSettings, Clients),
        shard: Shard,
        bus: Option<SocketAddr>,
        health: Health,
        metrics: Metrics,
        memory: UploadMemory,
    ) -> Self {
        let routes = Routes::new(router, None, &metrics, &health, &memory);
        let routes = RefCell::new(Rc::new(routes));
        let requests = RefCell::new(Rc::new(requests));
        let unrouted = metrics.route("");
        let backend_streams = BackendStreams::new();
        Self(Rc::new(Inner {
            requests,
            clients,
            routes,
            shard,
            backend_streams,
            bus,
            health,
            metrics,
            memory,
            unrouted,
        }))
    }

    /// Visits the backends' own event streams when they are due. Never returns; ends when it is dropped.
    pub async fn run(&self) {
        self.0.backend_streams.run().await;
    }

    /// Ends the backends' own event streams in good order, evenly over `over`. No more may be opened
    /// meanwhile.
    pub async fn drain(&self, over: Duration) {
        self.0.backend_streams.drain(over).await;
    }

    /// Takes requests where `router` leads them, from now on; those that are being answered go on.
    /// Connections to backends that stay are kept.
    pub fn change(&self, router: Arc<Router>, requests: RequestSettings) {
        self.0.requests.replace(Rc::new(requests));
        let before = self.routes();
        let routes =
            Routes::new(router, Some(&before), self.metrics(), self.health(), &self.0.memory);
        self.0.routes.replace(Rc::new(routes));
    }

    fn routes(&self) -> Rc<Routes> {
        Rc::clone(&self.0.routes.borrow())
    }

    fn shard(&self) -> &Shard {
        &self.0.shard
    }

    fn backend_streams(&self) -> &BackendStreams {
        &self.0.backend_streams
    }

    fn health(&self) -> &Health {
        &self.0.health
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What is recorded of the route.
    fn metrics_of(&self, route: &Route) -> Arc<RouteMetrics> {
        let (routes, path) = (self.0.routes.borrow(), &*route.settings.path);
        // They may have changed since the request came.
        let metrics = routes.metrics.get(route.place).filter(|metrics| metrics.label() == path);
        metrics.map_or_else(|| self.metrics().route(path), Arc::clone)
    }

    async fn respond(
        &self,
        request: Request<RequestBody>,
        asked: &Asked,
        connection: Rc<ConnectionState>,
    ) -> Response<ResponseBody> {
        #[cfg(test)]
        assert_ne!(request.uri().path(), contained::tests::PANICS);
        let routes = self.routes();
        let found = self.limit(&request, &connection);
        let mut response = match found.and_then(|()| routes.find(&request, asked)) {
            Ok((route, parameters)) => {
                let backend = routes.backends.get(&route.place);
                self.follow((route, backend), &parameters, request, asked, connection).await
            }
            Err(rejection) => self.reject(&self.0.unrouted, &rejection, asked),
        };
        if asked.method == Method::HEAD {
            remove_body(&mut response);
        }
        response
    }

    /// Whether the request keeps to its bounds.
    fn limit<B>(
        &self,
        request: &Request<B>,
        connection: &ConnectionState,
    ) -> Result<(), Rejection> {
        let settings = Rc::clone(&self.0.requests.borrow());
        let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        if length > settings.max_uri_bytes {
            return Err(Rejection::Uri(settings.max_uri_bytes));
        }
        if settings.per_client.requests.is_none() {
            return Ok(());
        }
        let client = settings.client_of(request, connection);
        let may = self.0.clients.request(client, &settings.per_client, Instant::now());
        if may { Ok(()) } else { Err(Rejection::Rate) }
    }

    /// Whether the client may ask for these channels now.
    fn limit_channels<B>(
        &self,
        topics: &[Topic],
        request: &Request<B>,
        connection: &ConnectionState,
    ) -> Result<(), Rejection> {
        let settings = Rc::clone(&self.0.requests.borrow());
        if settings.per_client.new_channels.is_none() {
            return Ok(());
        }
        let client = settings.client_of(request, connection);
        let new = self.shard().unfollowed(topics);
        let may = self.0.clients.follow(client, new, &settings.per_client, Instant::now());
        if may { Ok(()) } else { Err(Rejection::NewChannels) }
    }

    async fn follow(
        &self,
        (route, backend): (&Route, Option<&Backend>),
        parameters: &Parameters,
        request: Request<RequestBody>,
        asked: &Asked,
        connection: Rc<ConnectionState>,
    ) -> Response<ResponseBody> {
        let metrics = self.metrics_of(route);
        let is_local = connection.client().is_loopback();
        let answer = if let Some(channels) = &route.channels {
            events::open(self, route, channels, parameters, (&request, asked), connection)
        } else if let Some(backend) = backend {
            backend.answer((self, route), request, asked, connection).await
        } else {
            demo::answer(self.0.bus, request).await
        };
        let mut response = match answer {
            Ok(response) => {
                metrics.request_answered(response.status().as_u16());
                time(asked.began, metrics, response)
            }
            Err(rejection) => {
                if let Rejection::Handover(error) = &rejection {
                    route.warn(error.as_str(), |held_back| {
                        let route = metrics.label();
                        tracing::warn!(route, %error, held_back, "a stream cannot be taken over");
                    });
                }
                let rejected = self.reject(&metrics, &rejection, asked);
                match start_page::is_meant(&rejection, asked, is_local) {
                    true => start_page::page(),
                    false => rejected,
                }
            }
        };
        if asked.preflight.is_none() && route.channels.is_some() {
            cors::allow(&route.settings.cors, asked.origin.as_ref(), response.headers_mut());
        }
        response
    }

    fn count_stream(&self, route: &Route, connection: Rc<ConnectionState>) -> CountedStream {
        CountedStream::open(connection, self.metrics_of(route))
    }

    fn reject(
        &self,
        metrics: &RouteMetrics,
        rejection: &Rejection,
        asked: &Asked,
    ) -> Response<ResponseBody> {
        let label = metrics.label();
        match rejection {
            Rejection::Upstream(error) if error.fault().is_of_the_client() => {
                tracing::debug!(route = label, %error, "a request cannot be passed on");
            }
            Rejection::Upstream(error) => {
                if let Some(held_back) = error.held_back() {
                    let (method, path, kind) = (&asked.method, asked.path(), error.kind());
                    tracing::warn!(
                        route = label, %method, path, kind, %error, held_back,
                        "the backend did not respond"
                    );
                }
            }
            _ => {}
        }
        self.metrics().request_rejected(rejection.as_str());
        if rejection.is_come_back(asked) {
            self.metrics().stream_sent_away(rejection.cause());
        }
        let response = rejection.response(asked);
        metrics.request_answered(response.status().as_u16());
        metrics.request_ended(asked.began.elapsed());
        response
    }
}

impl Routes {
    /// Those of `router`; of those `before`, what stays the same is kept.
    fn new(
        router: Arc<Router>,
        before: Option<&Self>,
        metrics: &Metrics,
        health: &Health,
        memory: &UploadMemory,
    ) -> Self {
        let mut kept: HashMap<&str, Vec<&Proxy>> = HashMap::new();
        for proxy in before.iter().flat_map(|before| before.backends.values()).map(Backend::proxy) {
            kept.entry(proxy.route()).or_default().push(proxy);
        }
        let kept = |settings: &ProxySettings, path: &str| {
            let mut proxies = kept.get(path).into_iter().flatten();
            proxies.find(|proxy| proxy.settings() == settings).map(|&proxy| proxy.clone())
        };
        let series = router.routes().iter().map(|route| metrics.route(&route.settings.path));
        let series: Vec<Arc<RouteMetrics>> = series.collect();
        let backends = router
            .routes()
            .iter()
            .filter_map(|route| match &route.settings.target {
                Target::Proxy(settings) => {
                    let series = &series[route.place];
                    let (health, memory) = (health.clone(), memory.clone());
                    let new = || Proxy::new(route, settings, Arc::clone(series), health, memory);
                    let proxy = kept(settings, &route.settings.path).unwrap_or_else(new);
                    Some((route.place, Backend::new(proxy, route)))
                }
                Target::Events(_) | Target::Demo => None,
            })
            .collect();
        Self { router, metrics: series, backends }
    }

    fn find<B>(
        &self,
        request: &Request<B>,
        asked: &Asked,
    ) -> Result<(&Route, Parameters), Rejection> {
        let is_websocket = proxy::is_extended_connect(request);
        if asked.method == Method::CONNECT && !is_websocket {
            // We are nobody's way to anywhere else, whatever the target.
            return Err(Rejection::Method(Vec::new()));
        }
        // Over HTTP/1.1 a WebSocket is asked for with GET.
        let method = if is_websocket { &Method::GET } else { &asked.method };
        screening::tunnel(request)?;
        screening::scheme(request)?;
        let host = screening::host(request)?;
        screening::transfer_coding(request.headers())?;
        let path = request.uri().path();
        if !path.starts_with('/') {
            return Err(Rejection::Path);
        }
        match self.router.find(host.as_deref(), path, method, asked.preflight.as_ref()) {
            Matched::Route(route, parameters) => Ok((route, parameters)),
            Matched::MethodNotAllowed(methods) => Err(Rejection::Method(methods)),
            Matched::NotFound => Err(Rejection::NotFound),
        }
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
            let asked = Asked::by(&request);
            #[cfg(debug_assertions)]
            let drill = drill::polls_of_body(&request);
            let responding = async {
                #[cfg(debug_assertions)]
                drill::panic_at(&request);
                service.respond(request, &asked, connection).await
            };
            let response = Contained::new(responding).await.unwrap_or_else(|_panicked| {
                service.metrics().panicked("request");
                service.reject(&service.0.unrouted, &Rejection::Panicked, &asked)
            });
            let response = response.map(|body| ContainedBody::new(body, service));
            #[cfg(debug_assertions)]
            let response = response.map(|body| body.drilled(drill));
            response
        }
    }

    fn refuse(&self, head: &Request<()>, why: Unfit) -> Response<Self::Body> {
        let asked = Asked::by(head);
        let mut response = self.reject(&self.0.unrouted, &why.into(), &asked);
        if asked.method == Method::HEAD {
            remove_body(&mut response);
        }
        response.map(|body| ContainedBody::new(body, self.clone()))
    }
}

/// Records how long the request takes: now, or where its end will be that of a body, then.
fn time(
    began: Instant,
    metrics: Arc<RouteMetrics>,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    match response.body_mut() {
        ResponseBody::Upstream(body) => body.time(began, metrics),
        _ => metrics.request_ended(began.elapsed()),
    }
    response
}

/// An answer to HEAD tells of a body that it does not have (RFC 9110, section 9.3.2). hyper sees to
/// that over HTTP/1.1 only.
fn remove_body(response: &mut Response<ResponseBody>) {
    if let Some(length) = response.body_mut().take_whole() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("shard", &self.0.shard).finish_non_exhaustive()
    }
}
