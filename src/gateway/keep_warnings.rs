//! The warnings of `ssegate check` about `keep`.

use crate::config::Settings;
use crate::route::{RouteSettings, WhenNobody};

/// The warnings, one line each.
pub(super) fn keep_warnings(settings: &Settings) -> Vec<String> {
    let routes = settings.routes.iter().enumerate();
    routes
        .flat_map(|(at, route)| of_route(&format!("routes[{at}] ({})", route.path), route))
        .collect()
}

fn of_route(name: &str, route: &RouteSettings) -> Vec<String> {
    let Some(keep) = &route.keep else { return Vec::new() };
    let mut warnings = Vec::new();
    if keep.is_public {
        let who = match keep.owner.is_empty() {
            true => "every stream",
            false => "the stream of a request without credentials",
        };
        warnings.push(format!(
            "{name}: keep.public: {who} can be read and cancelled by everybody who knows its address, and \
             per_owner does not bound such streams; list the owner's credentials in keep.owner instead"
        ));
    }
    if keep.when_nobody == WhenNobody::Continue {
        warnings.push(format!(
            "{name}: keep.when_nobody: continue lets the backend work for clients that never come back, for up to \
             limits.age; cancel_after 30s survives a reload of a page, too"
        ));
    }
    if keep.limits.bytes > keep.limits.total {
        warnings.push(format!(
            "{name}: keep.limits: one stream may have more bytes than total, so that its oldest events go earlier \
             than bytes says"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::keep_warnings;
    use crate::config;

    #[test]
    fn each_risk_is_explained() {
        let keep = |keep: &str| {
            let yaml = format!(
                "redis: {{url: redis://r}}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n\
                 - {{path: /, proxy: {{upstream: \"http://b\"}}, keep: {{{keep}}}}}\n"
            );
            keep_warnings(&config::parse(&yaml, "gateway.yaml", &|_| None).expect("a valid file"))
        };
        assert_eq!(keep("owner: [authorization]"), [""; 0]);
        for (settings, expected) in [
            ("public: true", "routes[0] (/): keep.public: every stream can be read"),
            (
                "public: true, owner: [authorization]",
                "routes[0] (/): keep.public: the stream of a request",
            ),
            ("owner: [a], when_nobody: continue", "routes[0] (/): keep.when_nobody: continue"),
            ("owner: [a], limits: {total: 1MiB}", "routes[0] (/): keep.limits: one stream"),
        ] {
            let warnings = keep(settings);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with(expected), "{warnings:?}");
        }
    }
}
