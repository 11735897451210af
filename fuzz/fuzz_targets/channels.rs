#![no_main]
//! Paths and queries, through routes with templates, to channels: what is asked for is found, and
//! never more than may be.

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ssegate::query;
use ssegate::route::{Matched, Router};
use ssegate_hub::ChannelName;
use ssegate_hub::Topic;

const PREFIX: &str = "app:";

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let text = "
redis: { url: \"redis://127.0.0.1:6379\" }
listeners: [{ address: \"127.0.0.1:0\" }]
routes:
  - path: /events
    events: { channels: [\"{query.channel}\"], strip_prefix: \"app:\", max_channels: 3 }
  - path: /patterns/{name}
    events: { channels: [\"{name}\", \"x.{query.a}.{query.b}\"], patterns: true, max_channels: 3 }
  - path: /{a}/{b}/{*rest}
    events: { channels: [\"{a}:{b}:{rest}\"], max_channels: 3 }
";
    let settings =
        ssegate::config::parse(text, "gateway.yaml", &|_| None).expect("a configuration");
    Router::new(&settings.routes, None).expect("routes")
});

fn topics(path: &str, query: &str) -> Option<Vec<Topic>> {
    match ROUTER.find(Some("a"), path, &Method::GET, None) {
        Matched::Route(route, parameters) => {
            let channels = route.channels.as_ref().expect("all routes are of events");
            channels.topics(&parameters, query, None).ok()
        }
        Matched::Ambiguous | Matched::NotFound => None,
        Matched::MethodNotAllowed(_) => unreachable!("all methods are allowed"),
    }
}

fn names(path: &str, query: &str) -> Option<Vec<String>> {
    let topics = topics(path, query)?;
    Some(topics.iter().map(|topic| topic.subscription.name.as_str().to_owned()).collect())
}

/// Whether this glob pattern could match something with this beginning: read from the front, up to
/// the first character that is not itself.
fn may_reach(pattern: &str, beginning: &str) -> bool {
    let literal = pattern.split(['*', '?', '[', '\\']).next().unwrap_or_default();
    literal.starts_with(beginning) || beginning.starts_with(literal)
}

fuzz_target!(|input: &str| {
    let (path, query) = input.split_once('?').unwrap_or((input, ""));
    let path = format!("/{path}");
    if let Some(topics) = topics(&path, query) {
        assert!((1..=3).contains(&topics.len()), "{topics:?}");
        for (place, topic) in topics.iter().enumerate() {
            let subscription = &topic.subscription;
            let name = subscription.name.as_str();
            assert!(!topics[..place].contains(topic), "twice: {topics:?}");
            assert!(path != "/events" || name.starts_with(PREFIX), "{name}");
            assert!(!subscription.is_pattern || path.starts_with("/patterns/"), "{name}");
            for reserved in ChannelName::RESERVED {
                assert!(!name.starts_with(reserved), "{name}");
                assert!(!subscription.is_pattern || !may_reach(name, reserved), "{name}");
            }
        }
    }

    // Any name that is a name is found where it is asked for in full.
    let encoded = utf8_percent_encode(input, NON_ALPHANUMERIC).to_string();
    let prefixed = format!("{PREFIX}{input}");
    let expected = ChannelName::new(&prefixed).ok().filter(|_| !input.is_empty());
    let found = names("/events", &format!("channel={encoded}"));
    assert_eq!(found, expected.map(|_| vec![prefixed]));
    let whole = format!("a:{input}:z");
    let expected = ChannelName::new(&whole).ok().filter(|_| !input.is_empty());
    assert_eq!(names(&format!("/a/{encoded}/z"), ""), expected.map(|_| vec![whole]));
    assert_eq!(
        query::parse(&format!("{encoded}={encoded}")),
        [(input.to_owned(), input.to_owned())]
    );
});
