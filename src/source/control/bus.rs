//! The control channel on the embedded bus, which keeps nothing: revocations are in the memory of this
//! gateway alone.

use ssegate_auth::Refusal;
use ssegate_auth::revocation::MAX_MESSAGE_BYTES;
use ssegate_bus::{Broker, Outlet};
use ssegate_hub::ChannelName;
use ssegate_resp::Payload;
use tokio::sync::mpsc;

use super::reader::ControlReader;
use crate::auth::RevocationOrigin;

/// Messages that wait, at most: one turn of a publisher may have many.
const MAX_WAITING: usize = 1024;

/// Receives in the turn of the publisher, and lets the task read.
struct ControlOutlet(mpsc::Sender<Vec<u8>>);

impl Outlet for ControlOutlet {
    fn message(&mut self, _: Option<&[u8]>, _: &[u8], payload: &Payload) {
        let message = match payload {
            // One byte too long is as good as all of them.
            Payload::Whole(bytes) => &bytes[..bytes.len().min(MAX_MESSAGE_BYTES + 1)],
            Payload::TooLarge(_) => &[0; MAX_MESSAGE_BYTES + 1],
        };
        // The publisher does not wait. Its gateway is the only one: what is dropped here was sent by
        // somebody who floods it.
        if self.0.try_send(message.to_vec()).is_err() {
            tracing::debug!("dropped a message on the control channel");
        }
    }
}

/// Follows the control channel for ever. Owned by the gateway, which drops it.
pub(crate) async fn follow(broker: Broker, channel: ChannelName, reader: ControlReader) {
    let (sender, mut messages) = mpsc::channel(MAX_WAITING);
    let outlet = broker.attach(ControlOutlet(sender));
    outlet.subscribe(channel.as_str().as_bytes());
    while let Some(message) = messages.recv().await {
        match message.len() > MAX_MESSAGE_BYTES {
            true => reader.ignore(&Refusal::Malformed("it is too long"), RevocationOrigin::Channel),
            false => reader.act(&message, RevocationOrigin::Channel).await,
        }
    }
}
