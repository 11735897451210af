//! Storms over several gateways at one Redis: whichever of them a client comes to, nothing is missing.

use std::time::Duration;

use rustix::process::Signal;

use super::sea::{FULL, Force, SHORT, Sea, Source};
use super::storm;
use crate::support::{Gateway, Redis, SOON, within};

/// Three gateways at one Redis, which are replaced one after the other so many times: each new one follows what
/// the others follow before clients come, and the old one drains. No gap is told to anybody.
async fn replacements_of_gateways(force: Force, replacements: usize) {
    let redis = Redis::start().await;
    let start = || async {
        let settings = "sse: { history: { count: 20000 }, queue: { bytes: 16MiB } }\ndrain: 1s";
        // What only another gateway has heard is a gap: so each follows all from the start.
        let routes =
            "- path: /events\n  events: { channels: [\"{query.channel}\"], follow: [\"c*\"] }\n";
        let gateway = Gateway::build(&redis).routes(routes).settings(settings).start().await;
        gateway.becomes(200, SOON).await;
        gateway
    };
    let mut gateways = [start().await, start().await, start().await];
    let addresses = gateways.iter().map(|gateway| gateway.address("http")).collect();
    let sea = Sea::new(Source::PubSub, force, addresses);
    storm(&sea, force, &redis, async {
        for at in 0..replacements {
            let new = start().await;
            // Until it has heard more than any client may be behind, on a busy machine.
            let heard = sea.next(0) + 2 * force.per_second / force.channels;
            within(4 * SOON, "messages", async {
                while sea.next(0) < heard {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            let mut old = std::mem::replace(&mut gateways[at % 3], new);
            sea.gateways.write().unwrap()[at % 3] = gateways[at % 3].address("http");
            old.signal(Signal::TERM);
            assert_eq!(old.exit_within(2 * SOON).await.code(), Some(0));
        }
    })
    .await;
    for gateway in &gateways {
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("ssegate_gaps_total", &["reason=\"unknown_id\""]), 0.0);
        assert!(metrics.sum("ssegate_fleet_clients_total", &["result=\"complete\""]) > 0.0);
    }
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_are_replaced_lose_nothing_of_what_is_published() {
    Box::pin(replacements_of_gateways(SHORT, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_three_gateways_that_are_replaced_six_times() {
    Box::pin(replacements_of_gateways(FULL, 6)).await;
}
