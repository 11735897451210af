//! The URLs to follow: given as such, or found for a channel in gateway.yaml.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ssegate::config::Settings;
use ssegate::http_client;
use ssegate::route::{EventsSettings, EventsSource, RouteSettings, Target, TemplateText};
use ssegate::server::ListenerSettings;
use ssegate_hub::ChannelName;

use crate::cli::config::ConfigFile;
use crate::cli::{CliError, output};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A stream to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamTarget {
    /// The argument, as the user wrote it.
    pub(super) name: String,
    pub(super) url: Uri,
    /// The source of its route; `None` if the configuration was not asked.
    pub(super) source: Option<EventsSource>,
}

/// Resolves URLs, paths and channels to URLs. Loads the configuration only if not all are URLs.
pub(super) fn resolve(
    arguments: &[String],
    config: &ConfigFile,
) -> Result<Vec<StreamTarget>, CliError> {
    let is_url = |argument: &String| argument.contains("://") || is_host_and_port(argument);
    let settings = if arguments.iter().all(is_url) { None } else { Some(config.load_or_dev()?) };
    let stream = |argument: &String| {
        let (url, source) = match &settings {
            Some(settings) if argument.starts_with('/') => (url_of_path(argument, settings)?, None),
            Some(settings) if !is_url(argument) => {
                let (url, events) = stream_of_channel(argument, settings).ok_or_else(|| {
                    CliError::Usage(format!(
                        "{argument}: no events route in the configuration serves this channel"
                    ))
                })?;
                if has_glob(argument) && !events.patterns {
                    output::to_stderr(format_args!(
                        "ssegate: {argument}: no route with patterns: true serves it, so it is the channel with \
                         just this name"
                    ));
                }
                (url, Some(events.source))
            }
            _ => (url(argument)?, None),
        };
        Ok(StreamTarget { name: argument.clone(), url, source })
    };
    arguments.iter().map(stream).collect()
}

/// Whether the argument is `host:port/path`, a URL without its scheme, rather than a channel name.
fn is_host_and_port(argument: &str) -> bool {
    let Some((authority, _)) = argument.split_once('/') else { return false };
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    is_port && (is_address || host.eq_ignore_ascii_case("localhost") || host.contains('.'))
}

/// Parses a URL. Without a scheme it is `http`, as in curl.
fn url(argument: &str) -> Result<Uri, CliError> {
    let has_scheme = argument.contains("://");
    let text = if has_scheme { argument.to_owned() } else { format!("http://{argument}") };
    let uri: Uri = text
        .parse()
        .map_err(|error| CliError::Usage(format!("{argument}: invalid URL: {error}")))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        let error = format!("{argument}: only http:// and https:// URLs can be followed");
        return Err(CliError::Usage(error));
    }
    match http_client::invalid_port(&uri) {
        Some(port) => {
            Err(CliError::Usage(format!("{argument}: invalid port {port}: the maximum is 65535")))
        }
        None => Ok(uri),
    }
}

/// The URL of a path at the first listener. A leading slash means a path, never a channel name.
fn url_of_path(path: &str, settings: &Settings) -> Result<Uri, CliError> {
    let listener = settings.listeners.first();
    let listener = listener
        .ok_or_else(|| CliError::Usage(format!("{path}: the configuration has no listener")))?;
    url(&format!("{}{path}", origin(listener)))
}

/// The URL of a channel at the first listener, as [`stream_of_channel`] finds it.
pub(in crate::cli) fn url_of_channel(channel: &str, settings: &Settings) -> Option<Uri> {
    stream_of_channel(channel, settings).map(|(url, _)| url)
}

/// The URL of a channel at the first listener, and its route: the first events route that serves it. A route with the
/// channel in its path is preferred to one with it in the query. For a name that may be a pattern, a route with
/// `patterns` comes before all others. `None` if no route serves it.
fn stream_of_channel<'a>(
    channel: &str,
    settings: &'a Settings,
) -> Option<(Uri, &'a EventsSettings)> {
    let origin = origin(settings.listeners.first()?);
    let routes = settings.routes.iter().filter_map(|route| path_to(route, channel));
    let may_be_pattern = has_glob(channel);
    // Among equals the first.
    let (path, events) = routes
        .min_by_key(|(path, events)| (may_be_pattern && !events.patterns, path.contains('?')))?;
    Some((format!("{origin}{path}").parse().ok()?, events))
}

/// Whether a route with `patterns` would take the name for a pattern.
fn has_glob(name: &str) -> bool {
    ChannelName::new(name).is_ok_and(|name| name.has_glob())
}

/// The origin at which a client on this machine reaches a listener: `https://127.0.0.1:8443`.
pub(in crate::cli) fn origin(listener: &ListenerSettings) -> String {
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", reachable(listener.address))
}

/// The address to connect to for a listener at `address`: loopback for the unspecified address.
pub(in crate::cli) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn path_to<'a>(route: &'a RouteSettings, channel: &str) -> Option<(String, &'a EventsSettings)> {
    let Target::Events(events) = &route.target else { return None };
    let allows_get = route.methods.is_empty() || route.methods.contains(&Method::GET);
    // A route with a host matches only if that name resolves to this machine.
    if !allows_get || route.host.is_some() {
        return None;
    }
    let path = events.channels.iter().find_map(|template| fill(&route.path, template, channel));
    Some((path?, events))
}

/// The path for which `template` expands to `channel`. `None` if more than one parameter would be
/// needed.
fn fill(path: &str, template: &str, channel: &str) -> Option<String> {
    let TemplateText { literals, names } = TemplateText::new(template);
    let ([before, after], &[name]) = (&literals[..], &names[..]) else {
        let is_literal = names.is_empty() && literals[0] == channel && !path.contains('{');
        return is_literal.then(|| path.to_owned());
    };
    let value = channel.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
    if value.is_empty() {
        return None;
    }
    let value = utf8_percent_encode(value, RESERVED).to_string();
    let filled = match name.strip_prefix("query.") {
        Some(key) => format!("{path}?{}={value}", utf8_percent_encode(key, RESERVED)),
        None => {
            path.replace(&format!("{{{name}}}"), &value).replace(&format!("{{*{name}}}"), &value)
        }
    };
    (filled != path && !filled.contains('{')).then_some(filled)
}

#[cfg(test)]
mod tests {
    use ssegate::config::Settings;

    use super::{
        fill, is_host_and_port, reachable, stream_of_channel, url, url_of_channel, url_of_path,
    };

    #[test]
    fn a_channel_is_put_into_the_path_or_query_that_its_template_names() {
        let cases = [
            ("/events/{channel}", "{channel}", "news", Some("/events/news")),
            ("/events", "{query.channel}", "news", Some("/events?channel=news")),
            ("/users/{id}", "user:{id}", "user:7", Some("/users/7")),
            ("/users/{id}", "user:{id}", "order:7", None),
            ("/a/{id}", "{id}:b", "x:b", Some("/a/x")),
            ("/all", "news", "news", Some("/all")),
            ("/t/{id}", "orders-{{{id}}}", "orders-{7}", Some("/t/7")),
            ("/all", "news", "other", None),
            ("/{tenant}/{channel}", "{channel}", "news", None),
            ("/{tenant}", "{query.channel}", "news", None),
            ("/{a}/{b}", "{a}:{b}", "x:y", None),
            ("/events/{*channel}", "{channel}", "a", Some("/events/a")),
            ("/events", "{channel}", "news", None),
            ("/events/{channel}", "{channel}", "ä/b c", Some("/events/%C3%A4%2Fb%20c")),
            ("/events/{channel}", "{channel}", "", None),
        ];
        for (path, template, channel, expected) in cases {
            assert_eq!(fill(path, template, channel).as_deref(), expected, "{path} {template}");
        }
    }

    #[test]
    fn a_host_with_a_port_is_a_url_and_not_a_channel() {
        for (argument, expected) in [
            ("127.0.0.1:8080/events/news", true),
            ("localhost:8080/", true),
            ("[::1]:8080/events/news", true),
            ("app.example:443/events", true),
            ("news", false),
            ("orders:7", false),
            ("orders:7/lines", false),
            ("127.0.0.1:x/y", false),
            ("/events/news", false),
        ] {
            assert_eq!(is_host_and_port(argument), expected, "{argument}");
        }
        assert_eq!(url("127.0.0.1:8080/x").expect("a URL"), "http://127.0.0.1:8080/x");
        assert_eq!(url("https://[::1]:8443/x").expect("a URL"), "https://[::1]:8443/x");
    }

    #[test]
    fn a_path_is_resolved_at_the_first_listener() {
        let url = url_of_path("/orders/7?x=y", &Settings::dev(None)).expect("a URL");
        assert_eq!(url, "https://127.0.0.1:8443/orders/7?x=y");
    }

    #[test]
    fn a_route_with_the_channel_in_its_path_is_preferred_to_one_with_it_in_the_query() {
        let settings = Settings::dev(None);
        let url = url_of_channel("news", &settings).expect("a route");
        assert_eq!(url, "https://127.0.0.1:8443/events/news");
    }

    #[test]
    fn a_pattern_is_followed_where_a_route_has_patterns() {
        let text = "listeners: [{ address: 127.0.0.1:80 }]\nredis: { url: \"redis://h\" }\nroutes:\n\
            - { path: \"/orders/{id}\", events: { channels: [\"orders:{id}\"] } }\n\
            - { path: /events, events: { channels: [\"{query.channel}\"], patterns: true } }\n";
        let settings = ssegate::config::parse(text, "f", &|_| None).expect("a valid file");
        for (channel, url, patterns) in [
            ("orders:7", "http://127.0.0.1:80/orders/7", false),
            ("orders:*", "http://127.0.0.1:80/events?channel=orders%3A%2A", true),
            ("news", "http://127.0.0.1:80/events?channel=news", true),
        ] {
            let (found, events) = stream_of_channel(channel, &settings).expect(channel);
            assert_eq!((found.to_string().as_str(), events.patterns), (url, patterns), "{channel}");
        }
        let settings = Settings::dev(None);
        let (found, events) = stream_of_channel("a[1]", &settings).expect("a channel of that name");
        assert!(!events.patterns, "{found}");
    }

    #[test]
    fn the_unspecified_address_is_reached_at_loopback() {
        for (address, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(address.parse().expect(address)).to_string(), expected);
        }
    }
}
