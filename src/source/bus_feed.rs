//! Connects the hub to the embedded bus: subscribes to what the hub follows.

use ssegate_bus::{Broker, Outlet};
use ssegate_hub::{Hub, SourceKind, SourceRequest};
use ssegate_resp::Payload;

use super::intake::Intake;

impl Outlet for Intake {
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        Self::message(self, pattern, channel, payload);
    }

    fn flush(&mut self) {
        // All copies of a message have arrived.
        self.end_message();
        Self::flush(self);
    }
}

/// Delivers messages of the bus to the hub, for ever. Owned by the gateway, which drops it.
pub(crate) async fn feed_hub(broker: Broker, hub: Hub, intake: Intake) {
    let outlet = broker.attach(intake);
    loop {
        for (subscription, wish) in hub.source_requests(SourceKind::PubSub).await {
            let name = subscription.name.as_str();
            match (wish, subscription.is_pattern) {
                (SourceRequest::Follow, true) => outlet.psubscribe(name.as_bytes()),
                (SourceRequest::Follow, false) => outlet.subscribe(name.as_bytes()),
                (SourceRequest::Leave, true) => outlet.punsubscribe(name.as_bytes()),
                (SourceRequest::Leave, false) => outlet.unsubscribe(name.as_bytes()),
            }
            if wish == SourceRequest::Follow {
                hub.confirm(subscription.is_pattern, name);
            }
        }
        hub.flush();
    }
}
