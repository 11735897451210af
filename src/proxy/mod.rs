//! The reverse proxy: forwards requests to the upstreams of a route, and their responses to the
//! client.
//!
//! Owns the connections to the upstreams, and the rewriting of messages. Does not know how a route
//! was matched, nor what happens to a response afterwards; event streams are the business of
//! `service`.
//!
//! [`Proxy`] forwards the requests of one route. [`message`] rewrites requests and responses:
//! hop-by-hop [`headers`], the [`forwarded`] fields, and the [`location`] fields that would lead
//! past the gateway. [`round_robin`] picks an [`upstream`].
//!
//! Over HTTP/1.1, [`http1_pool`] keeps the idle connections, and an [`http1_connection`] carries
//! one request at a time. Over HTTP/2, [`http2_pool`] keeps the connections; each ([`http2`])
//! multiplexes many requests, up to the [`request_limit`] of the backend, and a request may have to
//! wait for [`capacity`]. [`connect`] opens the sockets; [`http1_io`] is the socket that hyper
//! gets. [`retry`] decides whether a request whose connection failed is sent again. [`recorder`]
//! counts and logs.
//!
//! Bodies stream both ways ([`upload`], [`body`]) with their [`trailers`], and are never collected;
//! [`idle_timeout`] bounds the time between two frames. A client that leaves drops the future or
//! the body, and with it the [`lease`] of the connection, which cancels the request at the backend.
//!
//! An [`upgrade`] turns an exchange into a [`tunnel`].

mod abort_on_drop;
mod ask;
mod backend_body;
mod body;
mod capacity;
mod connect;
mod error;
mod expect;
mod forwarded;
mod headers;
mod http1_connection;
mod http1_io;
mod http1_pool;
mod http2;
mod http2_pool;
mod idle_timeout;
mod lease;
mod location;
mod message;
mod pool_sweeper;
mod recorder;
mod replay_buffer;
mod request_limit;
mod retry;
mod round_robin;
mod send_error;
mod trailers;
mod tunnel;
mod upgrade;
mod upload;
mod upload_monitor;
mod upstream;
mod websocket;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::time::{Instant, timeout};

use self::backend_body::BackendBody;
pub use self::body::UpstreamBody;
use self::error::Failure;
pub use self::error::{FailureClass, ProxyError};
use self::forwarded::Peer;
pub use self::headers::is_hop_by_hop;
use self::idle_timeout::IdleTimeout;
use self::lease::Lease;
use self::location::LocationRewriter;
use self::message::GatewayFields;
use self::recorder::Recorder;
use self::round_robin::RoundRobin;
use self::send_error::SendError;
use self::tunnel::TunnelBackend;
pub use self::tunnel::{TunnelBody, TunnelHandle, TunnelTally};
use self::upgrade::Upgrade;
pub use self::upgrade::is_extended_connect;
use self::upload::Upload;
use self::upload_monitor::UploadMonitor;
use self::upstream::Upstream;
use crate::health::Health;
use crate::metrics::RouteMetrics;
use crate::route::{ProxySettings, ReservedHeaders, Route};
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;
use crate::server::upload_memory::UploadMemory;

/// Whether a request was sent by this gateway itself, directly or through other proxies.
pub fn has_been_here(headers: &HeaderMap) -> bool {
    forwarded::passes(headers) > 0
}

/// The gateways that a request has passed, as a value of `Via`; `None`: none.
pub fn gateways_passed(headers: &HeaderMap) -> Option<HeaderValue> {
    forwarded::gateways_passed(headers)
}

/// Forwards the requests of one route, over connections of the shard that owns it. A cheap handle.
#[derive(Clone, Debug)]
pub struct Proxy(Rc<ProxyShared>);

#[derive(Debug)]
struct ProxyShared {
    settings: Arc<ProxySettings>,
    // Whether a reload has removed it from its route.
    is_retired: Cell<bool>,
    upstreams: RoundRobin,
    recorder: Recorder,
}

/// What to do with a request beyond forwarding it as it is.
#[derive(Clone, Copy, Debug)]
pub struct ForwardContext<'a> {
    /// Header fields of the gateway's own; they replace the client's.
    pub fields: &'a [(HeaderName, HeaderValue)],
    /// Fields that no client may send, not even as trailers.
    pub reserved: &'a ReservedHeaders,
    /// When a tunnel ends, with the credential that opened it; `None`: never.
    pub expires_at: Option<Instant>,
}

/// The outcome of a forwarded request.
#[derive(Debug)]
pub enum Forwarded {
    /// The backend's response.
    Response(Response<UpstreamBody>),
    /// The backend has switched protocols; the body relays its bytes, and the handle ends that.
    Tunnel(Response<TunnelBody>, TunnelHandle),
}

impl Proxy {
    /// A proxy without connections. HTTP/2 stream windows grow from `memory`.
    pub fn new(
        route: &Route,
        settings: &ProxySettings,
        metrics: Arc<RouteMetrics>,
        health: Health,
        memory: UploadMemory,
    ) -> Self {
        let recorder = Recorder::new(route, metrics, health, memory);
        let upstream =
            |address: &_| Upstream::new(Clone::clone(address), settings, recorder.clone());
        let upstreams = settings.upstreams.iter().map(upstream).collect();
        // A random start per shard: otherwise all shards would send their first request to the same
        // one.
        let upstreams = RoundRobin::new(upstreams, fastrand::usize(..));
        let (settings, is_retired) = (Arc::new(settings.clone()), Cell::new(false));
        Self(Rc::new(ProxyShared { settings, is_retired, upstreams, recorder }))
    }

    /// The label of the route.
    pub fn route(&self) -> &str {
        self.0.recorder.route()
    }

    /// The settings of the route.
    pub fn settings(&self) -> &Arc<ProxySettings> {
        &self.0.settings
    }

    /// Records that a reload has removed it from its route, or has put it back. Requests in progress
    /// continue.
    pub fn set_retired(&self, is_retired: bool) {
        self.0.is_retired.set(is_retired);
    }

    /// Whether a reload has removed it from its route: a task that sends requests repeatedly has to
    /// end.
    pub fn is_retired(&self) -> bool {
        self.0.is_retired.get()
    }

    /// The interval of keep-alive comments on a backend's idle event streams; `None`: no comments.
    pub fn stream_keep_alive(&self) -> Option<Duration> {
        self.0.settings.stream_keep_alive
    }

    /// The first header name with an underscore, unless the route allows these
    /// (`underscores_in_headers`).
    pub fn refused_header<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderName> {
        if self.0.settings.allows_underscores { None } else { headers::ambiguous_name(headers) }
    }

    /// Forwards a request and returns the head of the response; its body streams. If the client
    /// requests a protocol upgrade and the backend switches, returns a tunnel between the two.
    ///
    /// # Errors
    /// The backend cannot be reached, closes the connection before it responds, or sends a response
    /// that cannot be forwarded; or the request body fails.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        connection: &ConnectionState,
        context: ForwardContext<'_>,
    ) -> Result<Forwarded, ProxyError> {
        if forwarded::is_in_loop(request.headers()) {
            return Err(self.failed(self.0.upstreams.first(), Failure::Loop));
        }
        let gateway_fields = GatewayFields { peer: Some(peer(connection)), fields: context.fields };
        if let Some(upgrade) = Upgrade::requested(&mut request, self.0.settings.is_http2) {
            // Boxed: keeps the future of ordinary requests small.
            let expires_at = context.expires_at;
            let upgrading =
                self.upgrade(request, upgrade, connection, (gateway_fields, expires_at));
            return Box::pin(upgrading).await;
        }
        let settings = &self.0.settings;
        let announced = request.body().size_hint().lower();
        if settings.max_body.is_some_and(|most| announced > most) {
            return Err(self.failed(self.0.upstreams.first(), Failure::LargeRequest));
        }
        let scheme = settings.is_http2.then(|| match settings.upstreams[0].is_tls() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        });
        let prepared = message::prepare_request(&mut request, settings, gateway_fields, scheme);
        let (head, body) = request.into_parts();
        let interim = body.interim().clone();
        let body = Some((body, context.reserved));
        let (upload, monitor) = Upload::new(body, prepared.continue_gate, interim, settings);
        let request = Request::from_parts(head, upload);
        let (upstream, response, lease) = self.send(request, &monitor, settings.is_http2).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed(upstream, Failure::UnexpectedSwitch));
        }
        self.respond(upstream, response, lease, prepared.rewriter)
    }

    async fn upgrade(
        &self,
        request: Request<RequestBody>,
        upgrade: Upgrade,
        connection: &ConnectionState,
        (gateway_fields, expires_at): (GatewayFields<'_>, Option<Instant>),
    ) -> Result<Forwarded, ProxyError> {
        let settings = &self.0.settings;
        let (head, body) = request.into_parts();
        let interim = body.interim().clone();
        // Over HTTP/2 the request body carries the client's side of the tunnel; over HTTP/1.1 it is
        // empty.
        let client = matches!(upgrade, Upgrade::Http2(_)).then_some(body);
        let (upload, monitor) = Upload::new(None, None, interim, settings);
        let mut request = Request::from_parts(head, upload);
        let rewriter =
            message::prepare_request(&mut request, settings, gateway_fields, None).rewriter;
        upgrade.apply_to(&mut request);
        let (upstream, mut response, mut lease) = self.send(request, &monitor, false).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // The backend may yet treat what follows as the other protocol: do not reuse the
            // connection.
            lease.keep_for(Duration::ZERO);
            if client.is_some() && response.status().is_success() {
                // A 2xx response to an extended CONNECT opens the tunnel (RFC 8441, section 5).
                return Err(self.failed(upstream, Failure::NoSwitch("it ignored the upgrade")));
            }
            return self.respond(upstream, response, lease, rewriter);
        }
        upgrade.accept(&mut response).map_err(|failure| self.failed(upstream, failure))?;
        let switched = timeout(settings.response_timeout, hyper::upgrade::on(&mut response)).await;
        let upgraded = match switched {
            Ok(Ok(upgraded)) => upgraded,
            Ok(Err(error)) => return Err(self.failed(upstream, Failure::http1(&error))),
            Err(_elapsed) => {
                let failure = Failure::ResponseTimeout(settings.response_timeout);
                return Err(self.failed(upstream, failure));
            }
        };
        let tunnel = self.0.recorder.tunnel();
        let backend = TunnelBackend { upgraded, slot: lease.into_slot(), tunnel, expires_at };
        let handle = TunnelHandle::default();
        let body = match (upgrade, client) {
            (Upgrade::Http1 { client, .. }, _) => {
                connection.run_after_http(tunnel::relay(client, backend, handle.clone()));
                TunnelBody::empty()
            }
            (Upgrade::Http2(_), client) => {
                TunnelBody::new(client.expect("set above for HTTP/2"), backend, handle.clone())
            }
        };
        Ok(Forwarded::Tunnel(response.map(|_| body), handle))
    }

    /// Sends a request to one upstream after the other until one responds. Tries the next one only
    /// if nothing of the request was processed.
    async fn send(
        &self,
        mut request: Request<Upload>,
        monitor: &Rc<UploadMonitor>,
        is_http2: bool,
    ) -> Result<(&Upstream, Response<BackendBody>, Lease), ProxyError> {
        let mut upstreams = self.0.upstreams.candidates().peekable();
        loop {
            let upstream = upstreams.next().expect("returns with the last upstream");
            let SendError { mut failure, unsent } =
                match upstream.send(request, monitor, is_http2).await {
                    Ok((response, lease)) => return Ok((upstream, response, lease)),
                    Err(error) => error,
                };
            if self.0.settings.is_http2 && !is_http2 {
                failure = failure.for_websocket();
            }
            if failure.marks_upstream_down() {
                upstream.mark_down(self.0.settings.fail_timeout);
            }
            let error = self.failed(upstream, failure);
            match unsent {
                Some(unsent) if upstreams.peek().is_some() => {
                    if let Some(held_back) = error.held_back() {
                        let (route, kind) = (self.route(), error.kind());
                        tracing::warn!(
                            route, kind, %error, held_back, "a backend failed; trying the next one"
                        );
                    }
                    request = *unsent;
                }
                _ => return Err(error),
            }
        }
    }

    fn respond(
        &self,
        upstream: &Upstream,
        mut response: Response<BackendBody>,
        mut lease: Lease,
        rewriter: Option<LocationRewriter>,
    ) -> Result<Forwarded, ProxyError> {
        if http2::header_list_size(response.headers()) > self.0.settings.max_response_header {
            return Err(self.failed(upstream, Failure::LargeResponse));
        }
        let keep_alive = message::prepare_response(&mut response);
        if let Some(keep_alive) = keep_alive.map_err(|failure| self.failed(upstream, failure))? {
            lease.keep_for(keep_alive);
        }
        if let Some(rewriter) = rewriter {
            rewriter.rewrite(response.headers_mut(), &upstream.address);
        }
        let idle_timeout = IdleTimeout::new(self.0.settings.idle_timeout);
        let recorder = (self.0.recorder.clone(), Arc::clone(&upstream.backend));
        let allows_underscores = self.0.settings.allows_underscores;
        let body = |incoming| {
            UpstreamBody::new(incoming, idle_timeout, lease, allows_underscores, recorder)
        };
        Ok(Forwarded::Response(response.map(body)))
    }

    fn failed(&self, upstream: &Upstream, failure: Failure) -> ProxyError {
        let held_back = self.0.recorder.failed(&upstream.backend, &failure);
        ProxyError::new(&upstream.address, failure, held_back)
    }
}

fn peer(connection: &ConnectionState) -> Peer<'_> {
    Peer {
        address: connection.client_text(),
        is_trusted: connection.is_trusted_proxy(),
        is_tls: connection.is_tls(),
    }
}

/// Sets the forwarded fields of a request, for the fuzz targets.
#[cfg(fuzzing)]
pub fn set_forwarded(headers: &mut HeaderMap, address: std::net::IpAddr, is_trusted: bool) {
    let address = &address.to_string();
    forwarded::set_forwarded(headers, Peer { address, is_trusted, is_tls: true });
    headers::join_cookies(headers);
}
