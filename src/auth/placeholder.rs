//! `{auth.id}`, `{auth.HEADER}` and `{claim.NAME}`: values of a credential, in the name of a channel or in a header
//! field.

use std::fmt;

use ssegate_auth::Identity;

/// A value that authentication establishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{auth.id}`: who it is.
    Id,
    /// `{auth.HEADER}`: a header field of the auth backend's response.
    Attribute(String),
    /// `{claim.NAME}`: a claim of the token. A name with dots leads into objects.
    Claim(String),
}

/// The credential lacks the value, or the value cannot be part of a channel's name: it is empty, or has control or
/// glob characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLiteral;

impl Placeholder {
    /// Parses the name between the braces; `None` if it does not come from authentication.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "auth.id" {
            return Some(Self::Id);
        }
        if let Some(attribute) = name.strip_prefix("auth.").filter(|name| !name.is_empty()) {
            return Some(Self::Attribute(attribute.to_ascii_lowercase()));
        }
        let claim = name.strip_prefix("claim.").filter(|claim| !claim.is_empty())?;
        Some(Self::Claim(claim.to_owned()))
    }

    /// The value that `identity` has.
    pub fn value(&self, identity: &Identity) -> Option<String> {
        match self {
            Self::Id => identity.id.clone(),
            Self::Attribute(name) => identity.attribute(name).map(str::to_owned),
            Self::Claim(path) => identity.claim(path),
        }
    }

    /// The value, as a part of a channel's name without glob characters.
    ///
    /// # Errors
    /// See [`NotLiteral`].
    pub fn literal(&self, identity: &Identity) -> Result<String, NotLiteral> {
        let is_literal = |value: &String| {
            let is_special = |c: char| c.is_control() || matches!(c, '*' | '?' | '[' | ']' | '\\');
            !value.is_empty() && !value.contains(is_special)
        };
        self.value(identity).filter(is_literal).ok_or(NotLiteral)
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("{auth.id}"),
            Self::Attribute(name) => write!(f, "{{auth.{name}}}"),
            Self::Claim(name) => write!(f, "{{claim.{name}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ssegate_auth::Identity;

    use super::{NotLiteral, Placeholder};

    #[test]
    fn a_value_in_a_name_stands_for_itself_alone() {
        let identity = |sub: &str| {
            let claims = json!({"sub": sub, "org": 7, "list": ["a"]});
            let claims = claims.as_object().expect("an object").clone();
            Identity { claims, ..Identity::named(sub) }
        };
        let literal =
            |name: &str, sub: &str| Placeholder::parse(name).expect(name).literal(&identity(sub));
        assert_eq!(literal("auth.id", "42").as_deref(), Ok("42"));
        assert_eq!(literal("claim.sub", "a b:é").as_deref(), Ok("a b:é"));
        assert_eq!(literal("claim.org", "42").as_deref(), Ok("7"));
        for sub in ["", "*", "a?", "[a", "a]", "\\", "a\nb", "\u{7f}", "a\u{85}"] {
            assert_eq!(literal("auth.id", sub), Err(NotLiteral), "{sub:?}");
        }
        assert_eq!(literal("claim.none", "42"), Err(NotLiteral));
        assert_eq!(literal("claim.list", "42"), Err(NotLiteral));
    }

    #[test]
    fn other_names_come_from_the_request() {
        for name in ["auth", "auth.", "claim.", "claim", "query.claim.x", "authid"] {
            assert_eq!(Placeholder::parse(name), None, "{name}");
        }
    }
}
