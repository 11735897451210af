//! The warnings of `ssegate check` about templates: values that no credential of the route can have.

use ssegate_auth::AuthMethod;

use crate::auth::{MethodSettings, Placeholder};
use crate::route::{RouteSettings, Target, TemplateText};

/// The warnings of a route, one line each. `of` names it.
pub(super) fn unfillable(of: &str, route: &RouteSettings) -> Vec<String> {
    let Some(auth) = &route.auth else { return Vec::new() };
    let methods = auth.methods();
    let has_tokens = methods.iter().any(|method| method.method() == AuthMethod::Jwt);
    let mut warnings = Vec::new();
    for (key, placeholder, result) in placeholders(&route.target) {
        if let Some(why) = why_not(&placeholder, &methods) {
            warnings.push(format!("{of}: {key}: {placeholder} is never there: {why}; {result}"));
        }
    }
    let claim = match &route.target {
        Target::Events(events) => events.claim.as_ref().map(|claim| ("events.claim", claim)),
        Target::Publish(publish) => publish.claim.as_ref().map(|claim| ("publish.claim", claim)),
        Target::Proxy(_) | Target::Demo => None,
    };
    if let Some((key, claim)) = claim.filter(|_| !has_tokens) {
        warnings.push(format!(
            "{of}: {key}: only tokens have claims, and auth has no jwt: nobody has {claim}, and every request is \
             refused; add auth.jwt, or remove claim"
        ));
    }
    warnings
}

/// The values that the templates of a route need, each with its key and what happens without it.
fn placeholders(target: &Target) -> Vec<(String, Placeholder, &'static str)> {
    const REFUSED: &str = "a request whose channels need it is refused";
    const LEFT_OUT: &str = "the header is never sent";
    let of_channels = |key: &str, templates: &[String]| {
        let found = templates.iter().flat_map(|template| in_template(template));
        found.map(|placeholder| (key.to_owned(), placeholder, REFUSED)).collect()
    };
    match target {
        Target::Events(events) => of_channels("events.channels", &events.channels),
        Target::Publish(publish) => of_channels("publish.channels", &publish.channels),
        Target::Proxy(proxy) => {
            let headers = proxy.pass.iter().flat_map(|(name, template)| {
                let key = format!("proxy.pass.{name}");
                template.placeholders().map(move |found| (key.clone(), found.clone(), LEFT_OUT))
            });
            headers.collect()
        }
        Target::Demo => Vec::new(),
    }
}

fn in_template(template: &str) -> impl Iterator<Item = Placeholder> {
    TemplateText::new(template).names.into_iter().filter_map(Placeholder::parse)
}

/// Why no method can fill a placeholder; `None` if one may.
fn why_not(placeholder: &Placeholder, methods: &[&MethodSettings]) -> Option<String> {
    let mut methods = methods.iter();
    match placeholder {
        Placeholder::Id => {
            let is_nameless = |method: &&MethodSettings| matches!(method, MethodSettings::Forward(backend) if backend.id.is_none());
            methods.all(is_nameless).then(|| {
                "auth.forward has no copy_headers, the first of which is the identity".into()
            })
        }
        Placeholder::Attribute(name) => {
            let is_copied = |method: &&MethodSettings| {
                method.copied_headers().iter().any(|copied| copied.as_str() == name)
            };
            (!methods.any(is_copied))
                .then(|| format!("{name} is not in the copy_headers of an auth.forward"))
        }
        Placeholder::Claim(_) => {
            let is_token = |method: &&MethodSettings| method.method() == AuthMethod::Jwt;
            (!methods.any(is_token)).then(|| "only tokens have claims, and auth has no jwt".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unfillable;
    use crate::config;

    fn warnings(auth: &str, route: &str) -> Vec<String> {
        let yaml = format!(
            "redis: {{url: redis://r}}\nlisteners: [address: 127.0.0.1:80]\nauth: {{{auth}}}\nroutes:\n- {{path: /a, {route}}}\n"
        );
        let settings = config::parse(&yaml, "gateway.yaml", &|_| None).expect("a valid file");
        unfillable("/a", &settings.routes[0])
    }

    #[test]
    fn a_value_that_no_method_has_is_named() {
        const FORWARD: &str =
            "forward: {url: \"http://127.0.0.1:1/auth\", copy_headers: [x-user, X-Org]}";
        const NAMELESS: &str = "forward: {url: \"http://127.0.0.1:1/auth\"}";
        const JWT: &str = "jwt: {keys: 0123456789abcdef0123456789abcdef, algorithms: HS256}";
        let any = format!("any: [{{{NAMELESS}}}, {{{JWT}}}]");
        let events = |channel: &str| format!("events: {{channels: [\"{channel}\"]}}");
        for (auth, route, expected) in [
            (FORWARD, events("{auth.id}:{auth.x-user}:{auth.X-ORG}"), None),
            (
                FORWARD,
                events("a:{auth.x-name}"),
                Some("events.channels: {auth.x-name} is never there: x-name is not in the copy_headers"),
            ),
            (FORWARD, events("{claim.org}"), Some("{claim.org} is never there: only tokens")),
            (NAMELESS, events("{auth.id}"), Some("{auth.id} is never there: auth.forward has no")),
            (JWT, events("{auth.id}:{claim.org}"), None),
            (JWT, events("{auth.x-user}"), Some("{auth.x-user} is never there")),
            (&any, events("{auth.id}:{claim.org}"), None),
            (&any, events("{auth.x-user}"), Some("{auth.x-user} is never there")),
            (JWT, "events: {claim: channels}".to_owned(), None),
            (
                FORWARD,
                "events: {claim: channels}".to_owned(),
                Some("events.claim: only tokens have claims"),
            ),
            (FORWARD, "publish: {claim: may}".to_owned(), Some("publish.claim: only tokens")),
            (
                FORWARD,
                "proxy: {upstream: \"http://127.0.0.1:1\", pass: {x-id: \"{auth.id}\", x-role: \"{auth.x-role}\"}}"
                    .to_owned(),
                Some("proxy.pass.x-role: {auth.x-role} is never there"),
            ),
        ] {
            let found = warnings(auth, &route);
            assert_eq!(found.len(), usize::from(expected.is_some()), "{auth} {route}: {found:?}");
            for (warning, expected) in found.iter().zip(expected) {
                assert!(warning.contains(expected), "{warning}");
            }
        }
    }
}
