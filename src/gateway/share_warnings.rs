//! The warnings of `ssegate check` about `share`.

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, REFERER, USER_AGENT};
use ssegate_auth::{AuthMethod, TokenPlace};
use ssegate_hub::Replay;

use crate::auth::MethodSettings;
use crate::config::Settings;
use crate::route::{RouteSettings, ShareKeyPart, ShareSettings, Target};

/// The warnings, one line each.
pub(super) fn share_warnings(settings: &Settings) -> Vec<String> {
    let routes = settings.routes.iter().enumerate();
    routes
        .flat_map(|(at, route)| of_route(&format!("routes[{at}] ({})", route.path), route))
        .collect()
}

fn of_route(name: &str, route: &RouteSettings) -> Vec<String> {
    let Some(share) = &route.share else { return Vec::new() };
    let mut warnings = of_key(name, share);
    if share.is_anonymous {
        warnings.push(format!(
            "{name}: share.anonymous: a request with a cookie, with Authorization or with another credential is \
             answered with the stream of somebody without: right only where the backend sends the same to \
             everybody; otherwise name the credential in share.key"
        ));
    } else {
        warnings.extend(of_auth(name, route, share));
    }
    let kept = share.limits.events;
    if let Replay::Newest(count) = share.replay
        && count > kept
    {
        warnings.push(format!(
            "{name}: share.replay: {count} events are more than share.limits.events, {kept}, which is all that \
             there is to replay"
        ));
    }
    warnings
}

/// Warns of parts of a key that differ for nearly every client.
fn of_key(name: &str, share: &ShareSettings) -> Vec<String> {
    let of_part = |part: &ShareKeyPart| match part {
        ShareKeyPart::Cookie(cookie) => Some((format!("cookie:{cookie}"), "user")),
        ShareKeyPart::Header(header) if [AUTHORIZATION, COOKIE].contains(header) => {
            Some((format!("header:{header}"), "user"))
        }
        ShareKeyPart::Header(header) if [USER_AGENT, REFERER].contains(header) => {
            Some((format!("header:{header}"), "kind of client or page"))
        }
        ShareKeyPart::Header(_) => None,
    };
    let warning = |(part, whose): (String, &str)| {
        format!(
            "{name}: share.key: with {part} the backend has a stream for each {whose}; only requests with the same \
             value share one"
        )
    };
    share.key.iter().filter_map(of_part).map(warning).collect()
}

/// Warns of requests that `auth` lets in, but that cannot share a stream.
fn of_auth(name: &str, route: &RouteSettings, share: &ShareSettings) -> Vec<String> {
    let Some(auth) = &route.auth else { return Vec::new() };
    let in_key = |part: ShareKeyPart| share.key.contains(&part);
    let header = |name: &HeaderName| ShareKeyPart::Header(name.clone());
    let has_cookies = in_key(ShareKeyPart::Header(COOKIE));
    let methods = auth.methods();
    let mut warnings = Vec::new();
    let mut alone: Vec<(String, String)> = Vec::new();
    for method in &methods {
        for place in method.places() {
            match place {
                TokenPlace::Bearer if !in_key(header(&AUTHORIZATION)) => {
                    alone.push(("Authorization".into(), "header:authorization".into()));
                }
                TokenPlace::Cookie(cookie)
                    if !has_cookies && !in_key(ShareKeyPart::Cookie(cookie.clone())) =>
                {
                    alone.push((format!("the cookie {cookie}"), format!("cookie:{cookie}")));
                }
                // These are in the key. A token in the query is removed before the backend sees it.
                TokenPlace::Bearer | TokenPlace::Cookie(_) | TokenPlace::Query(_) => {}
            }
        }
        if method.method() == AuthMethod::Basic && !in_key(header(&AUTHORIZATION)) {
            alone.push(("Authorization".into(), "header:authorization".into()));
        }
        if method.method() == AuthMethod::SignedUrl {
            warnings.push(format!(
                "{name}: share: the signature of a URL is a part of its query, and so of every key: only requests \
                 for the same signed URL share a stream"
            ));
        }
    }
    let passed = match &route.target {
        Target::Proxy(proxy) => proxy.pass.iter().map(|(name, _)| name).collect(),
        Target::Events(_) | Target::Publish(_) | Target::Demo => Vec::new(),
    };
    let copied = methods.iter().flat_map(|method| MethodSettings::copied_headers(method));
    for field in passed.into_iter().chain(copied).filter(|name| !in_key(header(name))) {
        alone.push((format!("an identity for {field}"), format!("header:{field}")));
    }
    alone.sort();
    alone.dedup();
    warnings.extend(alone.into_iter().map(|(what, part)| {
        format!(
            "{name}: share: a request with {what} gets a stream of its own; add {part} to share.key, or \
             anonymous: true if the backend sends the same to everybody"
        )
    }));
    warnings
}

#[cfg(test)]
mod tests {
    use super::share_warnings;
    use crate::config;

    fn warnings(share: &str, auth: &str, pass: &str) -> Vec<String> {
        let yaml = format!(
            "redis: {{url: redis://r}}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n\
             - {{path: /, proxy: {{upstream: \"http://b\"{pass}}}, share: {{{share}}}{auth}}}\n"
        );
        share_warnings(&config::parse(&yaml, "gateway.yaml", &|_| None).expect("a valid file"))
    }

    #[test]
    fn each_risk_is_explained() {
        assert_eq!(warnings("", "", ""), [""; 0]);
        assert_eq!(warnings("key: [\"header:accept-language\"], replay: all", "", ""), [""; 0]);
        for (share, expected) in [
            ("anonymous: true", "share.anonymous: a request with a cookie"),
            ("key: [\"header:authorization\"]", "share.key: with header:authorization the backend"),
            ("key: [\"header:cookie\"]", "share.key: with header:cookie the backend"),
            ("key: [\"cookie:s\"]", "share.key: with cookie:s the backend"),
            ("key: [\"header:user-agent\"]", "share.key: with header:user-agent the backend"),
            ("replay: 20, limits: {events: 10}", "share.replay: 20 events are more than"),
        ] {
            let warnings = warnings(share, "", "");
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with(&format!("routes[0] (/): {expected}")), "{warnings:?}");
        }
    }

    #[test]
    fn what_auth_lets_in_and_sharing_leaves_out_is_explained() {
        const SECRET: &str = "0123456789abcdef0123456789abcdef";
        let token = |from: &str| {
            format!(", auth: {{jwt: {{algorithms: [HS256], keys: {SECRET}, from: [{from}]}}}}")
        };
        let url = format!(", auth: {{signed_url: {{keys: {{a: {SECRET}}}}}}}");
        let pass = ", pass: {x-user: \"{auth.id}\"}";
        for (share, auth, pass, expected) in [
            ("", token("\"query:token\""), "", None),
            ("", token("bearer"), "", Some("share: a request with Authorization gets")),
            ("", token("\"cookie:t\""), "", Some("share: a request with the cookie t gets")),
            ("", url, "", Some("share: the signature of a URL")),
            (
                "",
                token("\"query:token\""),
                pass,
                Some("share: a request with an identity for x-user"),
            ),
            ("key: [\"header:x-user\"]", token("\"query:token\""), pass, None),
            ("anonymous: true", token("bearer"), pass, Some("share.anonymous")),
        ] {
            let warnings = warnings(share, &auth, pass);
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
            if let Some(expected) = expected {
                assert!(warnings[0].contains(expected), "{warnings:?}");
            }
        }
    }
}
