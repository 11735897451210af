//! `source` and `sharded`: which of them go together, and with which `redis.url`.

use super::{mistakes, settings, with_routes};

const BUS: &str = "embedded://127.0.0.1:6380";
const CLUSTER: &str = "redis+cluster://r";

fn config(url: &str, events: &str) -> String {
    let text = with_routes(&format!("- {{path: /, events: {{channels: [a], {events}}}}}\n"));
    text.replace("redis://r", url)
}

#[test]
fn what_a_source_cannot_have_is_explained() {
    for (url, events, expected) in [
        (BUS, "source: recorded", "source: is not supported with embedded://"),
        (
            CLUSTER,
            "source: recorded",
            "source: is not supported with redis+cluster:// without sharded: true",
        ),
        (CLUSTER, "sharded: true, source: stream", "sharded: is not supported with source: stream"),
        (CLUSTER, "sharded: true, patterns: true", "Redis has no patterns of sharded channels"),
        (CLUSTER, "sharded: true, follow: [\"a*\"]", "Redis has no patterns of sharded channels"),
        (
            CLUSTER,
            "sharded: true, source: recorded, follow: [\"a*\"]",
            "Redis has no patterns of sharded channels",
        ),
        (BUS, "sharded: true, source: recorded", "sharded: is not supported with embedded://"),
        (BUS, "sharded: true", "sharded: is not supported with embedded://"),
    ] {
        let report = mistakes(&config(url, events));
        assert!(report.contains(expected), "{url} {events}\n{report}");
    }
}

#[test]
fn what_goes_together_is_accepted() {
    for (url, events) in [
        (CLUSTER, "source: stream"),
        (CLUSTER, "sharded: true"),
        (CLUSTER, "patterns: true"),
        (CLUSTER, "sharded: true, source: recorded"),
        ("redis://r", "sharded: true"),
        ("redis://r", "sharded: true, source: recorded"),
        ("redis://r", "source: recorded, follow: [a]"),
        (BUS, "source: stream"),
    ] {
        assert_eq!(settings(&config(url, events)).routes.len(), 1, "{url} {events}");
    }
    let alone = format!("fleet: off\n{}", config("redis://r", "sharded: true"));
    assert_eq!(settings(&alone).routes.len(), 1);
}
