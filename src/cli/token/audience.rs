//! Which routes of a configuration accept a token, as far as its audience decides.

use serde_json::{Map, Value};
use ssegate::auth::{AuthSettings, MethodSettings};
use ssegate::config::Settings;
use ssegate_auth::jwt::is_for;

/// Which routes accept tokens for an audience (RFC 7519, section 4.1.3).
#[derive(Debug)]
pub(super) struct Audience {
    /// Each route that accepts tokens: its path, whether it accepts this one, and the audiences that it accepts.
    routes: Vec<(String, bool, Vec<String>)>,
}

impl Audience {
    /// Looks for the audience of these claims in the routes of a configuration, and in its admin listener.
    pub(super) fn of(claims: &Map<String, Value>, settings: &Settings) -> Self {
        let routes = settings.routes.iter().map(|route| (route.path.as_str(), &route.auth));
        let admin = settings.admin.iter().map(|admin| ("the admin listener", &admin.auth));
        let routes = routes.chain(admin).filter_map(|(name, auth)| {
            let (takes, audiences) = of_auth(claims, auth.as_ref()?)?;
            Some((name.to_owned(), takes, audiences))
        });
        Self { routes: routes.collect() }
    }

    /// Whether there are routes that accept tokens, and none accepts this one.
    pub(super) fn is_wrong(&self) -> bool {
        !self.routes.is_empty() && !self.routes.iter().any(|(_, takes, _)| *takes)
    }

    /// The lines for a person, one for each route.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.routes.iter().map(|(name, takes, audiences)| {
            let audiences = match audiences.as_slice() {
                [] => "takes tokens without aud".to_owned(),
                audiences => format!("takes aud {}", audiences.join(", ")),
            };
            match takes {
                true => format!("aud good for {name}"),
                false => format!("aud NOT GOOD for {name}, which {audiences}"),
            }
        })
    }
}

/// Whether one of the methods accepts a token with these claims, and all audiences that they accept; `None` if none
/// accepts tokens.
fn of_auth(claims: &Map<String, Value>, auth: &AuthSettings) -> Option<(bool, Vec<String>)> {
    let methods = auth.methods().into_iter();
    let rules: Vec<_> = methods
        .filter_map(|method| match method {
            MethodSettings::Jwt(jwt) => Some(&jwt.rules),
            _ => None,
        })
        .collect();
    let takes = rules.iter().any(|rules| is_for(claims, &rules.audiences));
    let audiences = rules.iter().flat_map(|rules| rules.audiences.clone()).collect();
    (!rules.is_empty()).then_some((takes, audiences))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use ssegate::config;

    use super::Audience;

    fn audience(aud: &Value) -> Audience {
        let jwt = "keys: 0123456789abcdef0123456789abcdef, algorithms: HS256";
        let yaml = format!(
            "redis: {{url: redis://r}}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n\
            - {{path: /mine, events: {{channels: [a]}}, auth: {{jwt: {{{jwt}, audience: [events, app]}}}}}}\n\
            - {{path: /any, events: {{channels: [b]}}, auth: {{jwt: {{{jwt}}}}}}}\n\
            - {{path: /open, events: {{channels: [c]}}}}\n"
        );
        let settings = config::parse(&yaml, "gateway.yaml", &|_| None).expect("a valid file");
        let claims = json!({"aud": aud});
        Audience::of(claims.as_object().expect("an object"), &settings)
    }

    #[test]
    fn the_routes_that_take_a_token_are_named() {
        const MINE: &str = "aud NOT GOOD for /mine, which takes aud events, app";
        const ANY: &str = "aud NOT GOOD for /any, which takes tokens without aud";
        for (aud, lines, is_wrong) in [
            (json!("events"), ["aud good for /mine", ANY], false),
            (json!(["x", "app"]), ["aud good for /mine", ANY], false),
            (json!(null), [MINE, "aud good for /any"], false),
            (json!("billing"), [MINE, ANY], true),
            (json!(7), [MINE, ANY], true),
        ] {
            let audience = audience(&aud);
            assert_eq!(audience.lines().collect::<Vec<_>>(), lines, "{aud}");
            assert_eq!(audience.is_wrong(), is_wrong, "{aud}");
        }
    }
}
