//! The reverse proxy: forwards requests to the upstreams of a route, and their responses to the
//! client.
//!
//! Owns the connections to the upstreams, and the rewriting of messages. Does not know how a route
//! was matched, nor what happens to a response afterwards; event streams are the business of
//! `service`.
//!
//! [`Proxy`] forwards the requests of one route. [`message`] rewrites requests and responses:
//! hop-by-hop [`headers`], the [`forwarded`] fields, and the [`location`] fields that would lead
//! past the gateway. [`balance`] picks an [`upstream`].
//!
//! Over HTTP/1.1 an upstream keeps its connections in a [`pool`], and a [`connection`] carries one
//! request at a time. Over HTTP/2 connections are [`shared`]: one of [`http2`] multiplexes many
//! requests, up to its [`lifetime`], and a request may have to wait for [`room`] on one.
//! [`connect`] opens the sockets; [`wire`] is the socket that hyper gets. [`retry`] decides whether
//! a request whose connection failed is sent again.
//!
//! Bodies stream both ways ([`upload`], [`body`]) with their [`trailers`], and are never collected;
//! the [`pause`] between two frames is bounded. A client that leaves drops the future or the body,
//! and with it the [`lease`] of the connection, which cancels the request at the backend.
//!
//! An [`upgrade`] turns an exchange into a [`tunnel`].

mod balance;
mod body;
mod connect;
mod connection;
mod error;
mod expect;
mod facts;
mod forwarded;
mod headers;
mod http2;
mod incoming;
mod lease;
mod lifetime;
mod location;
mod message;
mod pause;
mod pool;
mod retry;
mod room;
mod shared;
mod trailers;
mod tunnel;
mod upgrade;
mod upload;
mod upstream;
mod websocket;
mod wire;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::time::timeout;

use self::balance::Balance;
pub use self::body::UpstreamBody;
use self::error::{Failure, Unanswered};
pub use self::error::{Fault, ProxyError};
use self::facts::Facts;
use self::forwarded::Sender;
use self::incoming::Incoming;
use self::lease::Lease;
use self::location::Asked;
use self::message::Ours;
use self::pause::Pause;
use self::tunnel::Backend;
pub use self::tunnel::TunnelBody;
use self::upgrade::Upgrade;
pub use self::upgrade::is_extended_connect;
use self::upload::{Upload, Watch};
use self::upstream::Upstream;
use crate::health::Health;
use crate::metrics::RouteMetrics;
use crate::route::{ProxySettings, Route};
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;
use crate::server::upload_memory::UploadMemory;

/// Forwards the requests of one route, over connections of the shard that owns it. A cheap handle.
#[derive(Clone, Debug)]
pub struct Proxy(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: ProxySettings,
    upstreams: Balance,
    facts: Facts,
}

/// The outcome of a forwarded request.
#[derive(Debug)]
pub enum Forwarded {
    /// The backend's response.
    Response(Response<UpstreamBody>),
    /// The backend has switched protocols; the body relays its bytes.
    Tunnel(Response<TunnelBody>),
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
        let facts = Facts::new(route, metrics, health, memory);
        let upstream = |address: &_| Upstream::new(Clone::clone(address), settings, facts.clone());
        let upstreams = settings.upstreams.iter().map(upstream).collect();
        // A random start per shard: otherwise all shards would send their first request to the same
        // one.
        let upstreams = Balance::new(upstreams, fastrand::usize(..));
        Self(Rc::new(Inner { settings: settings.clone(), upstreams, facts }))
    }

    /// The path of the route.
    pub fn route(&self) -> &str {
        self.0.facts.route()
    }

    /// The settings of the route.
    pub fn settings(&self) -> &ProxySettings {
        &self.0.settings
    }

    /// The interval of keep-alive comments on a backend's idle event streams; `None`: no comments.
    pub fn stream_keep_alive(&self) -> Option<Duration> {
        self.0.settings.stream_keep_alive
    }

    /// The first header name with an underscore, unless the route allows these
    /// (`underscores_in_headers`).
    pub fn refused_name<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderName> {
        if self.0.settings.allows_underscores { None } else { headers::ambiguous_name(headers) }
    }

    /// Forwards a request and returns the head of the response; its body streams. If the client
    /// requests a protocol upgrade and the backend switches, returns a tunnel between the two.
    /// `ours` are header fields of the gateway's own; they replace the client's.
    ///
    /// # Errors
    /// The backend cannot be reached, closes the connection before it responds, or sends a response
    /// that cannot be forwarded; or the request body fails.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        connection: &ConnectionState,
        ours: &[(HeaderName, HeaderValue)],
    ) -> Result<Forwarded, ProxyError> {
        let ours = Ours { sender: sender(connection), fields: ours };
        if let Some(upgrade) = Upgrade::asked(&mut request, self.0.settings.is_http2) {
            // Boxed: keeps the future of ordinary requests small.
            return Box::pin(self.upgrade(request, upgrade, connection, ours)).await;
        }
        let settings = &self.0.settings;
        let announced = request.body().size_hint().lower();
        if settings.max_body.is_some_and(|most| announced > most) {
            return Err(self.failed(self.0.upstreams.any(), Failure::LargeRequest));
        }
        let scheme = settings.is_http2.then(|| match settings.upstreams[0].is_tls() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        });
        let outgoing = message::outgoing(&mut request, settings, ours, scheme);
        let (head, body) = request.into_parts();
        let interim = body.interim().clone();
        let (upload, watch) = Upload::new(Some(body), outgoing.hold, interim, settings);
        let request = Request::from_parts(head, upload);
        let (upstream, response, lease) = self.send(request, &watch, settings.is_http2).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed(upstream, Failure::UnaskedSwitch));
        }
        self.respond(upstream, response, lease, outgoing.asked)
    }

    async fn upgrade(
        &self,
        request: Request<RequestBody>,
        upgrade: Upgrade,
        connection: &ConnectionState,
        ours: Ours<'_>,
    ) -> Result<Forwarded, ProxyError> {
        let settings = &self.0.settings;
        let (head, body) = request.into_parts();
        let interim = body.interim().clone();
        // Over HTTP/2 the request body carries the client's side of the tunnel; over HTTP/1.1 it is
        // empty.
        let client = matches!(upgrade, Upgrade::Http2(_)).then_some(body);
        let (upload, watch) = Upload::new(None, None, interim, settings);
        let mut request = Request::from_parts(head, upload);
        let asked = message::outgoing(&mut request, settings, ours, None).asked;
        upgrade.ask(&mut request);
        let (upstream, mut response, mut lease) = self.send(request, &watch, false).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // The backend may yet treat what follows as the other protocol: do not reuse the
            // connection.
            lease.keep_for(Duration::ZERO);
            if client.is_some() && response.status().is_success() {
                // A 2xx response to an extended CONNECT opens the tunnel (RFC 8441, section 5).
                return Err(self.failed(upstream, Failure::NoSwitch("it responded as to a GET")));
            }
            return self.respond(upstream, response, lease, asked);
        }
        upgrade.agree(&mut response).map_err(|failure| self.failed(upstream, failure))?;
        let switched = timeout(settings.response_timeout, hyper::upgrade::on(&mut response)).await;
        let upgraded = match switched {
            Ok(Ok(upgraded)) => upgraded,
            Ok(Err(error)) => return Err(self.failed(upstream, Failure::exchange(&error))),
            Err(_elapsed) => return Err(self.failed(upstream, Failure::ResponseTimeout)),
        };
        let tunnel = self.0.facts.tunnel();
        let backend = Backend { upgraded, place: lease.into_place(), tunnel };
        let body = match (upgrade, client) {
            (Upgrade::Http1 { client, .. }, _) => {
                connection.go_on_with(tunnel::carry(client, backend));
                TunnelBody::empty()
            }
            (Upgrade::Http2(_), client) => {
                TunnelBody::new(client.expect("kept for this above"), backend)
            }
        };
        Ok(Forwarded::Tunnel(response.map(|_| body)))
    }

    /// Sends a request to one upstream after the other until one responds. Tries the next one only
    /// if nothing of the request was processed.
    async fn send(
        &self,
        mut request: Request<Upload>,
        watch: &Rc<Watch>,
        is_http2: bool,
    ) -> Result<(&Upstream, Response<Incoming>, Lease), ProxyError> {
        let mut upstreams = self.0.upstreams.turn().peekable();
        loop {
            let upstream = upstreams.next().expect("returns with the last upstream");
            let Unanswered { mut failure, unsent } =
                match upstream.send(request, watch, is_http2).await {
                    Ok((response, lease)) => return Ok((upstream, response, lease)),
                    Err(unanswered) => unanswered,
                };
            if self.0.settings.is_http2 && !is_http2 {
                failure = failure.of_websocket();
            }
            if failure.is_of_the_upstream() {
                upstream.failed(self.0.settings.fail_timeout);
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
        mut response: Response<Incoming>,
        mut lease: Lease,
        asked: Option<Asked>,
    ) -> Result<Forwarded, ProxyError> {
        if http2::header_list_size(response.headers()) > self.0.settings.max_response_header {
            return Err(self.failed(upstream, Failure::LargeResponse));
        }
        let kept = message::incoming(&mut response);
        if let Some(keep_alive) = kept.map_err(|failure| self.failed(upstream, failure))? {
            lease.keep_for(keep_alive);
        }
        if let Some(asked) = asked {
            asked.rewrite(response.headers_mut(), &upstream.address);
        }
        let pause = Pause::new(self.0.settings.idle_timeout);
        let facts = (self.0.facts.clone(), Arc::clone(&upstream.backend));
        let allows_underscores = self.0.settings.allows_underscores;
        let body = |incoming| UpstreamBody::new(incoming, pause, lease, allows_underscores, facts);
        Ok(Forwarded::Response(response.map(body)))
    }

    fn failed(&self, upstream: &Upstream, failure: Failure) -> ProxyError {
        let held_back = self.0.facts.failed(&upstream.backend, &failure);
        ProxyError::new(&upstream.address, failure, held_back)
    }
}

fn sender(connection: &ConnectionState) -> Sender<'_> {
    Sender {
        address: connection.client_text(),
        is_trusted: connection.is_trusted_proxy(),
        is_tls: connection.is_tls(),
    }
}

/// Sets the forwarded fields of a request, for the fuzz targets.
#[cfg(fuzzing)]
pub fn tell_where_from(headers: &mut HeaderMap, address: std::net::IpAddr, is_trusted: bool) {
    let address = &address.to_string();
    forwarded::tell(headers, Sender { address, is_trusted, is_tls: true });
    headers::join_cookies(headers);
}
