//! Connects the hub to the embedded bus: subscribes to what the hub follows.

use std::cell::RefCell;
use std::rc::Rc;

use ssegate_hub::{Hub, SourceKind, SourceRequest};

use super::broker::Broker;
use super::outlet::Outlet;
use crate::source::Payload;
use crate::source::intake::Intake;

impl Outlet for Rc<RefCell<Intake>> {
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        self.borrow_mut().message(pattern, channel, payload);
    }

    fn flush(&mut self) {
        let mut intake = self.borrow_mut();
        // All copies of a message have arrived.
        intake.end_message();
        intake.flush();
    }
}

/// Delivers messages of the bus to the hub, for ever. Owned by the gateway, which drops it.
pub(crate) async fn feed_hub(broker: Broker, hub: Hub, intake: Intake) {
    let outlet = broker.attach(Rc::new(RefCell::new(intake)));
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
