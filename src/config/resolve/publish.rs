//! Resolves `publish`: a route that publishes what is sent to it.

use http::Method;
use ssegate_strict_yaml::{At, Field, Sets as _};

use super::resolver::Resolver;
use super::routes;
use super::template::PathPattern;
use crate::config::file::{MethodFile, PublishFile};
use crate::route::PublishSettings;

impl Resolver<'_> {
    /// Returns the methods of a publish route, which is only one.
    pub(super) fn publish_methods(
        &self,
        field: Field<Vec<Field<MethodFile>>>,
    ) -> Option<Vec<Method>> {
        let location = field.location().cloned();
        let methods = routes::methods(field)?;
        if let Some(location) = location.filter(|_| methods != [Method::POST]) {
            self.note(&location, "a publish route has only POST; remove this key");
        }
        Some(vec![Method::POST])
    }

    pub(super) fn publish(
        &self,
        At { location, value: mut file }: At<PublishFile>,
        (pattern, has_auth): (Option<&PathPattern>, bool),
    ) -> Option<PublishSettings> {
        let mut settings = PublishSettings::default();
        file.set(&mut settings, &location, self.mistakes);
        settings.max_stream_entries = file.max_stream_entries.value().map(|count| count.0);
        if !has_auth {
            self.note(&location, "needs auth on the route: without it everybody could publish");
        }
        // After this mistake nothing is noted that it has caused.
        let field = std::mem::take(&mut file.claim);
        let claim = field.written().and_then(|at| self.claim(Field::Written(at), true));
        let parameters = pattern.map(|pattern| pattern.parameters.as_slice());
        settings.channels = match (&file.channels, &claim, parameters) {
            (Field::Absent, _, Some([only])) => vec![format!("{{{only}}}")],
            (Field::Absent, Some(_), Some([])) => Vec::new(),
            // With an invalid path, its parameters are unknown.
            (Field::Absent, _, None) => return None,
            _ => self.channels(file.channels, (pattern, true), &location)?,
        };
        settings.claim = claim;
        Some(settings)
    }
}
