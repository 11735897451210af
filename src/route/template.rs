//! Templates of channel names, filled from a request: `{channel}`, `user:{id}`, `{query.channel}`, and from
//! what its credential says: `user:{auth.id}`, `{claim.org}`.

use std::borrow::Cow;

use ssegate_auth::Identity;
use ssegate_hub::NameShape;

use super::channel_error::ChannelError;
use super::parameters::Parameters;
use super::template_text::TemplateText;
use crate::auth::Placeholder;

/// Why a value of a credential cannot stand in a name.
const NOT_A_LITERAL: &str = "the credential lacks a value of the channel's template, or has one that is empty \
                             or has control or glob characters";

/// A channel name with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<TemplatePart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Literal(String),
    /// A parameter of the path.
    Path(String),
    /// A key of the query. Each of its values makes a name.
    Query(String),
    /// A value of the client's credential.
    Credential(Placeholder),
}

impl Template {
    /// Parses a template. Unbalanced braces are literal text; the configuration rejects them.
    pub(super) fn new(text: &str) -> Self {
        let TemplateText { literals, names } = TemplateText::new(text);
        let (mut parts, mut names) = (Vec::new(), names.into_iter());
        for literal in literals {
            if !literal.is_empty() {
                parts.push(TemplatePart::Literal(literal));
            }
            parts.extend(names.next().map(|name| {
                match (name.strip_prefix("query."), Placeholder::parse(name)) {
                    (Some(key), _) => TemplatePart::Query(key.to_owned()),
                    (None, Some(placeholder)) => TemplatePart::Credential(placeholder),
                    (None, None) => TemplatePart::Path(name.to_owned()),
                }
            }));
        }
        Self { parts }
    }

    /// Returns the name with `value` in place of every placeholder.
    pub(super) fn sample(&self, value: &str) -> String {
        let text = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => text.clone(),
            TemplatePart::Path(_) | TemplatePart::Query(_) | TemplatePart::Credential(_) => {
                value.to_owned()
            }
        };
        self.parts.iter().map(text).collect()
    }

    /// Returns the literal parts that all names of the template share, after `prefix`.
    pub(super) fn shape(&self, prefix: &str) -> NameShape {
        NameShape::new(self.literals_after(prefix))
    }

    /// Returns the literal parts that all names of the template share, with anything between two of them.
    pub(super) fn literals(&self) -> Vec<String> {
        self.literals_after("")
    }

    fn literals_after(&self, prefix: &str) -> Vec<String> {
        let mut shape = vec![prefix.to_owned()];
        for part in &self.parts {
            match (part, shape.last_mut()) {
                (TemplatePart::Literal(text), Some(last)) => last.push_str(text),
                _ => shape.push(String::new()),
            }
        }
        shape
    }

    /// Whether a part of the name comes from the client's credential.
    pub(super) fn names_identity(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, TemplatePart::Credential(_)))
    }

    /// Fills the template from a credential alone; `None` where it does not have a value, or a part comes from
    /// elsewhere.
    pub(super) fn of_identity(&self, identity: &Identity) -> Option<String> {
        let value = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => Some(text.clone()),
            TemplatePart::Credential(placeholder) => {
                placeholder.value(identity).filter(|value| !value.is_empty())
            }
            TemplatePart::Path(_) | TemplatePart::Query(_) => None,
        };
        self.parts.iter().map(value).collect()
    }

    /// Fills the template from a request. Returns a name for each combination of the query's values, and
    /// none where a value is missing. Stops after `limit` names.
    ///
    /// # Errors
    /// A value is not valid UTF-8, or the client's credential does not have it.
    pub(super) fn fill(
        &self,
        path: &Parameters,
        query: &[(String, Option<String>)],
        identity: Option<&Identity>,
        limit: usize,
    ) -> Result<Vec<String>, ChannelError> {
        let mut names = vec![String::new()];
        for part in &self.parts {
            let values: Vec<Cow<'_, str>> = match part {
                TemplatePart::Literal(text) => vec![text.into()],
                TemplatePart::Path(name) => path.get(name)?.into_iter().map(Cow::from).collect(),
                TemplatePart::Query(key) => query
                    .iter()
                    .filter(|(name, _)| name == key)
                    .map(|(_, value)| value.as_deref().map(Cow::from).ok_or(ChannelError::NotUtf8))
                    .collect::<Result<_, _>>()?,
                TemplatePart::Credential(placeholder) => {
                    let literal = identity.and_then(|identity| placeholder.literal(identity).ok());
                    vec![literal.ok_or(ChannelError::NotAllowed(NOT_A_LITERAL))?.into()]
                }
            };
            names = names
                .iter()
                .flat_map(|name| values.iter().map(move |value| format!("{name}{value}")))
                .take(limit)
                .collect();
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use ssegate_auth::Identity;

    use super::Template;
    use crate::route::channel_error::ChannelError;
    use crate::route::parameters::Parameters;

    #[test]
    fn a_template_is_filled_from_the_path_and_the_query() {
        let path = Parameters::from_pairs([("id", "7")]);
        let query: Vec<_> = [("channel", "a"), ("x", "1"), ("channel", "b")]
            .map(|(key, value)| (key.to_owned(), Some(value.to_owned())))
            .into();
        for (template, expected) in [
            ("news", vec!["news"]),
            ("{id}", vec!["7"]),
            ("user:{id}:{query.x}", vec!["user:7:1"]),
            ("{query.channel}", vec!["a", "b"]),
            ("{query.channel}-{query.channel}", vec!["a-a", "a-b", "b-a"]),
            ("orders-{{{id}}}-{query.x}", vec!["orders-{7}-1"]),
            ("{query.none}", vec![]),
        ] {
            let names = Template::new(template).fill(&path, &query, None, 3).expect("text");
            assert_eq!(names, expected, "{template}");
        }
    }

    #[test]
    fn a_template_is_filled_from_a_credential_or_refused() {
        let fill = |template: &str, identity: Option<&Identity>| {
            Template::new(template).fill(&Parameters::default(), &[], identity, 3)
        };
        let known = Identity::named("42");
        assert_eq!(fill("user:{auth.id}", Some(&known)), Ok(vec!["user:42".to_owned()]));
        for (template, identity) in [
            ("user:{auth.id}", None),
            ("user:{claim.none}", Some(&known)),
            ("{auth.id}", Some(&Identity::named("*"))),
            ("{auth.id}", Some(&Identity::named(""))),
        ] {
            assert_eq!(
                fill(template, identity),
                Err(ChannelError::NotAllowed(super::NOT_A_LITERAL)),
                "{template}"
            );
        }
    }
}
