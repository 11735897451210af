//! Resolves `presence`: who listens to the channels of an events route.

use std::sync::Arc;
use std::time::Duration;

use ssegate_strict_yaml::{At, Field, Sets as _, quoted};

use super::resolver::Resolver;
use super::template;
use crate::config::file::PresenceFile;
use crate::route::{EventsSettings, EventsSource, PresenceSettings, Target};

/// The longest grace: a listener that has left should not be shown for longer.
const MAX_GRACE: Duration = Duration::from_secs(600);

impl Resolver<'_> {
    /// Returns `None` where the route has no `presence`, or after a mistake.
    pub(super) fn presence(
        &self,
        field: Field<PresenceFile>,
        target: Option<&Target>,
        has_auth: bool,
    ) -> Option<Arc<PresenceSettings>> {
        let At { location, value: mut file } = field.written()?;
        let mut settings = PresenceSettings::default();
        file.set(&mut settings, &location, self.mistakes);
        if self.is_cluster {
            self.note(
                &location,
                "is not supported with redis+cluster:// yet: who listens is kept in keys, which are at several nodes",
            );
        }
        match target {
            Some(Target::Events(events)) => {
                if let Some(why) = unfit(events, &settings) {
                    self.note(&location, why);
                }
            }
            Some(_) => {
                self.note(&location, "needs events on the same route, whose listeners are known")
            }
            // After another mistake.
            None => {}
        }
        if !has_auth {
            self.note(&location, "needs auth on the route, which says who listens");
        }
        if settings.grace > MAX_GRACE {
            self.note(
                &location.child("grace"),
                "is longer than 10m; a listener would be shown long after it left",
            );
        }
        let what = "set what a listener is called, such as \"{auth.id}\"";
        let identify =
            self.required(std::mem::take(&mut file.identify), &location, "identify", what)?;
        settings.identify = self.parse(&identify, identify_of)?;
        Some(Arc::new(settings))
    }
}

/// Why the listeners of a route cannot be known so.
fn unfit(events: &EventsSettings, settings: &PresenceSettings) -> Option<&'static str> {
    if events.patterns {
        return Some("is for channels by name; remove patterns: true of events");
    }
    let is_log = events.source != EventsSource::PubSub;
    (is_log && settings.has_events)
        .then_some("can send events only with source: pubsub; remove events, or ask at the path of a stream with /presence")
}

fn identify_of(text: &str) -> Result<String, String> {
    const FORM: &str =
        "use {auth.id} or {claim.name}: what a client says of itself alone could be anybody";
    template::check(text, &[], true)?;
    if !text.contains("{auth.") && !text.contains("{claim.") {
        return Err(format!("{} is the same for everybody; {FORM}", quoted(text)));
    }
    match text.contains("{query.") {
        true => Err(format!("{} has a part of the query; {FORM}", quoted(text))),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::identify_of;

    #[test]
    fn a_listener_is_called_what_cannot_be_made_up() {
        for good in ["{auth.id}", "{claim.sub}", "user:{auth.id}", "{claim.org}/{auth.id}"] {
            assert!(identify_of(good).is_ok(), "{good}");
        }
        for wrong in
            ["", "x", "{id}", "{query.id}", "{auth.id}{query.id}", "{auth.id", "{auth.id}{id}"]
        {
            assert!(identify_of(wrong).is_err(), "{wrong}");
        }
    }
}
