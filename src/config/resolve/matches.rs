//! Finds routes that match the same requests.
//!
//! Pure. A path may be used again with another host or other methods. Two different paths of one host
//! must not be ambiguous.

use std::collections::HashMap;

use http::Method;
use matchit::{InsertError, Router};

/// The requests that a route matches.
#[derive(Debug)]
pub(super) struct Match {
    /// The name of the route in messages: `routes[0]`.
    pub(super) route: String,
    /// The path, with parameters numbered instead of named.
    pub(super) shape: String,
    /// `None`: all.
    pub(super) host: Option<String>,
    /// Empty: all.
    pub(super) methods: Vec<Method>,
}

impl Match {
    /// Whether some request matches both, and neither is more specific.
    fn is_same_as(&self, other: &Self) -> bool {
        let same_methods = self.methods.is_empty() && other.methods.is_empty()
            || self.methods.iter().any(|method| other.methods.contains(method));
        self.has_path_of(other) && same_methods
    }

    fn has_path_of(&self, other: &Self) -> bool {
        self.shape == other.shape && self.host == other.host
    }
}

/// The routes so far.
#[derive(Debug, Default)]
pub(super) struct Matches {
    matches: Vec<Match>,
    /// The paths of each host; finds conflicts between them.
    paths: HashMap<Option<String>, Router<()>>,
}

impl Matches {
    /// Adds a route.
    ///
    /// # Errors
    /// A message that names an earlier route with which it conflicts.
    pub(super) fn add(&mut self, this: Match) -> Result<(), String> {
        if let Some(other) = self.matches.iter().find(|other| other.is_same_as(&this)) {
            return Err(format!(
                "matches the same requests as {}; give it another path, host or methods",
                other.route
            ));
        }
        if !self.matches.iter().any(|other| other.has_path_of(&this)) {
            let router = self.paths.entry(this.host.clone()).or_default();
            if let Err(InsertError::Conflict { with }) = router.insert(&this.shape, ()) {
                return Err(self.conflict(&this, &with));
            }
        }
        self.matches.push(this);
        Ok(())
    }

    fn conflict(&self, this: &Match, with: &str) -> String {
        let is_other = |other: &&Match| other.host == this.host && other.shape == with;
        let other = self.matches.iter().find(is_other);
        let other = other.map_or("an earlier route", |other| other.route.as_str());
        format!(
            "is ambiguous with the path of {other}; where one has a {{parameter}}, the other may have \
             a literal segment, but not {{*rest}} or a parameter of another form"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Match, Matches};

    /// Adds the paths in order, and returns the result of the last one.
    fn last(paths: &[(&str, Option<&str>)]) -> Result<(), String> {
        let mut matches = Matches::default();
        let mut result = Ok(());
        for (index, (shape, host)) in paths.iter().enumerate() {
            let (shape, host) = ((*shape).to_owned(), host.map(str::to_owned));
            let route = format!("routes[{index}]");
            result = matches.add(Match { route, shape, host, methods: Vec::new() });
        }
        result
    }

    #[test]
    fn ambiguous_paths_are_rejected() {
        for paths in [
            [("/x/{0}", None), ("/{*0}", None)],
            [("/{0}", None), ("/x", None)],
            [("/{0}/x", None), ("/{0}/{1}", None)],
            [("/{*0}", None), ("/", None)],
            [("/{0}", None), ("/{*0}", Some("app.example"))],
        ] {
            assert_eq!(last(&paths), Ok(()), "{paths:?}");
        }
        for paths in [
            [("/{0}", None), ("/{*0}", None)],
            [("/x/{*0}", None), ("/x/{0}/y", None)],
            [("/a-{0}", None), ("/{0}-b", None)],
        ] {
            let message = last(&paths).expect_err("a conflict");
            assert!(message.contains("with the path of routes[0];"), "{paths:?}: {message}");
        }
    }
}
