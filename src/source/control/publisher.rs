//! Hands the revocations of this gateway to the task that publishes them.

use std::time::{Duration, SystemTime};

use ssegate_auth::revocation::{self, ControlKey, Revocation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Revocations that wait until they are published, at most. A further one waits until there is
/// room.
const MAX_WAITING: usize = 64;

/// How long publishing one revocation may take, including the wait for a Redis that is away.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a revocation that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedRevocation {
    /// How many gateways received it.
    pub gateways: u64,
    /// Why it could not be stored for gateways that did not receive it; `None`: it was stored.
    pub not_stored: Option<String>,
}

/// The reply of the task: the outcome, or why the revocation could not be published.
pub(crate) type PublishReply = Result<PublishedRevocation, String>;

/// A revocation on its way to Redis.
#[derive(Debug)]
pub(crate) struct OutgoingRevocation {
    /// Its signed message.
    pub(crate) message: String,
    /// Until when it is stored.
    pub(crate) expires: SystemTime,
    /// Receives the outcome.
    pub(crate) reply: oneshot::Sender<PublishReply>,
}

/// Publishes revocations to the other gateways. A cheap handle for any thread.
#[derive(Clone, Debug)]
pub struct ControlPublisher {
    key: ControlKey,
    outgoing: mpsc::Sender<OutgoingRevocation>,
}

impl ControlPublisher {
    /// Creates a publisher that signs with `key`. The receiver is for the task that publishes.
    pub(crate) fn new(key: ControlKey) -> (Self, mpsc::Receiver<OutgoingRevocation>) {
        let (outgoing, waiting) = mpsc::channel(MAX_WAITING);
        (Self { key, outgoing }, waiting)
    }

    /// Publishes a revocation, and stores it.
    ///
    /// # Errors
    /// Redis cannot be reached in five seconds, or refuses it.
    pub async fn publish(&self, revocation: &Revocation) -> Result<PublishedRevocation, String> {
        let (reply, published) = oneshot::channel();
        let message = revocation::sign(revocation, &self.key);
        let outgoing = OutgoingRevocation { message, expires: revocation.expires(), reply };
        let publishing = async {
            self.outgoing.send(outgoing).await.ok()?;
            published.await.ok()
        };
        match timeout(TIMEOUT, publishing).await {
            Ok(Some(reply)) => reply,
            Ok(None) => Err("the gateway is shutting down".to_owned()),
            Err(_elapsed) => Err("Redis did not take it within 5 seconds".to_owned()),
        }
    }
}
