//! Which routes follow a channel, and how they read it.
//!
//! Clients of a route know a channel without the `strip_prefix` of the route, and so do publishers over HTTP.

use super::servers::{ServerChoice, ServerList};
use super::settings::{EventsSettings, RouteSettings, Target};
use super::template_text::TemplateText;

/// A route that follows a channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelFollower<'r> {
    /// The route.
    pub route: &'r RouteSettings,
    /// How it reads the channel.
    pub events: &'r EventsSettings,
}

/// The streams of a route: its own, and those that its backend hands over.
pub fn streams(route: &RouteSettings) -> impl Iterator<Item = ChannelFollower<'_>> {
    let events = match &route.target {
        Target::Events(events) => Some(events),
        Target::Proxy(_) | Target::Publish(_) | Target::Demo => None,
    };
    let handed_over = route.handover.as_ref().map(|handover| &handover.events);
    events.into_iter().chain(handed_over).map(move |events| ChannelFollower { route, events })
}

/// Returns the route that says how a channel is read, for a publisher: the one whose template has the longest
/// literal part of the name, or the first of several. `host` is that of the publishing route: a route of
/// another host has other channels, and one of the same host takes precedence.
pub fn follower_of<'r>(
    routes: impl Iterator<Item = &'r RouteSettings>,
    host: Option<&str>,
    name: &str,
) -> Option<ChannelFollower<'r>> {
    let mut best: Option<((bool, usize), ChannelFollower<'r>)> = None;
    for follower in routes.flat_map(streams) {
        let own = follower.route.host.as_deref();
        if host.is_some() && own.is_some() && own != host {
            continue;
        }
        let Some(literal) = follower.events.literal_bytes_of(name) else { continue };
        let rank = (own == host, literal);
        if best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, follower));
        }
    }
    best.map(|(_, follower)| follower)
}

/// Returns the first of these routes whose channels are at none of these servers.
pub fn first_elsewhere<'r>(
    mut routes: impl Iterator<Item = &'r RouteSettings>,
    servers: &ServerList,
) -> Option<&'r RouteSettings> {
    let is_elsewhere = |choice: &ServerChoice| {
        let is_divided = *choice == ServerChoice::ByName;
        is_divided != servers.divides_names() || servers.server_of(choice, "").is_none()
    };
    routes.find(|route| streams(route).any(|stream| is_elsewhere(&stream.events.server)))
}

/// The pairs of routes that can have the same channel but read it in different ways, each with an example. A
/// message that is published over HTTP is right for the clients of only one of them.
pub fn disagreements<'r>(
    routes: impl Iterator<Item = &'r RouteSettings>,
) -> Vec<(String, ChannelFollower<'r>, ChannelFollower<'r>)> {
    let all: Vec<_> = routes.flat_map(streams).collect();
    let pairs = all
        .iter()
        .enumerate()
        .flat_map(|(index, one)| all[index + 1..].iter().map(move |other| (*one, *other)));
    let differ = |(one, other): &(ChannelFollower<'_>, ChannelFollower<'_>)| {
        let is_one_host = match (&one.route.host, &other.route.host) {
            (Some(host), Some(other)) => host == other,
            _ => true,
        };
        is_one_host && one.events.reading() != other.events.reading()
    };
    pairs
        .filter(differ)
        .filter_map(|(one, other)| {
            let mut names = one.events.examples().chain(other.events.examples());
            let name = names.find(|name| {
                one.events.literal_bytes_of(name).is_some()
                    && other.events.literal_bytes_of(name).is_some()
            });
            Some((name?, one, other))
        })
        .collect()
}

impl EventsSettings {
    /// Whether a request can name the channel, without its prefix. Returns the number of literal bytes of the
    /// template in the name. A backend that hands streams over can name any channel, and so can a claim.
    pub fn literal_bytes_of(&self, name: &str) -> Option<usize> {
        if self.channels.is_empty() {
            return (!name.is_empty()).then_some(0);
        }
        let fitting = self.channels.iter().filter(|template| fits(template, name));
        fitting.map(|template| literal_bytes(template)).max()
    }

    /// The settings that decide how a publisher has to write to the channel.
    fn reading(&self) -> impl PartialEq + use<'_> {
        (&self.strip_prefix, self.source, self.format, self.sharded, &self.server)
    }

    fn examples(&self) -> impl Iterator<Item = String> {
        let any = self.channels.is_empty().then(|| "news".to_owned());
        self.channels.iter().map(|template| example(template)).chain(any)
    }
}

/// Whether `template` makes `name` with some values of its parameters, none of them empty.
fn fits(template: &str, name: &str) -> bool {
    let literals = TemplateText::new(template).literals;
    let [first, between @ .., last] = &literals[..] else { return literals[0] == name };
    let Some(mut name) = name.strip_prefix(first.as_str()) else { return false };
    for literal in between {
        // Behind at least one character, which is the value of the parameter before it.
        let Some(start) = name.char_indices().nth(1).map(|(start, _)| start) else { return false };
        let Some(at) = name[start..].find(literal.as_str()) else { return false };
        name = &name[start + at + literal.len()..];
    }
    name.len() > last.len() && name.ends_with(last.as_str())
}

fn literal_bytes(template: &str) -> usize {
    TemplateText::new(template).literals.iter().map(String::len).sum()
}

/// A name that the template can make.
fn example(template: &str) -> String {
    TemplateText::new(template).literals.join("1")
}

#[cfg(test)]
mod tests {
    use super::{example, fits, literal_bytes};

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
            ("a-{{{id}}}", "a-{7}", true),
            ("a-{{{id}}}", "a-7", false),
            ("{query.channel}", "ä", true),
        ] {
            assert_eq!(fits(template, name), expected, "{template} {name}");
        }
    }

    #[test]
    fn the_literal_part_of_a_template_is_what_stands_outside_of_braces() {
        for (template, bytes, name) in [
            ("news", 4, "news"),
            ("{channel}", 0, "1"),
            ("user:{auth.id}:x", 7, "user:1:x"),
            ("{a}{query.b}", 0, "11"),
            ("a-{{{id}}}", 4, "a-{1}"),
        ] {
            assert_eq!((literal_bytes(template), example(template)), (bytes, name.to_owned()));
            assert!(fits(template, name), "{template}");
        }
    }
}
