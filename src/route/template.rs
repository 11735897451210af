//! Names of channels, made from a request: `{channel}`, `user:{id}`, `{query.channel}`.

use super::router::Parameters;
use crate::hub::NameShape;

/// A name with places for what the request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// A parameter of the path.
    Path(String),
    /// A key of the query, each of whose values makes a name.
    Query(String),
}

/// What the request says here is no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotText;

impl Template {
    /// Takes a template apart. Braces that do not match are text: the configuration refuses them.
    pub(super) fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            parts.push(match name.strip_prefix("query.") {
                Some(key) => Part::Query(key.to_owned()),
                None => Part::Path(name.to_owned()),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Self { parts }
    }

    /// A name that it can make, with `value` wherever a request says something.
    pub(super) fn sample(&self, value: &str) -> String {
        let text = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Path(_) | Part::Query(_) => value.to_owned(),
        };
        self.parts.iter().map(text).collect()
    }

    /// What all names have in common that it can make, with `prefix` before them.
    pub(super) fn shape(&self, prefix: &str) -> NameShape {
        let mut shape = vec![prefix.to_owned()];
        for part in &self.parts {
            match (part, shape.last_mut()) {
                (Part::Literal(text), Some(last)) => last.push_str(text),
                _ => shape.push(String::new()),
            }
        }
        NameShape::new(shape)
    }

    /// The names that a request makes of it: one for each combination of the query's values, none
    /// where a value is missing. Stops after `limit` names.
    ///
    /// # Errors
    /// A value that it needs is no text.
    pub(super) fn fill(
        &self,
        path: &Parameters,
        query: &[(String, Option<String>)],
        limit: usize,
    ) -> Result<Vec<String>, NotText> {
        let mut names = vec![String::new()];
        for part in &self.parts {
            let values: Vec<&str> = match part {
                Part::Literal(text) => vec![text],
                Part::Path(name) => path.get(name)?.into_iter().collect(),
                Part::Query(key) => query
                    .iter()
                    .filter(|(name, _)| name == key)
                    .map(|(_, value)| value.as_deref().ok_or(NotText))
                    .collect::<Result<_, _>>()?,
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
    use super::Template;
    use crate::route::router::Parameters;

    #[test]
    fn a_template_is_filled_from_path_and_query() {
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
            ("{query.none}", vec![]),
        ] {
            let names = Template::new(template).fill(&path, &query, 3).expect("text");
            assert_eq!(names, expected, "{template}");
        }
    }
}
