//! Publishes messages of the demo page from a shard.
//!
//! The embedded bus lives on another thread, so a message crosses over on a bounded channel. Does not
//! know the bus: the gateway owns the receiving end.

use bytes::Bytes;
use ssegate_hub::ChannelName;
use tokio::sync::{mpsc, oneshot};

/// The messages that wait to be published; further ones wait to be queued.
const QUEUE: usize = 16;

/// Publishes messages. A cheap handle.
#[derive(Clone, Debug)]
pub struct Publisher(mpsc::Sender<Publication>);

/// A message to publish.
#[derive(Debug)]
pub struct Publication {
    /// Where to publish it.
    pub channel: ChannelName,
    /// The message.
    pub payload: Bytes,
    receivers: oneshot::Sender<usize>,
}

/// The receiving end no longer exists: the gateway is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the embedded bus has stopped")]
pub(super) struct BusStopped;

impl Publisher {
    /// A publisher, and the receiving end of its messages.
    pub fn new() -> (Self, mpsc::Receiver<Publication>) {
        let (sender, publications) = mpsc::channel(QUEUE);
        (Self(sender), publications)
    }

    /// Publishes a message. Returns the number of its receivers, as `PUBLISH` does.
    ///
    /// # Errors
    /// The bus has stopped.
    pub(super) async fn publish(
        &self,
        channel: ChannelName,
        payload: Bytes,
    ) -> Result<usize, BusStopped> {
        let (receivers, published) = oneshot::channel();
        let publication = Publication { channel, payload, receivers };
        self.0.send(publication).await.map_err(|_closed| BusStopped)?;
        published.await.map_err(|_dropped| BusStopped)
    }
}

impl Publication {
    /// Reports the number of receivers. Called when the message has been published.
    pub fn complete(self, receivers: usize) {
        // An error means that the request was aborted or has timed out.
        self.receivers.send(receivers).unwrap_or_default();
    }
}
