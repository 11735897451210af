//! The control channel on the embedded bus, which stores nothing: revocations are only in the memory
//! of this gateway.

use ssegate_auth::Refusal;
use ssegate_auth::revocation::MAX_MESSAGE_BYTES;
use ssegate_bus::{Broker, Outlet};
use ssegate_hub::ChannelName;
use ssegate_resp::Payload;
use tokio::sync::mpsc;

use super::reader::ControlReader;
use crate::auth::RevocationOrigin;

/// Messages that wait, at most: a publisher may send many without yielding to the reader.
const MAX_WAITING: usize = 1024;

/// Receives messages while the publisher runs, and queues them for the task that reads them.
struct ControlOutlet(mpsc::Sender<Vec<u8>>);

impl Outlet for ControlOutlet {
    fn message(&mut self, _: Option<&[u8]>, _: &[u8], payload: &Payload) {
        let message = match payload {
            // One byte too many is enough to reject the message.
            Payload::Whole(bytes) => &bytes[..bytes.len().min(MAX_MESSAGE_BYTES + 1)],
            Payload::TooLarge(_) => &[0; MAX_MESSAGE_BYTES + 1],
        };
        // The publisher does not wait. There is no other gateway: messages are dropped here only if
        // somebody floods the channel.
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
