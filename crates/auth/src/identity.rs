//! Who a request is from.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};

/// How a client was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// A JSON Web Token.
    Jwt,
    /// A signed URL.
    SignedUrl,
    /// A static token.
    Token,
    /// A name and a password.
    Basic,
    /// An auth backend allowed the request.
    Forward,
}

/// Who a request is from, as its credential says, and for how long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// The claim `sub` of a token (RFC 7519, section 4.1.2), or the name of a static token or key.
    /// `None`: the credential has no name for its bearer.
    pub id: Option<String>,
    /// The method that established the name; `None` if it is unknown.
    pub method: Option<AuthMethod>,
    /// The claims of a JSON Web Token; empty for other credentials.
    pub claims: Map<String, Value>,
    /// Header fields that came with it, such as those of an auth backend's response; `None` if there are
    /// none. Shared by all requests that got the same response.
    pub fields: Option<Arc<HeaderMap>>,
    /// When the credential was issued (claim `iat`), for revoking those issued before a time.
    pub issued: Option<SystemTime>,
    /// When the credential expires; `None`: never.
    pub expires: Option<SystemTime>,
}

impl AuthMethod {
    /// The method's key in gateway.yaml: a word without a colon, different for each method.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::SignedUrl => "signed_url",
            Self::Token => "tokens",
            Self::Basic => "basic",
            Self::Forward => "forward",
        }
    }
}

impl Identity {
    /// Returns an identity with a name and nothing else.
    pub fn named(id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..Self::default() }
    }

    /// Returns the name together with the method that established it, for what is counted or kept for one
    /// identity: the static token `cron` and a JSON Web Token with `sub: cron` are two. `None` without a name.
    pub fn account(&self) -> Option<String> {
        let id = self.id.as_deref().filter(|id| !id.is_empty())?;
        Some(format!("{}:{id}", self.method.map_or("", AuthMethod::as_str)))
    }

    /// Returns the header fields that came with the credential, except those whose value is not text.
    pub fn attributes(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        let fields = self.fields.iter().flat_map(|fields| fields.iter());
        fields.filter_map(|(name, value)| Some((name, str::from_utf8(value.as_bytes()).ok()?)))
    }

    /// Returns the value of one of the [`attributes`](Self::attributes).
    pub fn attribute(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.fields.as_ref()?.get(name)?.as_bytes()).ok()
    }

    /// Returns a claim as text for a template: a string as it is, a number or a boolean in its JSON
    /// form. A path with dots leads into objects (`realm.name`); a claim whose own name has them wins.
    /// `None` for what is absent, null, an array or an object.
    pub fn claim(&self, path: &str) -> Option<String> {
        match self.value(path)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Returns a claim that lists strings, such as channels: an array of them, or one string with
    /// spaces between (the form of `scope`, RFC 8693, section 4.2). `None` if it is anything else. A path
    /// leads into objects, as that of [`Self::claim`].
    pub fn list(&self, path: &str) -> Option<Vec<String>> {
        match self.value(path)? {
            Value::String(text) => Some(text.split_ascii_whitespace().map(str::to_owned).collect()),
            Value::Array(values) => {
                values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        }
    }

    fn value(&self, path: &str) -> Option<&Value> {
        self.claims.get(path).or_else(|| {
            let (first, rest) = path.split_once('.')?;
            rest.split('.').try_fold(self.claims.get(first)?, |value, name| value.get(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::{AuthMethod, Identity};

    #[test]
    fn a_name_of_another_method_is_another_account() {
        let account = |method, id| Identity { method, ..Identity::named(id) }.account();
        assert_eq!(account(Some(AuthMethod::Jwt), "cron").as_deref(), Some("jwt:cron"));
        assert_ne!(
            account(Some(AuthMethod::Jwt), "cron"),
            account(Some(AuthMethod::Token), "cron")
        );
        assert_ne!(account(Some(AuthMethod::Jwt), "cron"), account(None, "jwt:cron"));
        assert_eq!(account(Some(AuthMethod::Jwt), ""), None);
        assert_eq!(Identity::default().account(), None);
    }

    #[test]
    fn an_attribute_is_text() {
        let mut fields = HeaderMap::new();
        let bytes: &[u8] = b"\xe4";
        for (name, value) in
            [("x-user", "M\u{fc}ller".as_bytes()), ("x-empty", b""), ("x-bytes", bytes)]
        {
            fields.insert(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let identity = Identity { fields: Some(Arc::new(fields)), ..Identity::default() };
        assert_eq!(identity.attribute("x-user"), Some("M\u{fc}ller"));
        assert_eq!(identity.attribute("x-empty"), Some(""));
        for absent in ["x-bytes", "x-other", "not a name"] {
            assert_eq!(identity.attribute(absent), None, "{absent}");
        }
        let mut all: Vec<_> = identity.attributes().map(|(name, _)| name.as_str()).collect();
        all.sort_unstable();
        assert_eq!(all, ["x-empty", "x-user"]);
        assert_eq!(Identity::default().attributes().count(), 0);
    }

    fn identity() -> Identity {
        let claims = json!({
            "sub": "42", "org": 7, "admin": true, "none": null, "realm": {"name": "a", "deep": {"er": "b"}},
            "https://app/x.y": "url", "channels": ["a", "b*"], "mercure": {"subscribe": ["c"]}, "scope": "read  write", "mixed": ["a", 1],
        });
        let claims = claims.as_object().expect("an object").clone();
        Identity { claims, ..Identity::default() }
    }

    #[test]
    fn a_claim_is_text_for_a_template() {
        for (path, text) in [
            ("sub", Some("42")),
            ("org", Some("7")),
            ("admin", Some("true")),
            ("realm.name", Some("a")),
            ("realm.deep.er", Some("b")),
            ("https://app/x.y", Some("url")),
            ("realm", None),
            ("none", None),
            ("channels", None),
            ("realm.none", None),
            ("sub.x", None),
            ("", None),
        ] {
            assert_eq!(identity().claim(path).as_deref(), text, "{path}");
        }
    }

    #[test]
    fn a_list_is_an_array_of_strings_or_words() {
        let list = |name| identity().list(name);
        assert_eq!(list("channels").expect("a list"), ["a", "b*"]);
        assert_eq!(list("scope").expect("a list"), ["read", "write"]);
        assert_eq!(list("mercure.subscribe").expect("a list"), ["c"]);
        assert_eq!(list("mixed"), None, "a part of a list is not the list");
        assert_eq!(list("org"), None);
        assert_eq!(list("absent"), None);
    }
}
