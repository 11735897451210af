//! Checks paths with parameters, and the templates of channel names.
//!
//! Pure. Filling a template is the business of [`route`](crate::route).

use matchit::{InsertError, Router};
use ssegate_hub::ChannelName;
use ssegate_strict_yaml::{quoted, suggestion};

use crate::auth::Placeholder;
use crate::route::{OWN_NAMES, TemplateText};

/// A parsed path of a route.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    /// The path with parameters numbered instead of named. Paths of the same shape match the same
    /// requests.
    pub(super) shape: String,
    /// The names of its parameters.
    pub(super) parameters: Vec<String>,
}

impl PathPattern {
    /// Parses a path such as `/users/{id}/{*rest}`; `{{` and `}}` are literal braces.
    pub(super) fn new(path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            let meant = quoted(&format!("/{path}"));
            return Err(format!("{} does not start with /; write {meant}", quoted(path)));
        }
        if let Some(c) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
            return Err(format!("{c:?} is not allowed in a path; percent-encode it"));
        }
        if let Some(mistake) = other_router_syntax(path) {
            return Err(mistake);
        }
        Router::new().insert(path, ()).map_err(|error| insert_error(&error).to_owned())?;
        // matchit accepts braces inside a name, which is certainly a mistake.
        let pattern = Self::split(path).ok_or_else(|| PARAMETER.to_owned())?;
        let names = &pattern.parameters;
        match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            Some((_, name)) => Err(format!("has {{{name}}} twice; give one of them another name")),
            None => Ok(pattern),
        }
    }

    /// Splits a path into its shape and parameters; `None` where its braces are unbalanced.
    fn split(path: &str) -> Option<Self> {
        let (mut shape, mut parameters) = (String::new(), Vec::new());
        let mut rest = path;
        while let Some(start) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(start);
            shape.push_str(before);
            let escaped = after.starts_with("{{") || after.starts_with("}}");
            let end = if escaped { 1 } else { after.find('}').filter(|end| *end > 0)? };
            if escaped {
                shape.push_str(&after[..=end]);
            } else {
                let (name, after) = (&after[1..end], &after[end + 1..]);
                let (star, name) = name.strip_prefix('*').map_or(("", name), |name| ("*", name));
                if name.is_empty() || name.contains('{') || after.starts_with('}') {
                    return None;
                }
                shape.push_str(&format!("{{{star}{}}}", parameters.len()));
                parameters.push(name.to_owned());
            }
            rest = &after[end + 1..];
        }
        shape.push_str(rest);
        Some(Self { shape, parameters })
    }
}

/// Returns a message for a path in the syntax of another router: `/api/*`, `/users/:id`,
/// `/users/<id>`, `/users/{id:[0-9]+}`.
fn other_router_syntax(path: &str) -> Option<String> {
    let last = path.split('/').count() - 1;
    let meant = path.split('/').enumerate().map(|(index, segment)| {
        let is_last = index == last;
        meant(segment, is_last).unwrap_or_else(|| segment.to_owned())
    });
    let meant = meant.collect::<Vec<_>>().join("/");
    let message =
        || format!("{} has another router's syntax; write {}", quoted(path), quoted(&meant));
    (meant != path).then(message)
}

/// Translates a segment from the syntax of another router.
fn meant(segment: &str, is_last: bool) -> Option<String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match segment {
        "*" | "**" if is_last => return Some("{*rest}".to_owned()),
        "*" => return Some("{segment}".to_owned()),
        _ => {}
    }
    if let Some(name) = segment.strip_prefix(':').filter(|name| is_name(name)) {
        return Some(format!("{{{name}}}"));
    }
    // Flask writes the type before the name, gorilla/mux a pattern after it.
    if let Some(inside) = segment.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        let (kind, name) = inside.rsplit_once(':').unwrap_or(("", inside));
        let star = if kind == "path" && is_last { "*" } else { "" };
        return is_name(name).then(|| format!("{{{star}{name}}}"));
    }
    let inside = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let (name, _) = inside?.split_once(':')?;
    is_name(name).then(|| format!("{{{name}}}"))
}

const PARAMETER: &str =
    "a {parameter} needs a name and both braces; write {{ and }} for literal braces";

fn insert_error(error: &InsertError) -> &'static str {
    match error {
        InsertError::InvalidParamSegment => "a path segment can have only one {parameter}",
        InsertError::InvalidCatchAll => "{*rest} is allowed only at the end of a path",
        _ => PARAMETER,
    }
}

/// Checks the template of a channel name against the parameters of its path. `has_auth`: the route has
/// `auth`, which fills `{auth.id}` and `{claim.name}`.
pub(super) fn check(template: &str, parameters: &[String], has_auth: bool) -> Result<(), String> {
    if template.is_empty() {
        return Err("a channel name is empty".to_owned());
    }
    let TemplateText { literals, names } = TemplateText::new(template);
    // Each brace of the text is written twice.
    let braces = |text: &str| text.bytes().filter(|byte| matches!(byte, b'{' | b'}')).count();
    let in_literals: usize = literals.iter().map(|literal| braces(literal)).sum();
    if braces(template) != 2 * in_literals + 2 * names.len()
        || names.iter().any(|name| braces(name) > 0)
    {
        return Err(unbalanced());
    }
    for name in &names {
        check_name(name, parameters, has_auth)?;
    }
    if template.starts_with(OWN_NAMES) {
        return Err(format!("names that begin with {OWN_NAMES} are reserved by the gateway"));
    }
    if names.is_empty() {
        ChannelName::new(&literals[0]).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn unbalanced() -> String {
    "unbalanced braces; write {name} or {query.name}, and {{ or }} for a brace".to_owned()
}

fn check_name(name: &str, parameters: &[String], has_auth: bool) -> Result<(), String> {
    if name.is_empty() || name == "query." {
        return Err(format!("{{{name}}} has no name; write {{name}} or {{query.name}}"));
    }
    if name.starts_with("query.") || parameters.iter().any(|known| known == name) {
        return Ok(());
    }
    if Placeholder::parse(name).is_some() {
        let message = || format!("{{{name}}} needs auth on the route, or for the whole file");
        return if has_auth { Ok(()) } else { Err(message()) };
    }
    let known: Vec<&str> = parameters.iter().map(String::as_str).collect();
    let hint = match suggestion(name, &known) {
        Some(meant) => format!("did you mean {{{meant}}}?"),
        None if name.contains('.') => {
            "only {query.name}, {auth.id} and {claim.name} may have a dot".to_owned()
        }
        None => format!("write {{query.{name}}} to take it from the query"),
    };
    Err(format!("{{{name}}} is not a parameter of this route's path; {hint}"))
}

#[cfg(test)]
mod tests {
    use matchit::Router;
    use proptest::{prop_assert, proptest};

    use super::{PathPattern, check};

    #[test]
    fn a_path_has_a_shape_and_parameters() {
        for (path, shape, parameters) in [
            ("/", "/", vec![]),
            ("/events/{channel}", "/events/{0}", vec!["channel"]),
            ("/{a}/x-{b}/{*rest}", "/{0}/x-{1}/{*2}", vec!["a", "b", "rest"]),
            ("/{{a}}/{b}", "/{{a}}/{0}", vec!["b"]),
            ("/v1/things:cancel", "/v1/things:cancel", vec![]),
            ("/a*b", "/a*b", vec![]),
        ] {
            let pattern = PathPattern::new(path).expect(path);
            assert_eq!(pattern.shape, shape, "{path}");
            assert_eq!(pattern.parameters, parameters, "{path}");
        }
    }

    #[test]
    fn invalid_paths_are_rejected() {
        for (path, hint) in [
            ("", "does not start with /"),
            ("events", "\"events\" does not start with /"),
            ("*", "does not start with /"),
            ("/a b", "' ' is not allowed in a path"),
            ("/ä", "percent-encode it"),
            ("/a?b=c", "'?' is not allowed in a path"),
            ("/{", "needs a name and both braces"),
            ("/{}", "needs a name and both braces"),
            ("/a}", "needs a name and both braces"),
            ("/{a}}{}", "needs a name and both braces"),
            ("/{*}}}", "needs a name and both braces"),
            ("/{a}{b}", "only one {parameter}"),
            ("/{a}/b/{a}", "has {a} twice"),
            ("/{a}/{*a}", "has {a} twice"),
            ("/{*rest}/x", "only at the end"),
            ("/api/*", "\"/api/*\" has another router's syntax; write \"/api/{*rest}\""),
            ("/api/**", "; write \"/api/{*rest}\""),
            ("/*", "; write \"/{*rest}\""),
            ("/a/*/b", "; write \"/a/{segment}/b\""),
            ("/api/:id", "; write \"/api/{id}\""),
            ("/users/<int:id>/x", "; write \"/users/{id}/x\""),
            ("/files/<path:name>", "; write \"/files/{*name}\""),
            ("/users/{id:[0-9]+}", "; write \"/users/{id}\""),
        ] {
            let message = PathPattern::new(path).expect_err(path);
            assert!(message.contains(hint), "{path}: {message}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_path_can_be_routed(path in "/[/{}*ab-]{0,12}") {
            if let Ok(pattern) = PathPattern::new(&path) {
                prop_assert!(Router::new().insert(&pattern.shape, ()).is_ok(), "{}", pattern.shape);
                prop_assert!(pattern.parameters.iter().all(|name| !name.is_empty()));
            }
        }
    }

    #[test]
    fn a_template_may_use_parameters_of_the_path_and_the_query() {
        let parameters = ["channel".to_owned(), "id".to_owned()];
        for template in [
            "news",
            "{channel}",
            "user:{id}:{query.kind}",
            "{query.channel}",
            "a*",
            "orders-{{{id}}}",
            "{{eu}}",
        ] {
            assert_eq!(check(template, &parameters, false), Ok(()), "{template}");
        }
        for template in ["user:{auth.id}", "{claim.org.name}:{id}"] {
            assert_eq!(check(template, &parameters, true), Ok(()), "{template}");
        }
        for (template, hint) in [
            ("", "is empty"),
            ("{", "unbalanced braces"),
            ("a}", "unbalanced braces"),
            ("}{id}", "unbalanced braces"),
            ("{{id}", "unbalanced braces"),
            ("{{{id}}", "unbalanced braces"),
            ("{i{d}", "unbalanced braces"),
            ("{}", "has no name"),
            ("{query.}", "has no name"),
            ("{chanel}", "did you mean {channel}?"),
            ("{user}", "write {query.user}"),
            ("{jwt.sub}", "only {query.name}, {auth.id} and {claim.name} may have a dot"),
            ("{auth.id}", "{auth.id} needs auth on the route"),
            ("{claim.sub}", "{claim.sub} needs auth on the route"),
            ("{claim.}", "may have a dot"),
            ("__keyspace@0__:x", "reserved by Redis"),
            ("ssegate:{id}", "reserved by the gateway"),
        ] {
            let message = check(template, &parameters, false).expect_err(template);
            assert!(message.contains(hint), "{template}: {message}");
        }
    }
}
