//! The warnings of `ssegate check` about `auth`: settings that start, but let in more than was meant.

use std::sync::Arc;

use ssegate_auth::TokenPlace;

use super::name_set::NameSet;
use super::unfillable::unfillable;
use crate::auth::{AuthSettings, JwtAuth, MethodSettings};
use crate::config::Settings;
use crate::route::{EventsSettings, RouteSettings, Target};

/// The warnings, one line each.
pub(super) fn auth_warnings(settings: &Settings) -> Vec<String> {
    let routes: Vec<_> =
        settings.routes.iter().enumerate().map(|(at, route)| Named(at, route)).collect();
    let mut warnings = Vec::new();
    warnings.extend(routes.iter().filter_map(|route| open_beside_protected(*route, &routes)));
    warnings.extend(routes.iter().filter_map(|route| cookies_from_everywhere(*route)));
    warnings.extend(routes.iter().flat_map(|route| unfillable(&route.to_string(), route.1)));
    let mut seen: Vec<&Arc<AuthSettings>> = Vec::new();
    for route in &routes {
        // The `auth` of the whole file is shared by many routes: its warnings are given once.
        let Some(auth) = &route.1.auth else { continue };
        if !seen.iter().any(|other| Arc::ptr_eq(other, auth)) {
            seen.push(auth);
            warnings.extend(jwt_warnings(&route.to_string(), auth));
        }
    }
    if let Some(auth) = settings.admin.as_ref().and_then(|admin| admin.auth.as_ref()) {
        warnings.extend(jwt_warnings("admin", auth));
    }
    warnings
}

/// A route and its place in the file.
#[derive(Clone, Copy)]
struct Named<'a>(usize, &'a RouteSettings);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "routes[{}] ({})", self.0, self.1.path)
    }
}

impl<'a> Named<'a> {
    fn events(self) -> Option<&'a EventsSettings> {
        match &self.1.target {
            Target::Events(events) => Some(events),
            Target::Proxy(_) | Target::Publish(_) | Target::Demo => None,
        }
    }
}

/// Warns of a route without `auth` whose channels another route protects.
fn open_beside_protected(open: Named<'_>, routes: &[Named<'_>]) -> Option<String> {
    let events = open.events().filter(|_| open.1.auth.is_none())?;
    let protected = routes.iter().filter(|route| route.1.auth.is_some());
    for (protected, theirs) in protected.filter_map(|route| Some((route, route.events()?))) {
        if theirs.source != events.source {
            continue;
        }
        for ours in &events.channels {
            let name = NameSet::new(&events.strip_prefix, ours);
            let same = |template: &&String| {
                name.may_be_meant_by(&NameSet::new(&theirs.strip_prefix, template))
            };
            if let Some(template) = theirs.channels.iter().find(same) {
                return Some(format!(
                    "{open}: events.channels: \"{ours}\" can name channels of \"{template}\", which {protected} \
                     protects with auth; add auth to this route, too, or keep its channels apart with a prefix"
                ));
            }
        }
    }
    None
}

/// Warns of `*` where `auth` takes cookies or passwords: with `*`, pages of other origins cannot send them.
fn cookies_from_everywhere(route: Named<'_>) -> Option<String> {
    let has_all = route.1.cors.origins.iter().any(|origin| origin == "*");
    let is_ambient = |method: &&MethodSettings| {
        matches!(method, MethodSettings::Basic(_))
            || method.places().iter().any(|place| matches!(place, TokenPlace::Cookie(_)))
    };
    let auth = route.1.auth.as_ref().filter(|_| has_all)?;
    auth.methods().iter().any(is_ambient).then(|| {
        format!(
            "{route}: cors.origins: \"*\" lets no page send the cookie or password that auth needs; list the \
             origins that may, with credentials: true"
        )
    })
}

fn jwt_warnings(of: &str, auth: &AuthSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    for method in auth.methods() {
        let MethodSettings::Jwt(jwt) = method else { continue };
        let JwtAuth { keys, rules, jwks, .. } = &**jwt;
        let is_short = |algorithm| keys.iter().any(|key| key.is_short_for(algorithm));
        let short = rules.algorithms.iter().copied().filter(|algorithm| is_short(*algorithm));
        warnings.extend(short.map(|algorithm| {
            format!(
                "{of}: auth.jwt.keys: a secret is shorter than the hash of {algorithm:?} (RFC 7518, section \
                 3.2) and may be guessed; generate one with openssl rand -base64 64"
            )
        }));
        if let Some(location) = jwks.as_ref().filter(|location| location.is_exposed()) {
            warnings.push(format!(
                "{of}: auth.jwt.jwks: {location} has no TLS: whoever is between can replace the keys; use https"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::auth_warnings;
    use crate::config;

    #[test]
    fn each_warning_names_the_route_and_what_to_do() {
        let yaml = "redis: {url: redis://r}\nlisteners: [address: 127.0.0.1:80]\n\
            auth: {jwt: {keys: short, algorithms: [HS256, HS512], from: [\"cookie:t\"]}}\nroutes:\n\
            - {path: /mine, events: {channels: [\"user:{auth.id}\"]}, cors: {origins: [\"*\"]}}\n\
            - {path: \"/{channel}\", events: {channels: [\"{channel}\"]}, auth: off}\n\
            - {path: /log, events: {channels: [\"{query.x}\"], source: stream}, auth: off}\n\
            - path: /remote\n  events: {channels: [\"r:{auth.id}\"]}\n  \
              auth: {jwt: {jwks: \"http://id.example/jwks\", algorithms: RS256, audience: a}}\n";
        let settings = config::parse(yaml, "gateway.yaml", &|_| None).expect("a valid file");
        let warnings = auth_warnings(&settings);
        let expected = [
            (
                "routes[1] (/{channel}): events.channels: \"{channel}\" can name channels of \"user:{auth.id}\", which routes[0] (/mine) protects",
                "add auth",
            ),
            ("routes[0] (/mine): cors.origins: \"*\"", "list the origins"),
            (
                "routes[0] (/mine): auth.jwt.keys: a secret is shorter than the hash of HS256",
                "openssl rand",
            ),
            (
                "routes[0] (/mine): auth.jwt.keys: a secret is shorter than the hash of HS512",
                "openssl rand",
            ),
            ("routes[3] (/remote): auth.jwt.jwks: http://id.example/jwks has no TLS", "use https"),
        ];
        assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
        for (warning, (begin, hint)) in warnings.iter().zip(expected) {
            assert!(warning.starts_with(begin) && warning.contains(hint), "{warning}");
        }
    }
}
