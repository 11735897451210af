#![no_main]
//! Paths and queries, through routes with templates, to channels.

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use ssegate::route::{Matched, Router, Target};

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let text = "
redis: { url: \"redis://127.0.0.1:6379\" }
listeners: [{ address: \"127.0.0.1:0\" }]
routes:
  - path: /events
    events: { channels: [\"{query.channel}\"], strip_prefix: \"app:\" }
  - path: /patterns/{name}
    events: { channels: [\"{name}\", \"x.{query.a}.{query.b}\"], patterns: true }
  - path: /{a}/{b}/{*rest}
    events: { channels: [\"{a}:{b}:{rest}\"], max_channels: 3 }
";
    let settings = ssegate::config::parse(text, "gateway.yaml", &|_| None).expect("a configuration");
    Router::new(settings.routes).expect("routes")
});

fuzz_target!(|input: (String, String)| {
    let (path, query) = input;
    let path = format!("/{path}");
    if let Matched::Route(route, parameters) = ROUTER.find(Some("a"), &path, &Method::GET, None)
        && let Target::Events(channels) = &route.target
    {
        for topic in channels.topics(&parameters, &query).unwrap_or_default() {
            drop(format!("{topic:?}"));
        }
    }
});
