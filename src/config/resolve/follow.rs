//! Resolves `follow`: the patterns that an events route follows before anybody asks.

use ssegate_hub::ChannelName;
use ssegate_strict_yaml::{At, Field, quoted};

use super::resolver::Resolver;
use crate::route::{self, EventsSettings, EventsSource};

impl Resolver<'_> {
    /// Returns the patterns as the source takes them, for a route with these settings.
    pub(super) fn follow(
        &self,
        field: Field<Vec<Field<String>>>,
        settings: &EventsSettings,
    ) -> Vec<ChannelName> {
        const WHAT: &str = "name patterns of its channels, such as [\"orders:*\"]";
        let Some(At { location, value }) = field.written() else { return Vec::new() };
        if settings.source == EventsSource::Log {
            self.note(&location, "is not needed with source: stream: Redis keeps the entries");
        } else if settings.source == EventsSource::PubSub && settings.history.is_none() {
            self.note(&location, "needs a history to keep what comes; remove history: off");
        }
        if value.is_empty() {
            self.note(&location, format!("the list is empty; {WHAT}, or remove it"));
        }
        let patterns: Vec<_> = value.into_iter().filter_map(Field::written).collect();
        let patterns =
            patterns.iter().filter_map(|at| self.parse(at, |text| pattern(text, settings)));
        patterns.collect()
    }
}

fn pattern(text: &str, settings: &EventsSettings) -> Result<ChannelName, String> {
    let EventsSettings { channels, strip_prefix, .. } = settings;
    let pattern = route::with_prefix(strip_prefix, text);
    let pattern =
        ChannelName::new(&pattern).map_err(|error| format!("not a valid pattern: {error}"))?;
    if pattern.as_str().starts_with(route::OWN_NAMES) {
        return Err(format!(
            "channels that begin with {} are for gateways; nothing of them is kept",
            route::OWN_NAMES
        ));
    }
    if !route::is_within(text, channels) {
        let channels: Vec<_> = channels.iter().map(|channel| quoted(channel)).collect();
        return Err(format!(
            "{} matches channels that this route does not have; write one that stays within {}",
            quoted(text),
            channels.join(" or ")
        ));
    }
    Ok(pattern)
}
