//! The warnings of `ssegate check` about `presence`: routes that disagree about a channel.

use super::name_set::NameSet;
use crate::config::Settings;
use crate::route::{EventsSettings, PresenceSettings, RouteSettings, Target};

/// The warnings, one line each.
pub(super) fn presence_warnings(settings: &Settings) -> Vec<String> {
    let routes: Vec<_> = settings.routes.iter().enumerate().filter_map(of_route).collect();
    let pairs = routes.iter().enumerate().flat_map(|(at, one)| {
        let others = routes[at + 1..].iter();
        others.filter_map(move |other| disagreement(one, other))
    });
    pairs.collect()
}

/// A route with presence.
struct Present<'a> {
    name: String,
    events: &'a EventsSettings,
    presence: &'a PresenceSettings,
}

fn of_route((at, route): (usize, &std::sync::Arc<RouteSettings>)) -> Option<Present<'_>> {
    let Target::Events(events) = &route.target else { return None };
    let name = format!("routes[{at}] ({})", route.path);
    Some(Present { name, events, presence: route.presence.as_deref()? })
}

/// The warning about two routes that can have the same channel, and differ in a setting that must be the same for all
/// its members.
fn disagreement(one: &Present<'_>, other: &Present<'_>) -> Option<String> {
    let (ours, theirs) = (one.presence, other.presence);
    let keys = [
        ("presence.events", ours.has_events == theirs.has_events),
        ("presence.grace", ours.grace == theirs.grace),
        ("presence.max_members", ours.max_members == theirs.max_members),
        ("presence.on_occupied", ours.on_occupied == theirs.on_occupied),
        ("presence.on_vacated", ours.on_vacated == theirs.on_vacated),
        ("events.strip_prefix", one.events.strip_prefix == other.events.strip_prefix),
    ];
    let keys: Vec<&str> =
        keys.iter().filter(|(_, is_same)| !is_same).map(|(key, _)| *key).collect();
    if keys.is_empty() || one.events.source != other.events.source {
        return None;
    }
    let set =
        |route: &Present<'_>, template: &str| NameSet::new(&route.events.strip_prefix, template);
    let templates = one.events.channels.iter();
    let mut pairs = templates
        .flat_map(|mine| other.events.channels.iter().map(move |template| (mine, template)));
    let (mine, template) =
        pairs.find(|(mine, template)| set(one, mine).meets(&set(other, template)))?;
    Some(format!(
        "{} and {} can have the same channel (\"{mine}\", \"{template}\"), and differ in {}: of such a channel the \
         route counts on which a stream was opened last; give both the same, or keep their channels apart with a prefix",
        one.name,
        other.name,
        keys.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::presence_warnings;
    use crate::config;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// The warnings for two routes, each with its channels, more of `events` and more of `presence`.
    fn warnings(routes: [(&str, &str, &str); 2]) -> Vec<String> {
        let route = |(at, (channels, events, presence)): (usize, (&str, &str, &str))| {
            format!(
                "- path: /{at}/{{id}}\n  events: {{channels: [\"{channels}\"]{events}}}\n  \
                 presence: {{identify: \"{{auth.id}}\"{presence}}}\n"
            )
        };
        let routes: String = routes.into_iter().enumerate().map(route).collect();
        let yaml = format!(
            "redis: {{url: redis://r}}\nlisteners: [address: 127.0.0.1:80]\n\
             auth: {{jwt: {{algorithms: [HS256], keys: {KEY}}}}}\nroutes:\n{routes}"
        );
        presence_warnings(&config::parse(&yaml, "gateway.yaml", &|_| None).expect("a valid file"))
    }

    #[test]
    fn routes_that_disagree_about_a_channel_are_named() {
        let hook = format!(", on_vacated: \"http://a.example/\", key: {KEY}");
        for (one, other, differ) in [
            (("{id}", "", ""), ("news:{id}", "", ""), ""),
            (("{id}", "", ", events: true"), ("news:{id}", "", ""), "presence.events"),
            (("news:{id}", "", ", grace: 1s"), ("news:{id}", "", ""), "presence.grace"),
            (
                ("news:{id}", "", ", max_members: 5"),
                ("{id}", "", &*hook),
                "presence.max_members, presence.on_vacated",
            ),
            (("{id}", ", strip_prefix: \"a:\"", ""), ("a:{id}", "", ""), "events.strip_prefix"),
            // They have no channel in common.
            (("a:{id}", "", ", events: true"), ("b:{id}", "", ""), ""),
            (("{id}", ", strip_prefix: \"a:\"", ""), ("b:{id}", "", ""), ""),
            // One is told in another way.
            (("{id}", ", source: stream", ", grace: 1s"), ("{id}", "", ""), ""),
        ] {
            let warnings = warnings([one, other]);
            assert_eq!(
                warnings.len(),
                usize::from(!differ.is_empty()),
                "{one:?} {other:?} {warnings:?}"
            );
            let Some(warning) = warnings.first() else { continue };
            assert!(
                warning.starts_with("routes[0] (/0/{id}) and routes[1] (/1/{id}) can"),
                "{warning}"
            );
            assert!(warning.contains(&format!("differ in {differ}: of such")), "{warning}");
        }
    }
}
