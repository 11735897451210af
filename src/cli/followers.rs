//! Which routes can follow a channel, for the warnings of `ssegate pub`.

use ssegate::config::Settings;
use ssegate::route::{self, ChannelFollower, EventsSettings, EventsSource};
use ssegate_format::Format;
use ssegate_hub::{ChannelName, InvalidChannelName};

/// The longest name of a sharded channel, in bytes.
const MAX_SHARDED_BYTES: usize = ChannelName::MAX_BYTES - ChannelName::SHARDED.len();

/// The warning that no gateway accepts such a name of a channel.
pub(super) fn name_warning(channel: &str, is_sharded: bool) -> Option<String> {
    let name = match is_sharded {
        true => ChannelName::sharded(channel),
        false => ChannelName::new(channel),
    };
    let why = match name.err()? {
        InvalidChannelName::TooLong if is_sharded => {
            format!("the name of the sharded channel is longer than {MAX_SHARDED_BYTES} bytes")
        }
        error => error.to_string(),
    };
    Some(format!("no stream can follow this channel: {why}"))
}

/// Warnings for whoever publishes to a channel with a valid name, one line each. `is_envelope`: the message is a JSON
/// envelope with an event name or an id.
pub(super) fn warnings(
    settings: &Settings,
    (channel, is_sharded): (&str, bool),
    is_envelope: bool,
) -> Vec<String> {
    let all = settings.routes.iter().flat_map(|route| route::streams(route));
    let followers: Vec<_> = all.filter(|one| may_follow(one.events, channel)).collect();
    if followers.is_empty() {
        return vec![format!(
            "no stream can follow {channel:?}: no route in the configuration has such a channel"
        )];
    }
    if is_sharded && !followers.iter().any(|one| one.events.sharded) {
        return vec![format!(
            "no stream can follow {channel:?} as a sharded channel: its routes do not have sharded: true; leave out --sharded"
        )];
    }
    let is_told = |follower: &ChannelFollower<'_>| follower.events.source != EventsSource::Log;
    let told: Vec<_> = followers.into_iter().filter(is_told).collect();
    if told.is_empty() {
        return vec![format!(
            "no stream gets this message: the routes with {channel:?} have source: stream; use XADD"
        )];
    }
    let raw = |follower: &&ChannelFollower<'_>| follower.events.format == Format::Raw;
    match told.iter().find(raw) {
        Some(_) if is_envelope && told.iter().all(|told| raw(&told)) => vec![
            "no route of this channel has format: envelope; clients get the JSON as data"
                .to_owned(),
        ],
        Some(ChannelFollower { route, .. }) if is_envelope => vec![format!(
            "clients of {} get the JSON as data, without the event name and the id: its format is raw",
            route.path
        )],
        _ => Vec::new(),
    }
}

/// The index of the server that has a channel, by the route whose channel name has the longest literal part.
pub(super) fn server_of(settings: &Settings, channel: &str) -> usize {
    let servers = &settings.source.servers;
    let all = settings.routes.iter().flat_map(|route| route::streams(route));
    let literal = |one: &ChannelFollower<'_>| {
        let name = channel.strip_prefix(one.events.strip_prefix.as_str())?;
        one.events.literal_bytes_of(name)
    };
    let followers = all.filter_map(|one| Some((literal(&one)?, one)));
    // The first of those with the same length.
    let best = followers.reduce(|best, one| if one.0 > best.0 { one } else { best });
    let choice = best.map(|(_, one)| &one.events.server);
    let server = choice.and_then(|choice| servers.server_of(choice, channel));
    server.unwrap_or_else(|| servers.server_of_unknown(channel))
}

/// Whether a route follows the channel as a sharded one. If other routes follow it as a plain one, a message reaches
/// only the clients of the sharded ones.
pub(super) fn are_sharded(settings: &Settings, channel: &str) -> bool {
    let mut all = settings.routes.iter().flat_map(|route| route::streams(route));
    all.any(|one| one.events.sharded && may_follow(one.events, channel))
}

/// Whether a request can name the channel, which begins with the prefix of the route.
fn may_follow(events: &EventsSettings, channel: &str) -> bool {
    let name = channel.strip_prefix(events.strip_prefix.as_str());
    name.is_some_and(|name| events.literal_bytes_of(name).is_some())
}

#[cfg(test)]
mod tests {
    use ssegate::config;

    use super::{name_warning, warnings};

    #[test]
    fn who_publishes_to_a_sharded_channel_that_nobody_has_is_warned() {
        let yaml = "redis: {url: redis://r}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n\
            - {path: /plain, events: {channels: [plain]}}\n\
            - {path: /sharded, events: {channels: [sharded], sharded: true}}\n";
        let settings = config::parse(yaml, "gateway.yaml", &|_| None).expect("a valid file");
        let told = |channel, is_sharded| warnings(&settings, (channel, is_sharded), false).pop();
        assert_eq!(told("plain", false), None);
        assert_eq!(told("sharded", true), None);
        let why = told("plain", true).expect("a warning");
        assert!(why.contains("\"plain\" as a sharded channel"), "{why}");
        let why = told("other", true).expect("a warning");
        assert!(why.contains("no route in the configuration has such a channel"), "{why}");
    }

    #[test]
    fn a_name_that_no_gateway_accepts_is_told() {
        for is_sharded in [false, true] {
            assert_eq!(name_warning("a", is_sharded), None);
            let why = name_warning("", is_sharded).expect("a warning");
            assert!(why.ends_with("the channel name is empty"), "{why}");
        }
        let long = "x".repeat(239);
        assert_eq!(name_warning(&long, true), None);
        let why = name_warning(&format!("{long}x"), true).expect("a warning");
        assert!(why.ends_with("the name of the sharded channel is longer than 239 bytes"), "{why}");
        assert_eq!(name_warning(&format!("{long}x"), false), None);
    }
}
