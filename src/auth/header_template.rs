//! Header fields that tell the backend who the request is from: `x-user: "{claim.sub}"`.

use http::HeaderValue;
use ssegate_auth::Identity;

use super::placeholder::Placeholder;

/// The value of a header field, with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate(Vec<HeaderPart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum HeaderPart {
    Text(String),
    Value(Placeholder),
}

impl HeaderTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// A placeholder is not one of authentication, or a brace has no partner; the text says so.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "unbalanced braces; write {auth.id} or {claim.name}";
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(FORM)?;
            if before.contains('}') || name.contains('{') {
                return Err(FORM.to_owned());
            }
            let value = Placeholder::parse(name).ok_or_else(|| {
                format!("{{{name}}} is not known here; write {{auth.id}} or {{claim.name}}")
            })?;
            parts.extend([HeaderPart::Text(before.to_owned()), HeaderPart::Value(value)]);
            rest = after;
        }
        if rest.contains('}') {
            return Err(FORM.to_owned());
        }
        parts.push(HeaderPart::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The values of the identity that the template needs.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|part| match part {
            HeaderPart::Text(_) => None,
            HeaderPart::Value(placeholder) => Some(placeholder),
        })
    }

    /// Fills the template; `None` if the identity lacks a value, or has one that no header field can hold as
    /// it is. Whitespace around a value is not a part of it (RFC 9110, section 5.5): ` admin` would be `admin`.
    pub fn fill(&self, identity: &Identity) -> Option<HeaderValue> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                HeaderPart::Text(part) => text.push_str(part),
                HeaderPart::Value(placeholder) => text.push_str(&placeholder.value(identity)?),
            }
        }
        if text.trim_matches([' ', '\t']).len() != text.len() {
            return None;
        }
        // No control characters, so that no value can add a field (RFC 9110, section 5.5).
        HeaderValue::from_str(&text).ok().or_else(|| {
            let is_plain = !text.contains(char::is_control);
            HeaderValue::from_bytes(text.as_bytes()).ok().filter(|_| is_plain)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ssegate_auth::Identity;

    use super::HeaderTemplate;

    #[test]
    fn a_header_field_is_filled_or_left_out() {
        let claims =
            json!({"org": 7, "name": "Zoë", "evil": "a\r\nx-admin: 1", "padded": " admin"});
        let claims = claims.as_object().expect("an object").clone();
        let identity = Identity { claims, ..Identity::named("42") };
        let fill = |text: &str| {
            let value = HeaderTemplate::parse(text).expect(text).fill(&identity);
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        assert_eq!(fill("{auth.id}").as_deref(), Some("42"));
        assert_eq!(fill("org={claim.org};id={auth.id}").as_deref(), Some("org=7;id=42"));
        assert_eq!(fill("{claim.name}").as_deref(), Some("Zoë"));
        assert_eq!(fill("plain").as_deref(), Some("plain"));
        assert_eq!(fill("{claim.none}"), None);
        assert_eq!(fill("{claim.evil}"), None);
        assert_eq!(fill("{claim.padded}"), None);
        assert_eq!(fill("id={claim.padded}").as_deref(), Some("id= admin"));
    }

    #[test]
    fn a_mistake_in_a_template_is_told() {
        for (text, hint) in [
            ("{", "unbalanced"),
            ("a}", "unbalanced"),
            ("}{auth.id}", "unbalanced"),
            ("{{auth.id}}", "unbalanced"),
            ("{query.x}", "{query.x} is not known here"),
            ("{}", "{} is not known here"),
        ] {
            let message = HeaderTemplate::parse(text).expect_err(text);
            assert!(message.contains(hint), "{text}: {message}");
        }
    }
}
