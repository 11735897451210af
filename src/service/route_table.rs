//! The routes of one shard, with its metrics and its connections to backends.
//!
//! Finds the route of a request, once it is sure that every party reads the request alike.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::{Method, Request};

use super::auth_backends::AuthBackends;
use super::proxy_handler::ProxyHandler;
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::route_auth::RouteAuth;
use super::screening;
use crate::auth::{Authenticator, SharedAuth};
use crate::health::Health;
use crate::metrics::{Metrics, RouteMetrics};
use crate::proxy::{self, Proxy};
use crate::route::{Matched, Parameters, ProxySettings, Route, Router, Target};
use crate::server::upload_memory::UploadMemory;

/// The routes, with this shard's metrics and backends for them.
pub(super) struct RouteTable {
    router: Arc<Router>,
    // In the order of the routes.
    metrics: Vec<Arc<RouteMetrics>>,
    // In the order of the routes; `None`: everybody may use it.
    auth: Vec<Option<RouteAuth>>,
    // By the indexes of their routes.
    backends: HashMap<usize, ProxyHandler>,
    // The indexes of the routes with `keep`.
    keeps: Vec<usize>,
}

impl RouteTable {
    /// The routes of `router`. Backends of `before` with the same settings are kept, with their
    /// connections.
    pub(super) fn new(
        router: Arc<Router>,
        before: Option<&Self>,
        (metrics, health): (&Metrics, &Health),
        memory: &UploadMemory,
        shared: &SharedAuth,
    ) -> Self {
        let mut kept: HashMap<&str, Vec<&Proxy>> = HashMap::new();
        let of_routes = before.iter().flat_map(|before| before.backends.values());
        let of_auth = before.iter().flat_map(|before| before.auth.iter().flatten());
        let of_auth = of_auth.flat_map(|auth| auth.backends.proxies());
        for proxy in of_routes.map(ProxyHandler::proxy).chain(of_auth) {
            proxy.set_retired(true);
            kept.entry(proxy.route()).or_default().push(proxy);
        }
        let kept = |settings: &ProxySettings, label: &str| {
            let mut proxies = kept.get(label).into_iter().flatten();
            let kept = proxies.find(|proxy| **proxy.settings() == *settings);
            kept.inspect(|proxy| proxy.set_retired(false)).map(|&proxy| proxy.clone())
        };
        let series = router.routes().iter().map(|route| metrics.route(&route.label));
        let series: Vec<Arc<RouteMetrics>> = series.collect();
        let backends = router
            .routes()
            .iter()
            .filter_map(|route| match &route.settings.target {
                Target::Proxy(settings) => {
                    let series = &series[route.index];
                    let (health, memory) = (health.clone(), memory.clone());
                    let new = || Proxy::new(route, settings, Arc::clone(series), health, memory);
                    let proxy = kept(settings, &route.label).unwrap_or_else(new);
                    let handler = ProxyHandler::new(proxy, route, router.reserved_headers());
                    Some((route.index, handler))
                }
                Target::Events(_) | Target::Publish(_) | Target::Demo => None,
            })
            .collect();
        let auth = router.routes().iter().map(|route| {
            let settings = Arc::clone(route.settings.auth.as_ref()?);
            let connect = |settings: &ProxySettings| {
                let series = &series[route.index];
                let (health, memory) = (health.clone(), memory.clone());
                let new = || Proxy::new(route, settings, Arc::clone(series), health, memory);
                kept(settings, &route.label).unwrap_or_else(new)
            };
            let backends = AuthBackends::new(&settings.methods(), &shared.verdicts, connect);
            Some(RouteAuth { authenticator: Authenticator::new(settings, shared), backends })
        });
        let auth = auth.collect();
        let keeps = router.routes().iter().filter(|route| route.settings.keep.is_some());
        let keeps = keeps.map(|route| route.index).collect();
        Self { router, metrics: series, auth, backends, keeps }
    }

    /// The metrics of a route, unless a reload has changed the routes since it was found.
    pub(super) fn metrics_of(&self, route: &Route) -> Option<&Arc<RouteMetrics>> {
        let metrics = self.metrics.get(route.index);
        metrics.filter(|metrics| metrics.label() == &*route.label)
    }

    /// The `auth` of a route that has one.
    pub(super) fn auth(&self, route: &Route) -> Option<&RouteAuth> {
        self.auth.get(route.index)?.as_ref()
    }

    /// The backend of a proxy route.
    pub(super) fn backend(&self, route: &Route) -> Option<&ProxyHandler> {
        self.backends.get(&route.index)
    }

    /// All routes.
    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    /// Whether a route keeps streams.
    pub(super) fn keeps(&self) -> bool {
        !self.keeps.is_empty()
    }

    /// The routes that keep streams.
    pub(super) fn kept_routes(&self) -> impl Iterator<Item = &Route> {
        self.keeps.iter().map(|&index| &*self.router.routes()[index])
    }

    /// The route with this [`scope`](Route::scope), if it keeps streams.
    pub(super) fn kept_route(&self, scope: &str) -> Option<&Route> {
        self.kept_routes().find(|route| &*route.scope == scope)
    }

    /// The host of a request that every party reads alike, without its port and in lower case.
    ///
    /// # Errors
    /// Two parties could read the request differently.
    pub(super) fn screen<'q, B>(
        request: &'q Request<B>,
        info: &RequestInfo,
    ) -> Result<Option<Cow<'q, str>>, Rejection> {
        let is_websocket = proxy::is_extended_connect(request);
        if info.method == Method::CONNECT && !is_websocket {
            // This is not a forward proxy.
            return Err(Rejection::Method(Vec::new()));
        }
        screening::tunnel(request)?;
        screening::scheme(request)?;
        let host = screening::host(request)?;
        screening::transfer_coding(request.headers())?;
        screening::length(request.headers())?;
        if !request.uri().path().starts_with('/') {
            return Err(Rejection::Path);
        }
        Ok(host)
    }

    /// Finds the route of a request.
    ///
    /// # Errors
    /// No route matches, or two parties could read the request differently.
    pub(super) fn find<B>(
        &self,
        request: &Request<B>,
        info: &RequestInfo,
    ) -> Result<(&Route, Parameters), Rejection> {
        let host = Self::screen(request, info)?;
        // Routes match an extended CONNECT (RFC 8441) as the GET that it is over HTTP/1.1.
        let is_websocket = proxy::is_extended_connect(request);
        let method = if is_websocket { &Method::GET } else { &info.method };
        let path = request.uri().path();
        match self.router.find(host.as_deref(), path, method, info.preflight.as_ref()) {
            Matched::Route(route, parameters) => Ok((route, parameters)),
            Matched::MethodNotAllowed(methods) => Err(Rejection::Method(methods)),
            Matched::Ambiguous => Err(Rejection::AmbiguousPath),
            Matched::NotFound => Err(Rejection::NotFound),
        }
    }
}
