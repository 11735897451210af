//! The admin listener: metrics, health checks and the status page. Does not know streams.
//!
//! | path | response |
//! |---|---|
//! | `/metrics` | all metrics, for Prometheus |
//! | `/livez` | 200 |
//! | `/readyz` | 200 while Redis is connected, file descriptors are available, what the fleet follows is followed and the gateway is not draining, else 503; `?verbose` lists the checks and warnings; `?exclude=redis` excludes a check |
//! | `/revoke` | `POST`: ends streams, and refuses credentials |
//! | `/reload` | `POST`: reads gateway.yaml again, if it listens on loopback or with `admin.auth` |
//! | `/publish/{channel}` | publishes what is sent with POST, if it listens on loopback |
//! | `/log` | the level of the log and the mode of the access log; `PUT` changes them, if it listens on loopback |
//! | `/` | the status page: live for a browser, and plain for what does not say that it accepts HTML |
//! | `/plain` | the plain status page |
//! | `/status/events`, `/status/follow` | what is live in it: [`live`] |
//! | `/page/…` | what the page is made of |
//!
//! With `admin.auth`, `/metrics`, the status page and what `?verbose` adds need a credential; `/livez` and
//! `/readyz` do not, so that probes work.
//!
//! It listens on loopback by default. Pages in an operator's browser cannot use it: a cross-origin
//! `Origin` is rejected, and so is a `Host` that is neither localhost, nor an IP address, nor in
//! `admin.hosts`, which stops DNS rebinding.

mod assets;
mod auth;
mod body;
mod connection;
mod live;
mod log;
mod publish;
mod readiness;
mod reload;
mod reserved_descriptors;
mod revoke;
mod status;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::assets::Asset;
pub use self::auth::{AdminAuth, AdminPrivacy};
use self::connection::AdminServer;
pub use self::live::StatusSetup;
pub use self::log::AdminLog;
pub use self::reload::{ReloadReply, ReloadRequest, Reloading};
pub use self::reserved_descriptors::RESERVED_DESCRIPTORS;
use self::reserved_descriptors::ReservedDescriptors;
pub use self::revoke::Revoking;
use crate::auth::{AuthRequest, AuthSettings, origin};
use crate::health::Health;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::server::descriptors::is_out_of_descriptors;
use crate::service::AdminPublishing;

/// The maximum number of connections; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 64;
/// The pause after a failed accept, such as without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The settings of the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Host names allowed in `Host`, beside localhost and IP addresses.
    pub hosts: Vec<String>,
    /// Who may read the metrics and the status page; `None`: everybody. A reload can change it.
    pub auth: Option<Arc<AuthSettings>>,
    /// Whether the status page offers to publish, as `ssegate dev` does.
    pub page_publishes: bool,
}

impl AdminSettings {
    /// Whether both differ only in what a reload can change.
    pub fn is_same_listener(&self, other: &Self) -> bool {
        (&self.address, &self.hosts) == (&other.address, &other.hosts)
    }
}

/// The admin listener, with what it shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Host names allowed in `Host`.
    pub hosts: Vec<String>,
    /// The state behind `/readyz`.
    pub health: Health,
    /// The metrics behind `/metrics`.
    pub metrics: Metrics,
    /// The URLs of the listeners, for the status page.
    pub urls: Vec<String>,
    /// What `/revoke` needs; `None`: nothing can be revoked.
    pub revoking: Option<Revoking>,
    /// Who may read the metrics and the status page.
    pub auth: AdminAuth,
    /// What `/publish` needs; `None`: not here.
    pub publishing: Option<AdminPublishing>,
    /// Shows and changes the log; `None`: not here.
    pub log: Option<AdminLog>,
    /// Reloads the configuration; `None`: there is no file of one.
    pub reloading: Option<Reloading>,
    /// What else the status page shows.
    pub status: StatusSetup,
}

impl Admin {
    /// Accepts and serves connections until `stop`. The gateway runs it on a thread of its own.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let server = Rc::new(AdminServer::new(self));
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let failures = LogLimit::new();
        let listener = Rc::new(listener);
        let reserved = Rc::new(RefCell::new(ReservedDescriptors::default()));
        reserved.borrow_mut().refill(&*listener);
        loop {
            // Before accepting, so that connections over the limit wait in the kernel's backlog.
            let permit = tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => permit,
                () = stop.cancelled() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (server, reserved) = (Rc::clone(&server), Rc::clone(&reserved));
                    let listener = Rc::clone(&listener);
                    // Detached: it ends after a minute at the latest, or with its live stream.
                    drop(tokio::task::spawn_local(async move {
                        server.serve_connection(stream).await;
                        // At once: the descriptor that was just closed is the one to reserve again.
                        reserved.borrow_mut().refill(&*listener);
                        drop(permit);
                    }));
                }
                // Closing a reserved descriptor makes room: the next accept succeeds.
                Err(error)
                    if is_out_of_descriptors(&error) && reserved.borrow_mut().close_one() => {}
                Err(error) => {
                    if let Some(held_back) = failures.pass("accept", Instant::now()) {
                        tracing::warn!(%error, held_back, "cannot accept on the admin listener");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Admin {
    async fn handle(&self, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let is_publication = path.starts_with(publish::PATH);
        let is_other_change = matches!(path, "/revoke" | "/reload");
        let log = self.log.as_ref().filter(|_| path == "/log");
        if !(is_publication || is_other_change || log.is_some())
            || !self.is_allowed(request.headers())
        {
            return self.respond(&request).await;
        }
        if origin::is_foreign_site(AuthRequest::new(&request)) {
            return foreign();
        }
        if let Err(refused) = self.admitted(&request).await {
            return refused;
        }
        let is_private = self.status.privacy.holds();
        match (log, request.uri().path()) {
            (Some(log), _) => log.respond(is_private, request).await,
            (None, "/revoke") => revoke::respond(self.revoking.as_ref(), request).await,
            (None, "/reload") => {
                reload::respond(self.reloading.as_ref(), is_private, request).await
            }
            (None, _) => {
                let publishing = self.publishing.as_ref().filter(|_| is_private);
                publish::respond(publishing, request).await
            }
        }
    }

    /// Verifies the credential. Returns when the credential expires.
    async fn admitted<B>(
        &self,
        request: &Request<B>,
    ) -> Result<Option<SystemTime>, Response<Full<Bytes>>> {
        self.auth.admit(AuthRequest::new(request), &self.metrics).await
    }

    /// The response that refuses a request to a read-only path: its `Host` or `Origin` is not allowed, or its method
    /// is not GET or HEAD.
    fn refusal<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        if !self.is_allowed(request.headers()) {
            return Some(text(
                StatusCode::FORBIDDEN,
                "403 Forbidden: Host or Origin not allowed; add the host to admin.hosts in \
                 gateway.yaml\n",
            ));
        }
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            const ERROR: &str = "405 Method Not Allowed: use GET or HEAD\n";
            return Some(text(StatusCode::METHOD_NOT_ALLOWED, ERROR));
        }
        None
    }

    async fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if let Some(refused) = self.refusal(request) {
            return refused;
        }
        let query = request.uri().query().unwrap_or_default();
        let admitted = || self.admitted(request);
        let path = request.uri().path();
        match path {
            "/metrics" => admitted().await.map_or_else(|refused| refused, |_| self.metrics()),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let may_be_verbose = readiness::is_verbose(query) && admitted().await.is_ok();
                readiness::respond(&self.health, query, may_be_verbose)
            }
            "/" | "/plain" => {
                let page = |_| match accepts_html(request.headers()) {
                    true if path == "/" => assets::PAGE.respond(request.headers()),
                    _ => status::page(&self.health, &self.urls),
                };
                admitted().await.map_or_else(|refused| refused, page)
            }
            path => match Asset::at(path) {
                Some(asset) => asset.respond(request.headers()),
                None => not_found(),
            },
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.render() {
            Ok(metrics) => {
                with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics)
            }
            Err(error) => {
                tracing::error!(%error, "cannot render the metrics");
                const ERROR: &str = "500 Internal Server Error: see the log of the gateway\n";
                text(StatusCode::INTERNAL_SERVER_ERROR, ERROR)
            }
        }
    }

    /// Whether `Host` and `Origin` are allowed, so that the request does not come from a page of
    /// another origin in an operator's browser.
    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        // Exactly one (RFC 9112, section 3.2): a proxy before this may have looked at another one.
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let host = host.to_str().ok();
        let Some(host) = host.and_then(|host| host.parse::<Authority>().ok()) else {
            return false;
        };
        self.is_known_host(host.host())
            && headers.get(ORIGIN).is_none_or(|origin| {
                let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
                origin.is_some_and(|origin| origin.authority() == Some(&host))
            })
    }

    fn is_known_host(&self, host: &str) -> bool {
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        is_address
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// Whether the client is a browser: the live page needs scripts.
fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    accepted.flat_map(|accepted| accepted.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/html")
    })
}

fn foreign() -> Response<Full<Bytes>> {
    text(StatusCode::FORBIDDEN, "403 Forbidden: pages of other sites may not do this\n")
}

fn not_found() -> Response<Full<Bytes>> {
    text(
        StatusCode::NOT_FOUND,
        "404 Not Found: use /, /metrics, /livez, /readyz, /log, /reload or /publish/{channel}\n",
    )
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text)
}

fn with_type(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Admin, AdminAuth, AdminPrivacy, StatusSetup};
    use crate::health::Health;
    use crate::metrics::Metrics;
    use crate::service::StatusInspection;

    #[test]
    fn only_known_hosts_and_the_same_origin_are_allowed() {
        let admin = Admin {
            hosts: vec!["ssegate".into()],
            health: Health::default(),
            metrics: Metrics::new().expect("metrics"),
            urls: Vec::new(),
            revoking: None,
            auth: AdminAuth::default(),
            publishing: None,
            log: None,
            reloading: None,
            status: StatusSetup {
                inspection: StatusInspection::new(1).0,
                privacy: AdminPrivacy::new(true, AdminAuth::default()),
                publishes: false,
            },
        };
        for (host, origin, is_allowed) in [
            (Some("localhost:9464"), None, true),
            (Some("127.0.0.1"), None, true),
            (Some("[::1]:9464"), None, true),
            (Some("ssegate:9464"), None, true),
            (Some("evil.example"), None, false),
            (None, None, false),
            (Some("localhost:9464"), Some("http://localhost:9464"), true),
            (Some("localhost:9464"), Some("http://localhost:8080"), false),
            (Some("localhost:9464"), Some("https://evil.example"), false),
            (Some("localhost:9464"), Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("host", host), ("origin", origin)] {
                if let Some(value) = value {
                    headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
                }
            }
            assert_eq!(admin.is_allowed(&headers), is_allowed, "{host:?} {origin:?}");
            headers.append("host", HeaderValue::from_static("localhost:9464"));
            headers.append("host", HeaderValue::from_static("localhost:9464"));
            assert!(!admin.is_allowed(&headers), "it must be one");
        }
    }
}
