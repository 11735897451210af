//! Which routes can follow a channel, for the warnings of `ssegate pub`.

use ssegate::config::Settings;
use ssegate::route::{self, ChannelFollower, EventsSettings, EventsSource};
use ssegate_format::Format;
use ssegate_hub::ChannelName;

/// Warnings for whoever publishes to a channel, one line each. `is_envelope`: the message is a JSON envelope with an
/// event name or an id.
pub(super) fn warnings(settings: &Settings, channel: &str, is_envelope: bool) -> Vec<String> {
    if let Err(error) = ChannelName::new(channel) {
        return vec![format!("no stream can follow this channel: {error}")];
    }
    let all = settings.routes.iter().flat_map(|route| route::streams(route));
    let followers: Vec<_> = all.filter(|one| may_follow(one.events, channel)).collect();
    if followers.is_empty() {
        return vec![format!(
            "no stream can follow {channel:?}: no route in the configuration has such a channel"
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
