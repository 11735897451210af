//! Requests that go to a backend, and its responses on their way back.
//!
//! [`Proxy`] forwards the requests of one route. It rewrites each [`message`]: its [`headers`], and the
//! fields that say where the request comes from ([`forwarded`]); in the response, addresses that would
//! lead past the gateway ([`location`]). It sends the request to an [`upstream`], and tries several in
//! turn ([`balance`]).
//!
//! An upstream keeps its connections. Over HTTP/1.1 they are in a [`pool`], and a [`connection`] carries
//! one request at a time. Over HTTP/2 they are [`shared`]: a connection of [`http2`] carries many
//! requests during its [`lifetime`], and a request may have to wait for [`room`] on one. [`connect`]
//! opens their sockets; [`wire`] is a socket as hyper sees it. A request whose connection fails is
//! perhaps sent again ([`retry`]).
//!
//! Bodies stream both ways ([`upload`], [`body`]), with their [`trailers`], and are never collected; a
//! [`pause`] between two pieces is bounded. When a client leaves, the future or the body is dropped, and
//! with it the [`lease`] of the connection: the backend's request ends too.
//!
//! A request for an [`upgrade`] becomes a [`tunnel`].

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

/// Forwards the requests of one route, with kept connections for the shard that owns it: a cheap
/// handle.
#[derive(Clone, Debug)]
pub struct Proxy(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: ProxySettings,
    upstreams: Balance,
    facts: Facts,
}

/// What a request became.
#[derive(Debug)]
pub enum Forwarded {
    /// The backend's response.
    Response(Response<UpstreamBody>),
    /// The backend speaks another protocol with the client now.
    Tunnel(Response<TunnelBody>),
}

impl Proxy {
    /// A proxy without connections yet. `memory` lends what windows of responses over HTTP/2 grow by.
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
        // The shards do not all begin with the first one.
        let upstreams = Balance::new(upstreams, fastrand::usize(..));
        Self(Rc::new(Inner { settings: settings.clone(), upstreams, facts }))
    }

    /// The path of its route.
    pub fn route(&self) -> &str {
        self.0.facts.route()
    }

    /// What it was made of.
    pub fn settings(&self) -> &ProxySettings {
        &self.0.settings
    }

    /// An event stream of the backend's that was quiet for so long gets a comment.
    pub fn stream_keep_alive(&self) -> Option<Duration> {
        self.0.settings.stream_keep_alive
    }

    /// A header that a backend could take for another, and that this route does not let pass.
    pub fn refused_name<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderName> {
        if self.0.settings.allows_underscores { None } else { headers::ambiguous_name(headers) }
    }

    /// Sends the request on, and answers with the head of the response; its body streams. Where the
    /// client asks for another protocol and the backend switches to it, they are connected. `ours` are
    /// fields that the backend is told by us, in place of the client's.
    ///
    /// # Errors
    /// The backend cannot be reached, ends before it answers, or answers what cannot be passed on;
    /// or the client's own body fails.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        connection: &ConnectionState,
        ours: &[(HeaderName, HeaderValue)],
    ) -> Result<Forwarded, ProxyError> {
        let ours = Ours { sender: sender(connection), fields: ours };
        if let Some(upgrade) = Upgrade::asked(&mut request, self.0.settings.is_http2) {
            // Boxed: the requests that are none do not pay for its size.
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
        // Over HTTP/2 the body is what the client says in the tunnel; over HTTP/1.1 there is none.
        let client = matches!(upgrade, Upgrade::Http2(_)).then_some(body);
        let (upload, watch) = Upload::new(None, None, interim, settings);
        let mut request = Request::from_parts(head, upload);
        let asked = message::outgoing(&mut request, settings, ours, None).asked;
        upgrade.ask(&mut request);
        let (upstream, mut response, mut lease) = self.send(request, &watch, false).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Whether backend and we mean the same by what comes next on it, nobody knows.
            lease.keep_for(Duration::ZERO);
            if client.is_some() && response.status().is_success() {
                // To the client it would mean that the tunnel is open.
                return Err(self.failed(upstream, Failure::NoSwitch("it answers as to a GET")));
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
                connection.run_after_http(tunnel::carry(client, backend));
                TunnelBody::empty()
            }
            (Upgrade::Http2(_), client) => {
                TunnelBody::new(client.expect("kept for this above"), backend)
            }
        };
        Ok(Forwarded::Tunnel(response.map(|_| body)))
    }

    /// Sends a request to one upstream after the other, until one has taken it.
    async fn send(
        &self,
        mut request: Request<Upload>,
        watch: &Rc<Watch>,
        is_http2: bool,
    ) -> Result<(&Upstream, Response<Incoming>, Lease), ProxyError> {
        let mut upstreams = self.0.upstreams.turn().peekable();
        loop {
            let upstream = upstreams.next().expect("the last one ends this");
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
                            route, kind, %error, held_back, "a backend failed; another is tried"
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

/// Tells a backend where a request comes from, for the fuzz targets.
#[cfg(fuzzing)]
pub fn tell_where_from(headers: &mut HeaderMap, address: std::net::IpAddr, is_trusted: bool) {
    let address = &address.to_string();
    forwarded::tell(headers, Sender { address, is_trusted, is_tls: true });
    headers::join_cookies(headers);
}
