//! Which route a request takes: by host, path and method.
//!
//! A route with a host goes before one without. Among the paths of one host the more specific one
//! wins, whatever the order in the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;

use super::template::NotText;
use super::{Channels, Route, RouteSettings};
use crate::hub::RetentionRules;

/// All routes.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Arc<Route>>,
    by_host: HashMap<String, Paths>,
    any_host: Paths,
}

/// Paths of one host, each with the routes that stand under it.
type Paths = matchit::Router<Vec<usize>>;

/// Where a request leads.
#[derive(Debug)]
pub enum Matched<'r> {
    /// To this route.
    Route(&'r Route, Parameters),
    /// To a path that knows only these methods.
    MethodNotAllowed(Vec<Method>),
    /// Nowhere.
    NotFound,
}

/// The parameters of a path, percent-decoded once. What is no UTF-8 has no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, Option<String>)>);

/// Why routes cannot stand together.
#[derive(Debug, thiserror::Error)]
#[error("the path {path} cannot be routed: {cause}")]
pub struct RouterError {
    path: String,
    cause: matchit::InsertError,
}

impl Router {
    /// Puts the routes in order. One that is the same in the same place as `before` is kept, and with it
    /// what it counts.
    ///
    /// # Errors
    /// A path is no pattern of matchit's; the configuration has refused such a one already.
    pub fn new(
        settings: &[Arc<RouteSettings>],
        before: Option<&Self>,
    ) -> Result<Self, RouterError> {
        let before = before.map(|before| &*before.routes).unwrap_or_default();
        let route = |(place, settings): (usize, &Arc<RouteSettings>)| {
            let kept = before.get(place).filter(|route| route.settings == *settings);
            let new = || Arc::new(Route::new(place, Arc::clone(settings)));
            kept.map_or_else(new, Arc::clone)
        };
        let routes: Vec<Arc<Route>> = settings.iter().enumerate().map(route).collect();
        let mut places: HashMap<(Option<&str>, String), Vec<usize>> = HashMap::new();
        for route in &routes {
            for shape in shapes(&route.settings.path) {
                let host = route.settings.host.as_deref();
                places.entry((host, shape)).or_default().push(route.place);
            }
        }
        let (mut by_host, mut any_host) = (HashMap::new(), Paths::new());
        for ((host, shape), mut indices) in places {
            // `/files/` itself goes before what `/files/{*rest}` also matches.
            indices.sort_by_key(|&index| routes[index].has_catch_all());
            let paths = match host {
                Some(host) => by_host.entry(host.to_owned()).or_insert_with(Paths::new),
                None => &mut any_host,
            };
            paths
                .insert(shape.clone(), indices)
                .map_err(|cause| RouterError { path: shape, cause })?;
        }
        Ok(Self { routes, by_host, any_host })
    }

    /// The route of a request; `host` without its port, in lower case. `preflight` is the method
    /// that a browser asks about before it uses it.
    pub fn find(
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
        match candidates.clone().find(|route| route.takes(method, preflight)) {
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

    /// What is to be kept of the channels that any of the routes can lead to.
    pub fn retention(&self) -> RetentionRules {
        let channels = self.routes.iter().flat_map(|route| {
            let handover = route.handover.as_ref().map(|handover| &handover.channels);
            route.channels.iter().chain(handover)
        });
        RetentionRules::new(channels.flat_map(Channels::retention))
    }

    /// Every route, in the order of the configuration.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

impl Parameters {
    fn decode<'a>(names: &[String], values: impl Iterator<Item = &'a str>) -> Self {
        let decode = |value| percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned);
        let decoded = values.map(decode);
        Self(names.iter().cloned().zip(decoded).collect())
    }

    /// The value of a parameter; none where a catch-all has nothing left to match.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, NotText> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        value.map(|value| value.as_deref().ok_or(NotText)).transpose()
    }

    #[cfg(test)]
    pub(super) fn from_pairs<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into())
    }
}

/// The names in a path's braces, in order.
pub(super) fn parameter_names(path: &str) -> Vec<String> {
    let escaped = path.replace("{{", "").replace("}}", "");
    escaped
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name.trim_start_matches('*').to_owned())
        .collect()
}

/// The path for matchit, with numbers for names, so that two routes may name one place differently.
/// A catch-all matches also where nothing is left: `/{*rest}` matches `/`.
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

    use super::{Matched, Router};
    use crate::event::Format;
    use crate::hub::StreamSettings;
    use crate::route::{CorsSettings, EventsSettings, ProxySettings, RouteSettings, Target};

    fn router(settings: Vec<RouteSettings>, before: Option<&Router>) -> Router {
        let settings: Vec<_> = settings.into_iter().map(Arc::new).collect();
        Router::new(&settings, before).expect("routes")
    }

    #[test]
    fn a_route_that_stays_the_same_is_kept_with_what_it_counts() {
        let before = router(vec![route("/a", None, &[]), route("/b", None, &[])], None);
        let after =
            router(vec![route("/a", None, &[]), route("/b", None, &[Method::GET])], Some(&before));
        let is_kept = |place: usize| Arc::ptr_eq(&before.routes()[place], &after.routes()[place]);
        assert_eq!((is_kept(0), is_kept(1)), (true, false));
        let moved = router(vec![route("/b", None, &[]), route("/a", None, &[])], Some(&before));
        assert!(moved.routes().iter().enumerate().all(|(place, route)| route.place == place));
    }

    fn route(path: &str, host: Option<&str>, methods: &[Method]) -> RouteSettings {
        RouteSettings {
            path: path.into(),
            host: host.map(Into::into),
            methods: methods.to_vec(),
            target: Target::Proxy(ProxySettings::new(Vec::new())),
            cors: CorsSettings::default(),
            handover: None,
        }
    }

    fn events(path: &str, methods: &[Method]) -> RouteSettings {
        let settings = EventsSettings {
            channels: vec!["news".into()],
            format: Format::Raw,
            source: crate::route::EventsSource::PubSub,
            history: None,
            strip_prefix: String::new(),
            patterns: false,
            max_channels: 1,
            stream: StreamSettings::default(),
            ready: crate::route::Ready::Auto,
        };
        RouteSettings { target: Target::Events(settings), ..route(path, None, methods) }
    }

    /// The place of the route that is taken; the methods where none is.
    fn find(router: &Router, path: &str, method: &Method, asked: Option<&Method>) -> Found {
        match router.find(None, path, method, asked) {
            Matched::Route(route, _) => Ok(route.place),
            Matched::MethodNotAllowed(methods) => Err(methods),
            Matched::NotFound => panic!("{path} leads nowhere"),
        }
    }

    type Found = Result<usize, Vec<Method>>;

    #[test]
    fn an_exact_path_goes_before_a_catch_all_that_stands_before_it() {
        let exact = || route("/files/", None, &[]);
        let rest = || route("/files/{*file}", None, &[]);
        for (routes, exact) in [(vec![rest(), exact()], 1), (vec![exact(), rest()], 0)] {
            let router = router(routes, None);
            assert_eq!(find(&router, "/files/", &Method::GET, None), Ok(exact));
            assert_eq!(find(&router, "/files/x", &Method::GET, None), Ok(1 - exact));
        }
    }

    #[test]
    fn a_preflight_leads_where_the_method_that_it_asks_for_would() {
        let router = router(
            vec![
                events("/feed", &[]),
                route("/feed", None, &[Method::POST, Method::OPTIONS]),
                events("/alone", &[]),
                events("/get", &[Method::GET]),
            ],
            None,
        );
        let asks = |path, asked| find(&router, path, &Method::OPTIONS, Some(&asked));
        assert_eq!(asks("/feed", Method::GET), Ok(0));
        assert_eq!(asks("/feed", Method::POST), Ok(1));
        assert_eq!(asks("/alone", Method::POST), Err(vec![Method::GET, Method::HEAD]));
        assert_eq!(asks("/get", Method::GET), Ok(3));
        assert_eq!(asks("/get", Method::HEAD), Err(vec![Method::GET]));
    }

    #[test]
    fn the_most_specific_route_of_the_host_is_taken() {
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
            Matched::Route(route, parameters) => (route.place, parameters.0),
            Matched::MethodNotAllowed(methods) => (100 + methods.len(), Vec::new()),
            Matched::NotFound => (200, Vec::new()),
        };
        let pair = |name: &str, value: &str| vec![(name.to_owned(), Some(value.to_owned()))];
        assert_eq!(find(None, "/", Method::GET), (0, vec![]));
        assert_eq!(find(None, "/x/y", Method::GET), (0, vec![]), "a backend wants no values");
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
