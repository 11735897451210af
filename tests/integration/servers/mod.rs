//! Several servers: what each of them has, and what the outage of one costs.

mod named;

use crate::support::EventStream;

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
