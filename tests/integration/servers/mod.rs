//! Several servers: what each of them has, and what the outage of one costs.

mod function;
mod named;
mod shards;

use crate::support::{EventStream, Gateway, SOON, Via, within};

// printf %s cron-token | sha256sum
const AUTH: &str = "auth: { tokens: [{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }] }";

/// The gaps and the data of the events up to `last`, which is published already or will be.
async fn heard(stream: &mut EventStream, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let event = stream.next_event().await;
        let is_last = event.data == last;
        heard.push(match event.name.as_str() {
            "gap" => format!("gap {}", event.data),
            _ => event.data,
        });
        if is_last {
            return heard;
        }
    }
}

fn gap(channel: &str) -> String {
    format!("gap {{\"reason\":\"redis_away\",\"channels\":[\"{channel}\"]}}")
}

/// Opens a stream, and waits until its id has a part that other gateways know for each server.
async fn open_named(gateway: &Gateway, via: Via, target: &str, parts: usize) -> EventStream {
    let mut stream = gateway.subscribe_via(via, target).await;
    within(SOON, "an id with names", async {
        let is_named = |part: &str| part.splitn(3, '-').nth(2).is_some();
        while stream.last_id().split('*').filter(|part| is_named(part)).count() < parts {
            stream.next_block().await;
        }
    })
    .await;
    stream
}
