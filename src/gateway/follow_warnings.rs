//! The warnings of `ssegate check` about `follow`.

use crate::config::Settings;
use crate::route::{self, RouteSettings, Target};

/// The warnings, one line each.
pub(super) fn follow_warnings(settings: &Settings) -> Vec<String> {
    let routes = settings.routes.iter().enumerate();
    routes.flat_map(|(at, route)| hears_everything(at, route)).collect()
}

fn hears_everything(at: usize, route: &RouteSettings) -> Vec<String> {
    let Target::Events(events) = &route.target else { return Vec::new() };
    let wide = events.follow.iter().filter(|pattern| route::may_match_reserved(pattern));
    let warning = |pattern| {
        format!(
            "routes[{at}] ({}): events.follow: {pattern:?} also receives what Redis and gateways publish for \
             themselves, such as keyspace notifications where they are on; none of it is kept, but all of it is \
             read. A prefix, such as \"orders:*\", keeps it out",
            route.path
        )
    };
    wide.map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::follow_warnings;
    use crate::config;

    #[test]
    fn a_pattern_that_matches_what_is_not_for_clients_is_warned_of() {
        let yaml = "redis: {url: redis://r}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n\
            - {path: \"/{channel}\", events: {channels: [\"{channel}\"], follow: [\"*\", \"orders:*\"]}}\n\
            - {path: \"/app/{channel}\", events: {channels: [\"{channel}\"], strip_prefix: \"app:\", follow: [\"*\"]}}\n";
        let settings = config::parse(yaml, "gateway.yaml", &|_| None).expect("a valid file");
        let warnings = follow_warnings(&settings);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let expected = "routes[0] (/{channel}): events.follow: \"*\" also receives";
        assert!(warnings[0].starts_with(expected), "{warnings:?}");
    }
}
