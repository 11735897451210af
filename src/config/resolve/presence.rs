//! Resolves `presence`: who listens to the channels of an events route.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use ssegate_strict_yaml::{At, Field, KeyLocation, Sets as _, quoted};

use super::resolver::Resolver;
use super::secret;
use super::template;
use crate::config::file::PresenceFile;
use crate::http_client::invalid_port;
use crate::route::{EventsSettings, EventsSource, PresenceSettings, ServerChoice, Target};
use crate::webhook::Webhook;

/// The longest grace: a member that has left should not be shown for longer.
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
        match target {
            Some(Target::Events(events)) => {
                if let Some(why) = unfit(events, &settings) {
                    self.note(&location, why);
                }
                if let ServerChoice::Named(name) = &events.server {
                    let why = format!(
                        "is kept at the server of redis.url, and the channels are at {name}; remove `redis: {name}` of \
                         events, or presence"
                    );
                    self.note(&location, why);
                }
                if events.server == ServerChoice::ByName && settings.has_events {
                    const WHY: &str = "is not supported with redis.shards: who joins and leaves is published at the \
                                       first server; remove events, or ask at the path of a stream with /presence";
                    self.note(&location.child("events"), WHY);
                }
            }
            Some(_) => {
                self.note(&location, "needs events on the same route, whose members are known")
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
                "is longer than 10m; a member would be shown long after it left",
            );
        }
        let what = "set what a member is called, such as \"{auth.id}\"";
        let identify =
            self.required(std::mem::take(&mut file.identify), &location, "identify", what)?;
        settings.identify = self.parse(&identify, identify_of)?;
        self.webhooks(file, &location, &mut settings)?;
        Some(Arc::new(settings))
    }

    /// Returns `None` after a mistake.
    fn webhooks(
        &self,
        file: PresenceFile,
        location: &KeyLocation,
        settings: &mut PresenceSettings,
    ) -> Option<()> {
        if file.on_occupied.is_absent() && file.on_vacated.is_absent() {
            if let Some(location) = file.key.location() {
                self.note(location, "signs webhooks; set on_occupied or on_vacated, too");
            }
            return Some(());
        }
        let what = "set the secret with which webhooks are signed, such as \
                    ${PRESENCE_KEY:?openssl rand -base64 32}";
        let key = self.required(file.key, location, "key", what);
        if let Some(key) = &key {
            self.has_secret(&key.location);
        }
        let key = key.and_then(|key| self.parse(&key, secret::shared));
        let url = |field: Field<String>| match field {
            Field::Absent => Some(None),
            field => self.parse(&field.written()?, webhook_url).map(Some),
        };
        let (occupied, vacated) = (url(file.on_occupied), url(file.on_vacated));
        let key = key?;
        let webhook = |url| Arc::new(Webhook { url, key: key.clone() });
        settings.on_occupied = occupied?.map(webhook);
        settings.on_vacated = vacated?.map(webhook);
        Some(())
    }
}

/// Why the members of a route cannot be known so.
fn unfit(events: &EventsSettings, settings: &PresenceSettings) -> Option<&'static str> {
    if events.patterns {
        return Some("is for channels by name; remove patterns: true of events");
    }
    if events.sharded {
        return Some("is not supported with sharded: true; remove one of them");
    }
    let is_log = events.source != EventsSource::PubSub;
    (is_log && settings.has_events)
        .then_some("can send events only with source: pubsub; remove events, or ask at the path of a stream with /presence")
}

fn identify_of(text: &str) -> Result<String, String> {
    const FORM: &str =
        "use {auth.id} or {claim.name}: what a client says of itself alone could be anybody";
    if !text.contains("{auth.") && !text.contains("{claim.") {
        let why = match text.contains('{') {
            true => "is not of the credential",
            false => "is the same for everybody",
        };
        return Err(format!("{} {why}; {FORM}", quoted(text)));
    }
    template::check(text, &[], true)?;
    match text.contains("{query.") {
        true => Err(format!("{} has a part of the query; {FORM}", quoted(text))),
        false => Ok(text.to_owned()),
    }
}

fn webhook_url(text: &str) -> Result<Uri, String> {
    const FORM: &str = "use a form like https://app.example/hooks/presence";
    // A user and a password, and what may be a secret in the query, are not repeated.
    let shown = quoted(text.split('?').next().unwrap_or_default());
    let (_, rest) = text.split_once("://").unwrap_or_default();
    if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
        return Err(
            "a user and a password are not supported here: the signature says who sends".to_owned()
        );
    }
    let uri: Uri = text.parse().map_err(|_| format!("{shown} is not a URL; {FORM}"))?;
    let is_whole = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match is_whole && invalid_port(&uri).is_none() {
        true => Ok(uri),
        false => Err(format!("{shown} is not a URL; {FORM}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{identify_of, webhook_url};

    #[test]
    fn a_webhook_has_a_whole_url_and_no_message_contains_a_secret() {
        for good in ["http://127.0.0.1:8000", "https://app.example/hooks?token=x"] {
            assert!(webhook_url(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "/hooks",
            "app.example/hooks",
            "ftp://app.example/",
            "http://",
            "http://a:99999/?hunter2",
            "https://u:hunter2@app.example/",
            "x y?hunter2",
        ] {
            let message = webhook_url(wrong).expect_err(wrong);
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

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
