//! Resolves `routes`: the requests that each matches, and its target.

use std::sync::Arc;

use http::Method;
use ssegate_strict_yaml::{At, Field, KeyLocation};

use super::auth::ResolvedAuth;
use super::authority;
use super::matches::{Match, Matches};
use super::resolver::Resolver;
use super::share::SharedRoute;
use super::template::{self, PathPattern};
use crate::auth::{AuthPreset, AuthSettings, MethodSettings};
use crate::config::file::{CorsFile, EventsFile, MethodFile, ProxyFile, PublishFile, RouteFile};
use crate::config::stream_options::StreamOptions;
use crate::route::{CorsSettings, EventsSettings, RouteSettings, Target};

/// Keys that are written beside `path` by mistake: of events alone, and of what a backend hands over, too.
const OF_EVENTS: &[&str] = &["channels", "sharded", "patterns", "follow"];
const OF_STREAMS: &[&str] =
    &["redis", "source", "format", "strip_prefix", "history", "replay", "queue"];

impl Resolver<'_> {
    pub(super) fn routes(
        &self,
        field: Field<Vec<Field<Box<RouteFile>>>>,
        defaults: &StreamOptions,
        auth: &ResolvedAuth,
    ) -> Vec<Arc<RouteSettings>> {
        const WHAT: &str = "add a route, such as `- path: /events/{channel}`";
        let Some(At { location, value }) =
            self.required(field, &KeyLocation::default(), "routes", WHAT)
        else {
            return Vec::new();
        };
        if value.is_empty() {
            self.note(&location, format!("the list is empty; {WHAT}"));
        }
        let mut earlier = Matches::default();
        value
            .into_iter()
            .filter_map(|item| {
                self.route(item.written()?, (defaults, auth), &mut earlier).map(Arc::new)
            })
            .collect()
    }

    fn route(
        &self,
        At { location, value: file }: At<Box<RouteFile>>,
        (defaults, auth): (&StreamOptions, &ResolvedAuth),
        earlier: &mut Matches,
    ) -> Option<RouteSettings> {
        for (keys, belongs) in [
            (OF_EVENTS, "under events"),
            (OF_STREAMS, "under events, or under handover, on this route"),
        ] {
            for key in keys {
                let path = location.child(key).path;
                self.mistakes.explain_unknown_key(&path, belongs);
            }
        }
        let what = "set which requests the route matches, such as /events/{channel}";
        let path = self.required(file.path, &location, "path", what);
        let pattern = path.as_ref().and_then(|path| self.parse(path, PathPattern::new));
        let host = match file.host {
            Field::Absent => Some(None),
            field => field.written().and_then(|at| self.parse(&at, authority::host)).map(Some),
        };
        let methods = match file.publish.is_absent() {
            true => methods(file.methods),
            false => self.publish_methods(file.methods),
        };
        let is_proxied = !file.proxy.is_absent();
        let auth_location = file.auth.location().cloned().unwrap_or_else(|| location.clone());
        let auth = self.auth(file.auth, auth);
        // After a mistake in `auth` nothing is noted that only its absence would make one.
        let has_auth = auth.as_ref().is_none_or(Option::is_some);
        let request = (pattern.as_ref(), has_auth);
        let targets = (file.events, file.proxy, file.publish);
        let target = self.target(targets, request, defaults, &location);
        let presence = self.presence(file.presence, target.as_ref(), has_auth);
        let cors = self.cors(file.cors);
        let beside = [("keep", file.keep.is_absent()), ("handover", file.handover.is_absent())];
        let beside = beside.into_iter().find(|(_, is_absent)| !is_absent).map(|(key, _)| key);
        let handover = self.handover(file.handover, is_proxied, defaults);
        let keep = self.keep(file.keep, is_proxied, has_auth);
        let shared =
            SharedRoute { is_proxied, beside, methods: methods.as_deref().unwrap_or_default() };
        let share = self.share(file.share, shared, defaults);

        // A route with a mistake in one of these is not compared with others.
        let (At { location: path_location, value: path }, pattern) = path.zip(pattern)?;
        let (host, methods) = host.zip(methods)?;
        let this = Match {
            route: location.path,
            shape: pattern.shape,
            host: host.clone(),
            methods: methods.clone(),
        };
        if let Err(message) = earlier.add(this) {
            self.note(&path_location, message);
        }
        let (auth, target) = (auth?, target?);
        if let Some(message) = unusable_auth(auth.as_deref(), &target) {
            self.note(&auth_location, message);
        }
        Some(RouteSettings {
            path,
            host,
            methods,
            target,
            auth,
            cors,
            handover,
            keep,
            share,
            presence,
        })
    }

    fn target(
        &self,
        (events, proxy, publish): (Field<EventsFile>, Field<ProxyFile>, Field<PublishFile>),
        request: (Option<&PathPattern>, bool),
        defaults: &StreamOptions,
        location: &KeyLocation,
    ) -> Option<Target> {
        let there = [
            (!events.is_absent()).then_some("events"),
            (!proxy.is_absent()).then_some("proxy"),
            (!publish.is_absent()).then_some("publish"),
        ];
        let there: Vec<&str> = there.into_iter().flatten().collect();
        match there.as_slice() {
            [] => self.note(location, "has none of events, proxy and publish; add one of them"),
            [_] => {}
            several => {
                let several = several.join(" and ");
                self.note(location, format!("has {several}; only one of them can be there"));
            }
        }
        // The mistakes inside all of them are noted.
        let events = events.written().and_then(|at| self.events(at, request, defaults));
        let proxy = proxy.written().and_then(|at| self.proxy(at, defaults, request.1));
        let publish = publish.written().and_then(|at| self.publish(at, request));
        let target = events.map(Target::Events).or_else(|| proxy.map(Target::Proxy));
        target.or_else(|| publish.map(Target::Publish)).filter(|_| there.len() == 1)
    }

    fn events(
        &self,
        At { location, value: mut file }: At<EventsFile>,
        (pattern, has_auth): (Option<&PathPattern>, bool),
        defaults: &StreamOptions,
    ) -> Option<EventsSettings> {
        let channels = std::mem::take(&mut file.channels);
        let claim = self.claim(std::mem::take(&mut file.claim), has_auth);
        let follow = std::mem::take(&mut file.follow);
        let channels = || match (&claim, channels) {
            (Some(_), Field::Absent) => Some(Vec::new()),
            (_, channels) => self.channels(channels, (pattern, has_auth), &location),
        };
        let settings = self.stream(&file, &location, defaults.clone(), channels)?;
        let follow = self.follow(follow, &settings);
        Some(EventsSettings { claim, follow, ..settings })
    }

    pub(super) fn channels(
        &self,
        field: Field<Vec<Field<String>>>,
        (pattern, has_auth): (Option<&PathPattern>, bool),
        events: &KeyLocation,
    ) -> Option<Vec<String>> {
        const WHAT: &str =
            "set the channels, such as [news], [\"{channel}\"] or [\"{query.channel}\"]";
        let At { location, value } = self.required(field, events, "channels", WHAT)?;
        if value.is_empty() {
            self.note(&location, format!("the list is empty; {WHAT}"));
        }
        let templates: Vec<_> = value.into_iter().filter_map(Field::written).collect();
        // With an invalid path, its parameters are unknown.
        if let Some(PathPattern { parameters, .. }) = pattern {
            for template in &templates {
                self.parse(template, |text| template::check(text, parameters, has_auth));
            }
        }
        Some(templates.into_iter().map(|at| at.value).collect())
    }

    /// The claim that lists the channels of a token's bearer.
    pub(super) fn claim(&self, field: Field<String>, has_auth: bool) -> Option<String> {
        let At { location, value } = field.written()?;
        if value.is_empty() {
            self.note(&location, "is empty; name the claim of the token that lists the channels");
        } else if !has_auth {
            self.note(&location, "needs auth on the route, whose tokens have the claim");
        }
        Some(value)
    }

    fn cors(&self, field: Field<CorsFile>) -> CorsSettings {
        let Some(At { location, value: file }) = field.written() else {
            return CorsSettings::default();
        };
        let no_origins = matches!(&file.origins, Field::Absent)
            || matches!(&file.origins, Field::Written(at) if at.value.is_empty());
        let origins: Vec<_> =
            file.origins.or_default().into_iter().filter_map(Field::written).collect();
        let (everyone, location) = match origins.iter().find(|at| at.value == "*") {
            Some(star) => (true, star.location.clone()),
            None => (false, location.child("credentials")),
        };
        let credentials = file.credentials.or(false);
        if credentials && everyone {
            // Fetch standard, "CORS check": with credentials, "*" is not a wildcard.
            self.note(&location, "\"*\" is not allowed with credentials: true; list the origins");
        } else if credentials && no_origins {
            self.note(&location, "has no effect without origins; list them");
        }
        let origins = origins.iter().filter_map(|at| self.parse(at, authority::origin)).collect();
        CorsSettings { origins, credentials }
    }
}

/// Why the `auth` of a route cannot be used for it.
fn unusable_auth(auth: Option<&AuthSettings>, target: &Target) -> Option<&'static str> {
    let is_laravel = auth?.methods().iter().any(|method| {
        matches!(method, MethodSettings::Forward(backend) if backend.preset == AuthPreset::Laravel)
    });
    if !is_laravel {
        return None;
    }
    let Target::Events(events) = target else {
        return Some("preset: laravel is for events routes; set another auth here, or `auth: off`");
    };
    let is_of_identity =
        |template: &String| template.contains("{auth.") || template.contains("{claim.");
    if events.claim.is_some() || events.channels.iter().any(is_of_identity) {
        return Some(
            "preset: laravel decides for channels that the request names; remove {auth.…}, {claim.…} and claim",
        );
    }
    events.patterns.then_some("preset: laravel decides for channels by name; remove patterns: true")
}

/// Returns `None` after a mistake.
pub(super) fn methods(field: Field<Vec<Field<MethodFile>>>) -> Option<Vec<Method>> {
    match field {
        Field::Absent => Some(Vec::new()),
        field => field.value()?.into_iter().map(|item| item.value().map(Method::from)).collect(),
    }
}
