//! Finds the route of a request, by host, path and method.
//!
//! A route with a host takes precedence over one without. Among the paths of one host the most specific
//! one wins, whatever their order in the file.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use ssegate_auth::TokenPlace;
use ssegate_hub::{ChannelName, FollowedPattern, RetentionRules};

use super::channels::Channels;
use super::followers::{ChannelFollower, follower_of};
use super::parameters::{Parameters, parameter_names};
use super::path_readings;
use super::reserved_headers::ReservedHeaders;
use super::servers::ServerPlace;
use super::settings::{RouteSettings, Target};
use super::{Route, STREAM_METHODS};
use crate::auth::MethodSettings;
use crate::log::SecretParameters;

/// All routes.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Arc<Route>>,
    by_host: HashMap<String, Paths>,
    any_host: Paths,
    reserved: ReservedHeaders,
    secrets: SecretParameters,
    // Whether routes differ in who may use them.
    has_private_routes: bool,
    // Whether any route has `presence`.
    has_presence: bool,
}

/// The suffix of a stream's path at which a request reads the members of its channels.
const PRESENCE: &str = "/presence";

/// The paths of one host, each with the indices of its routes.
type Paths = matchit::Router<Vec<usize>>;

/// The result of routing a request.
#[derive(Debug)]
pub enum Matched<'r> {
    /// The route, with the parameters of its path.
    Route(&'r Route, Parameters),
    /// The backend can read the path as one that is not for this request: see [`Router::find`].
    Ambiguous,
    /// The path has routes, but only for these methods.
    MethodNotAllowed(Vec<Method>),
    /// No route matches.
    NotFound,
}

/// A path that conflicts with another, or is invalid.
#[derive(Debug, thiserror::Error)]
#[error("the path {path} cannot be routed: {cause}")]
pub struct RouterError {
    path: String,
    cause: matchit::InsertError,
}

impl Router {
    /// Builds the routing table. A route that is unchanged since `before`, at the same index, is reused with
    /// its counters.
    ///
    /// # Errors
    /// `matchit` rejects a path. The configuration does not let such a path through.
    pub fn new(
        settings: &[Arc<RouteSettings>],
        before: Option<&Self>,
    ) -> Result<Self, RouterError> {
        let before = before.map(|before| &*before.routes).unwrap_or_default();
        let route = |(index, settings): (usize, &Arc<RouteSettings>)| {
            let kept = before.get(index).filter(|route| route.settings == *settings);
            let new = || Arc::new(Route::new(index, Arc::clone(settings)));
            kept.map_or_else(new, Arc::clone)
        };
        let routes: Vec<Arc<Route>> = settings.iter().enumerate().map(route).collect();
        let mut indices_by_path: HashMap<(Option<&str>, String), Vec<usize>> = HashMap::new();
        for route in &routes {
            for shape in shapes(&route.settings.path) {
                let host = route.settings.host.as_deref();
                indices_by_path.entry((host, shape)).or_default().push(route.index);
            }
        }
        let (mut by_host, mut any_host) = (HashMap::new(), Paths::new());
        for ((host, shape), mut indices) in indices_by_path {
            // The exact path `/files/` takes precedence over `/files/{*rest}`, which matches it too.
            indices.sort_by_key(|&index| routes[index].has_catch_all());
            let paths = match host {
                Some(host) => by_host.entry(host.to_owned()).or_insert_with(Paths::new),
                None => &mut any_host,
            };
            paths
                .insert(shape.clone(), indices)
                .map_err(|cause| RouterError { path: shape, cause })?;
        }
        let reserved = ReservedHeaders::of(routes.iter().map(|route| &*route.settings));
        let auth = |route: &Arc<Route>| route.settings.auth.clone();
        let has_private_routes = routes.windows(2).any(|two| auth(&two[0]) != auth(&two[1]));
        let secrets = routes.iter().flat_map(|route| query_tokens(&route.settings));
        let secrets = SecretParameters::new(secrets);
        let has_presence = routes.iter().any(|route| route.presence.is_some());
        Ok(Self { routes, by_host, any_host, reserved, secrets, has_private_routes, has_presence })
    }

    /// Finds the route of a request. `host` is without port and in lower case. `preflight` is the method
    /// in `Access-Control-Request-Method` of a CORS preflight.
    ///
    /// A backend may read the path as another ([`path_readings`]). If no route has that path, or a route that asks for
    /// another credential has it, the match is [`Matched::Ambiguous`]: a public route must not lead to what is private
    /// or not routed.
    pub fn find(
        &self,
        host: Option<&str>,
        path: &str,
        method: &Method,
        preflight: Option<&Method>,
    ) -> Matched<'_> {
        let find = |path: &str| self.find_as_written(host, path, method, preflight);
        match self.find_as_written(host, path, method, preflight) {
            Matched::Route(route, _) if !self.is_safe(route, path, find) => Matched::Ambiguous,
            matched => matched,
        }
    }

    /// Whether a request for this path may be for presence.
    pub fn may_ask_presence(&self, path: &str) -> bool {
        self.has_presence && path.ends_with(PRESENCE)
    }

    /// Finds the route of a request for presence: at the path of a stream with `/presence` behind it. Returns the path
    /// of the stream, too. `None` if the request is not one for presence, if a route has that path itself, or if its
    /// method is neither GET nor HEAD and a route matches it.
    pub fn find_presence<'p>(
        &self,
        host: Option<&str>,
        path: &'p str,
        method: &Method,
        preflight: Option<&Method>,
    ) -> Option<(&Route, Parameters, &'p str)> {
        let stream = path.strip_suffix(PRESENCE)?;
        let is_other = preflight.is_none() && !STREAM_METHODS.contains(method);
        if is_other
            && matches!(
                self.find(host, path, method, None),
                Matched::Route(..) | Matched::Ambiguous
            )
        {
            return None;
        }
        let find = |path| match self.find_as_written(host, path, &Method::GET, preflight) {
            Matched::Route(route, parameters) => Some((route, parameters)),
            _ => None,
        };
        if find(path).is_some_and(|(route, _)| route.settings.path.ends_with(PRESENCE)) {
            return None;
        }
        // The path of a route may end in a slash.
        let with_slash = &path[..=stream.len()];
        [stream, with_slash].into_iter().filter(|path| !path.is_empty()).find_map(|path| {
            let (route, parameters) = find(path)?;
            let is_meant = path == stream || route.settings.path.ends_with('/');
            (is_meant && route.presence.is_some()).then_some((route, parameters, path))
        })
    }

    /// Whether every path as which a backend may read `path` is open to those who may use `route`.
    fn is_safe<'r>(
        &'r self,
        route: &Route,
        path: &str,
        find: impl Fn(&str) -> Matched<'r>,
    ) -> bool {
        if !matches!(route.settings.target, Target::Proxy(_)) {
            return true;
        }
        let is_as_good = |reading: &str| match find(reading) {
            Matched::Route(other, _) => other.is_open_to_users_of(route),
            _ => false,
        };
        // Most frameworks ignore a slash at the end: `/admin` is not public because the route is
        // `/admin/{*rest}`. Where it has a route of its own, that is meant.
        let is_as_good_with_other_end = |reading: &str| {
            if !self.has_private_routes || !route.has_catch_all() {
                return true;
            }
            let shorter = reading.strip_suffix('/').map(str::to_owned);
            match find(&shorter.unwrap_or_else(|| format!("{reading}/"))) {
                Matched::Route(other, _) if other.is_more_specific_than(route) => {
                    other.is_open_to_users_of(route)
                }
                _ => true,
            }
        };
        let Ok(readings) = path_readings::readings(path) else { return false };
        readings.iter().all(|reading| is_as_good(reading) && is_as_good_with_other_end(reading))
            && is_as_good_with_other_end(path)
    }

    fn find_as_written(
        &self,
        host: Option<&str>,
        path: &str,
        method: &Method,
        preflight: Option<&Method>,
    ) -> Matched<'_> {
        let of_host = host.and_then(|host| self.by_host.get(host));
        let matched = of_host.and_then(|paths| paths.at(path).ok());
        let Some(matched) = matched.or_else(|| self.any_host.at(path).ok()) else {
            return Matched::NotFound;
        };
        let candidates = matched.value.iter().map(|&index| &self.routes[index]);
        match candidates.clone().find(|route| route.accepts(method, preflight)) {
            Some(route) => {
                let values = matched.params.iter().map(|(_, value)| value);
                Matched::Route(route, Parameters::decode(&route.parameters, values))
            }
            None => {
                let methods = candidates.flat_map(|route| route.methods());
                Matched::MethodNotAllowed(methods.cloned().collect())
            }
        }
    }

    /// Returns the retention of all channels of the routes that may be at this server.
    pub fn retention(&self, place: &ServerPlace) -> RetentionRules {
        let channels = self.routes.iter().flat_map(|route| {
            let handover = route.handover.as_ref().map(|handover| &handover.channels);
            route.channels.iter().chain(handover)
        });
        let here = channels.filter(|channels| place.may_have(channels.server()));
        RetentionRules::new(here.flat_map(Channels::retention))
    }

    /// Returns the patterns that are followed at this server from the start, before any stream asks for them.
    pub fn followed(&self, place: &ServerPlace) -> Vec<FollowedPattern> {
        let mut followed = Vec::new();
        let channels = self.routes.iter().filter_map(|route| route.channels.as_ref());
        let here = channels.filter(|channels| place.may_have(channels.server()));
        for pattern in here.flat_map(Channels::followed) {
            if !followed.contains(&pattern) {
                followed.push(pattern);
            }
        }
        followed
    }

    /// Whether any route reads sharded channels at this server that are not recorded: only those have ids of the fleet.
    pub fn has_sharded(&self, place: &ServerPlace) -> bool {
        let channels = self.routes.iter().filter_map(|route| route.channels.as_ref());
        let mut here = channels.filter(|channels| place.may_have(channels.server()));
        here.any(Channels::are_in_order_of_node)
    }

    /// Returns the patterns whose channels are recorded at this server from the start, each once.
    pub fn recorded_patterns(&self, place: &ServerPlace) -> Vec<ChannelName> {
        let channels = self.routes.iter().filter_map(|route| route.channels.as_ref());
        let here = channels.filter(|channels| place.may_have(channels.server()));
        let mut patterns: Vec<ChannelName> =
            here.flat_map(Channels::recorded_patterns).cloned().collect();
        let mut known = std::collections::HashSet::new();
        patterns.retain(|pattern| known.insert(pattern.clone()));
        patterns
    }

    /// The header fields that only the gateway may send to backends.
    pub fn reserved_headers(&self) -> &ReservedHeaders {
        &self.reserved
    }

    /// The query parameters that carry a credential on some route.
    pub fn secret_parameters(&self) -> &SecretParameters {
        &self.secrets
    }

    /// Returns the route that says how a channel is read; see [`follower_of`].
    pub fn follower(&self, host: Option<&str>, name: &str) -> Option<ChannelFollower<'_>> {
        follower_of(self.routes.iter().map(|route| &*route.settings), host, name)
    }

    /// The routes, in the order of the configuration.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

/// The query parameters in which a request to the route may carry a token.
fn query_tokens(settings: &RouteSettings) -> Vec<String> {
    let methods = settings.auth.iter().flat_map(|auth| auth.methods());
    let places = methods.flat_map(MethodSettings::places);
    let name = |place: &TokenPlace| match place {
        TokenPlace::Query(name) => Some(name.clone()),
        TokenPlace::Bearer | TokenPlace::Cookie(_) => None,
    };
    places.filter_map(name).collect()
}

/// Returns the path for `matchit`, with parameters numbered, so that two routes may name the same segment
/// differently. A path with a catch-all has a second one, since `/{*rest}` also matches `/`.
fn shapes(path: &str) -> Vec<String> {
    let mut shape = path.to_owned();
    for (number, name) in parameter_names(path).iter().enumerate() {
        for (from, to) in [
            (format!("{{*{name}}}"), format!("{{*p{number}}}")),
            (format!("{{{name}}}"), format!("{{p{number}}}")),
        ] {
            shape = shape.replacen(&from, &to, 1);
        }
    }
    match shape.rfind("{*p") {
        Some(catch_all) => vec![shape[..catch_all].to_owned(), shape],
        None => vec![shape],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use ssegate_format::Format;
    use ssegate_hub::StreamSettings;

    use super::{Matched, Router};
    use crate::auth::{AuthSettings, Requirement};
    use crate::route::{
        CorsSettings, EventsSettings, PresenceSettings, ProxySettings, RouteSettings, Target,
    };

    fn router(settings: Vec<RouteSettings>, before: Option<&Router>) -> Router {
        let settings: Vec<_> = settings.into_iter().map(Arc::new).collect();
        Router::new(&settings, before).expect("routes")
    }

    #[test]
    fn an_unchanged_route_keeps_its_counters() {
        let before = router(vec![route("/a", None, &[]), route("/b", None, &[])], None);
        let after =
            router(vec![route("/a", None, &[]), route("/b", None, &[Method::GET])], Some(&before));
        let is_kept = |index: usize| Arc::ptr_eq(&before.routes()[index], &after.routes()[index]);
        assert_eq!((is_kept(0), is_kept(1)), (true, false));
        let moved = router(vec![route("/b", None, &[]), route("/a", None, &[])], Some(&before));
        assert!(moved.routes().iter().enumerate().all(|(index, route)| route.index == index));
    }

    fn route(path: &str, host: Option<&str>, methods: &[Method]) -> RouteSettings {
        RouteSettings {
            path: path.into(),
            host: host.map(Into::into),
            methods: methods.to_vec(),
            target: Target::Proxy(ProxySettings::new(Vec::new())),
            auth: None,
            cors: CorsSettings::default(),
            handover: None,
            keep: None,
            share: None,
            presence: None,
        }
    }

    fn events(path: &str, methods: &[Method]) -> RouteSettings {
        let settings = EventsSettings {
            channels: vec!["news".into()],
            format: Format::Raw,
            source: crate::route::EventsSource::PubSub,
            server: crate::route::ServerChoice::First,
            history: None,
            strip_prefix: String::new(),
            sharded: false,
            patterns: false,
            follow: Vec::new(),
            max_channels: 1,
            claim: None,
            stream: StreamSettings::default(),
            ready: crate::route::Ready::Auto,
        };
        RouteSettings { target: Target::Events(settings), ..route(path, None, methods) }
    }

    /// The index of the matching route, or the allowed methods.
    fn find(
        router: &Router,
        path: &str,
        method: &Method,
        requested: Option<&Method>,
    ) -> FindResult {
        match router.find(None, path, method, requested) {
            Matched::Route(route, _) => Ok(route.index),
            Matched::MethodNotAllowed(methods) => Err(methods),
            Matched::Ambiguous | Matched::NotFound => panic!("no route matches {path}"),
        }
    }

    type FindResult = Result<usize, Vec<Method>>;

    #[test]
    fn only_who_reads_asks_who_listens() {
        let presence = Some(Arc::new(PresenceSettings::default()));
        let of = |path| RouteSettings { presence: presence.clone(), ..events(path, &[]) };
        let asked = |router: &Router, method: &Method, requested: Option<&Method>| {
            let found = router.find_presence(None, "/documents/7/presence", method, requested);
            found.map(|(route, ..)| route.index)
        };
        let beside = router(vec![of("/documents/{id}"), route("/{*path}", None, &[])], None);
        let alone = router(vec![of("/documents/{id}")], None);
        for (method, requested, is_beside, is_alone) in [
            (Method::GET, None, true, true),
            (Method::HEAD, None, true, true),
            (Method::OPTIONS, Some(Method::GET), true, true),
            (Method::OPTIONS, Some(Method::POST), false, false),
            // Where no other route takes it, the response names the methods.
            (Method::OPTIONS, None, false, true),
            (Method::POST, None, false, true),
            (Method::DELETE, None, false, true),
        ] {
            let found = [&beside, &alone].map(|router| asked(router, &method, requested.as_ref()));
            let expected = [is_beside, is_alone].map(|is_asked| is_asked.then_some(0));
            assert_eq!(found, expected, "{method} {requested:?}");
        }
    }

    #[test]
    fn an_exact_path_takes_precedence_over_a_catch_all_in_any_order() {
        let exact = || route("/files/", None, &[]);
        let rest = || route("/files/{*file}", None, &[]);
        for (routes, exact) in [(vec![rest(), exact()], 1), (vec![exact(), rest()], 0)] {
            let router = router(routes, None);
            assert_eq!(find(&router, "/files/", &Method::GET, None), Ok(exact));
            assert_eq!(find(&router, "/files/x", &Method::GET, None), Ok(1 - exact));
        }
    }

    #[test]
    fn a_path_that_a_backend_can_read_as_a_private_one_is_ambiguous() {
        let requirement = Requirement::All(Vec::new());
        let auth = Some(Arc::new(AuthSettings { requirement, max_streams: None }));
        let private = |path| RouteSettings { auth: auth.clone(), ..route(path, None, &[]) };
        let router = router(
            vec![
                private("/admin/{*rest}"),
                private("/files/exact"),
                route("/files/{*rest}", None, &[]),
                route("/{*rest}", None, &[]),
                events("/events/{channel}", &[]),
            ],
            None,
        );
        let find = |path| match router.find(None, path, &Method::GET, None) {
            Matched::Route(route, _) => Some(route.index),
            _ => None,
        };
        for (path, index) in [
            ("/admin/x", Some(0)),
            ("/admin/../files/x", Some(0)),
            ("/files/x/../y", Some(2)),
            ("/files/exac", Some(2)),
            ("/files/", Some(2)),
            ("/files", Some(3)),
            ("/x//y/%2e%2e/%61", Some(3)),
            ("/events/..%2fadmin%2fx", Some(4)),
            ("/files/../admin/x", None),
            ("/files/%2e%2e/admin/x", None),
            ("/%61dmin/x", None),
            ("//admin/x", None),
            ("/admin", None),
            ("/admin%2f", None),
            ("/files/exact/", None),
            ("/files/%65xact", None),
        ] {
            assert_eq!(find(path), index, "{path}");
        }
    }

    #[test]
    fn a_preflight_is_routed_by_its_requested_method() {
        let router = router(
            vec![
                events("/feed", &[]),
                route("/feed", None, &[Method::POST, Method::OPTIONS]),
                events("/alone", &[]),
                events("/get", &[Method::GET]),
            ],
            None,
        );
        let asks = |path, requested| find(&router, path, &Method::OPTIONS, Some(&requested));
        assert_eq!(asks("/feed", Method::GET), Ok(0));
        assert_eq!(asks("/feed", Method::POST), Ok(1));
        assert_eq!(asks("/alone", Method::POST), Err(vec![Method::GET, Method::HEAD]));
        assert_eq!(asks("/get", Method::GET), Ok(3));
        assert_eq!(asks("/get", Method::HEAD), Err(vec![Method::GET]));
    }

    #[test]
    fn the_most_specific_route_of_the_host_wins() {
        let router = router(
            vec![
                route("/{*rest}", None, &[]),
                route("/events", None, &[]),
                events("/events/{channel}", &[]),
                RouteSettings { host: Some("a.example".into()), ..events("/events/{name}", &[]) },
                route("/api", None, &[Method::GET]),
                route("/api", None, &[Method::POST]),
                route("/files/{*file}", None, &[]),
            ],
            None,
        );
        let find = |host, path, method| match router.find(host, path, &method, None) {
            Matched::Route(route, parameters) => (route.index, parameters.into_pairs()),
            Matched::MethodNotAllowed(methods) => (100 + methods.len(), Vec::new()),
            Matched::Ambiguous | Matched::NotFound => (200, Vec::new()),
        };
        let pair = |name: &str, value: &str| vec![(name.to_owned(), Some(value.to_owned()))];
        assert_eq!(find(None, "/", Method::GET), (0, vec![]));
        assert_eq!(find(None, "/x/y", Method::GET), (0, vec![]), "a proxy route has no parameters");
        assert_eq!(find(None, "/events", Method::GET), (1, vec![]));
        assert_eq!(find(None, "/events/a%2Fb%25", Method::GET), (2, pair("channel", "a/b%")));
        assert_eq!(find(Some("a.example"), "/events/x", Method::GET), (3, pair("name", "x")));
        assert_eq!(find(Some("a.example"), "/events", Method::GET), (1, vec![]));
        assert_eq!(find(Some("b.example"), "/events/x", Method::GET), (2, pair("channel", "x")));
        assert_eq!(find(None, "/api", Method::POST).0, 5);
        assert_eq!(find(None, "/api", Method::PUT).0, 102);
        assert_eq!(find(None, "/files/", Method::GET).0, 6);
    }
}
