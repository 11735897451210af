//! Which routes can follow a channel, for the warnings of `ssegate pub`.

use ssegate::config::Settings;
use ssegate::route::{EventsSettings, EventsSource, RouteSettings, Target};
use ssegate_format::Format;
use ssegate_hub::ChannelName;

/// What the sender of a message should know of those who follow its channel; one line each. `is_envelope`: the
/// message is a JSON envelope with an event name or an id.
pub(super) fn warnings(settings: &Settings, channel: &str, is_envelope: bool) -> Vec<String> {
    if let Err(error) = ChannelName::new(channel) {
        return vec![format!("no stream can follow this channel: {error}")];
    }
    let all: Vec<_> = settings.routes.iter().flat_map(|route| streams(route)).collect();
    let followers: Vec<_> =
        all.into_iter().filter(|(_, events)| may_follow(events, channel)).collect();
    if followers.is_empty() {
        return vec![format!(
            "no stream can follow {channel:?}: no route in the configuration has such a channel"
        )];
    }
    let is_told =
        |(_, events): &(&RouteSettings, &EventsSettings)| events.source == EventsSource::PubSub;
    let told: Vec<_> = followers.into_iter().filter(is_told).collect();
    if told.is_empty() {
        return vec![format!(
            "no stream gets this message: the routes with {channel:?} have source: stream; use XADD"
        )];
    }
    let raw = |(_, events): &&(&RouteSettings, &EventsSettings)| events.format == Format::Raw;
    match told.iter().find(raw) {
        Some(_) if is_envelope && told.iter().all(|told| raw(&told)) => vec![
            "no route of this channel has format: envelope; clients get the JSON as data"
                .to_owned(),
        ],
        Some((route, _)) if is_envelope => vec![format!(
            "clients of {} get the JSON as data, without the event name and the id: its format is raw",
            route.path
        )],
        _ => Vec::new(),
    }
}

/// The streams of a route: its own, and those that its backend hands over.
fn streams(route: &RouteSettings) -> impl Iterator<Item = (&RouteSettings, &EventsSettings)> {
    let events = match &route.target {
        Target::Events(events) => Some(events),
        Target::Proxy(_) | Target::Demo => None,
    };
    let handed_over = route.handover.as_ref().map(|handover| &handover.events);
    events.into_iter().chain(handed_over).map(move |events| (route, events))
}

/// Whether a request can name the channel. A backend that hands streams over can name any.
fn may_follow(events: &EventsSettings, channel: &str) -> bool {
    let Some(name) = channel.strip_prefix(events.strip_prefix.as_str()) else { return false };
    events.channels.is_empty() || events.channels.iter().any(|template| fits(template, name))
}

/// Whether some values of its parameters, none of them empty, make `name` of `template`.
fn fits(template: &str, name: &str) -> bool {
    let Some((first, rest)) = template.split_once('{') else { return template == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut literals =
        rest.split('{').map(|part| part.split_once('}').map_or("", |(_, text)| text));
    let last = literals.next_back().unwrap_or_default();
    for literal in literals {
        // Behind at least one character, which is the value of the parameter before it.
        let Some(start) = name.char_indices().nth(1).map(|(start, _)| start) else { return false };
        let Some(at) = name[start..].find(literal) else { return false };
        name = &name[start + at + literal.len()..];
    }
    name.len() > last.len() && name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_template_fits_the_names_that_its_parameters_can_make() {
        for (template, name, expected) in [
            ("news", "news", true),
            ("news", "new", false),
            ("{channel}", "anything", true),
            ("{channel}", "", false),
            ("user:{id}", "user:7", true),
            ("user:{id}", "user:", false),
            ("user:{id}", "order:7", false),
            ("{a}:{b}", "x:y", true),
            ("{a}:{b}", "x:", false),
            ("{a}:{b}", ":y", false),
            ("{a}:{b}:end", "x:y:end", true),
            ("{a}:{b}:end", "x:end", false),
            ("{a}{b}", "xy", true),
            ("{a}{b}", "x", false),
            ("{query.channel}", "ä", true),
        ] {
            assert_eq!(fits(template, name), expected, "{template} {name}");
        }
    }
}
