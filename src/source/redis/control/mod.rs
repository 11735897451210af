//! The control channel in Redis, followed over connections of its own, reopened for ever.
//!
//! Pub/sub delivers a revocation to a gateway at once, but may lose it. So each revocation is also stored
//! ([`store`]). New ones are read from the store at each connection and every five seconds. The
//! connections of the source do not know about it.

mod publish;
mod store;

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use ssegate_auth::Refusal;
use ssegate_auth::revocation::MAX_MESSAGE_BYTES;
use ssegate_hub::{ChannelName, Subscription};
use ssegate_resp::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use self::store::RevocationStore;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::{SourceError, SourceErrorKind};
use super::keyed::KeyedConnection;
use super::listening::ListeningConnection;
use super::retry::backoff;
use super::server::RedisServer;
use crate::auth::RevocationOrigin;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::control::{ControlReader, OutgoingRevocation};

pub use self::publish::publish_revocation;
pub(super) use self::store::inspect;

/// How often new revocations are read from the store: the longest delay that a lost message causes.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// The reply timeout of one step.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Follows the control channel, and publishes on it.
pub(crate) struct ControlChannel {
    server: RedisServer,
    channel: ChannelName,
    store: RevocationStore,
    reader: ControlReader,
    outgoing: mpsc::Receiver<OutgoingRevocation>,
    health: Health,
    metrics: Metrics,
    // The kind of the error that was logged last, until the next success.
    logged: Option<SourceErrorKind>,
}

impl ControlChannel {
    /// Creates the task, which publishes what it receives from `outgoing`.
    pub(crate) fn new(
        server: RedisServer,
        channel: ChannelName,
        (reader, outgoing): (ControlReader, mpsc::Receiver<OutgoingRevocation>),
        health: Health,
        metrics: Metrics,
    ) -> Self {
        let store = RevocationStore::new(&channel);
        // Not ready until the store has been read for the first time.
        health.set_revocations_ready(false);
        Self { server, channel, store, reader, outgoing, health, metrics, logged: None }
    }

    /// Runs for ever: connects, reads, reconnects. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let connected = Instant::now();
            let Err(error) = self.follow().await;
            self.report(&error);
            // The backoff is not reset by a server that completes the handshake and then fails.
            if connected.elapsed() >= READ_INTERVAL {
                attempt = 0;
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    async fn follow(&mut self) -> Result<Infallible, SourceError> {
        let (server, kind) = (&self.server, ConnectionKind::PubSub);
        let pubsub = RedisConnection::open(server, MAX_MESSAGE_BYTES, kind).await?;
        let followed = Subscription { name: self.channel.clone(), is_pattern: false };
        let mut pubsub = in_time(ListeningConnection::subscribe(pubsub, &followed)).await?;
        let mut commands = KeyedConnection::open(&self.server, MAX_MESSAGE_BYTES).await?;
        // Only now: a message that is published while the store is read arrives on the channel.
        self.store.forget_position();
        self.read_store(&mut commands).await?;
        let mut read = interval_at(Instant::now() + READ_INTERVAL, READ_INTERVAL);
        read.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = pubsub.next() => self.message(message?).await,
                Some(outgoing) = self.outgoing.recv() => {
                    self.publish(&mut commands, outgoing).await?;
                }
                _ = read.tick() => self.read_store(&mut commands).await?,
            }
        }
    }

    async fn message(&self, parts: Vec<Value>) {
        let mut parts = parts.into_iter();
        let kind = parts.next();
        if kind.as_ref().and_then(Value::as_bytes).is_none_or(|kind| kind != "message") {
            return;
        }
        let origin = RevocationOrigin::Channel;
        match parts.nth(1) {
            Some(Value::Bulk(message)) => self.reader.act(&message, origin).await,
            _ => self.reader.ignore(&Refusal::Malformed("it is too long"), origin),
        }
    }

    /// Acts upon new revocations in the store. An error reply of Redis is reported, and the channel is
    /// followed all the same.
    async fn read_store(&mut self, commands: &mut KeyedConnection) -> Result<(), SourceError> {
        loop {
            match in_time(self.store.next_page(commands)).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => {
                    for message in page {
                        self.reader.act(&message, RevocationOrigin::Stored).await;
                    }
                    // A page takes milliseconds, and the source runs on this thread, too.
                    tokio::task::yield_now().await;
                }
                Err(error @ SourceError::RefusedCommand { .. }) => {
                    self.store.forget_position();
                    self.report(&error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.health.set_revocations_ready(true);
        self.logged = None;
        Ok(())
    }

    async fn publish(
        &self,
        commands: &mut KeyedConnection,
        outgoing: OutgoingRevocation,
    ) -> Result<(), SourceError> {
        let OutgoingRevocation { message, expires, reply } = outgoing;
        let publishing =
            publish::publish(commands, (&self.channel, Some(&self.store)), (&message, expires));
        let (told, result) = match in_time(publishing).await {
            Ok(published) => (Ok(published), Ok(())),
            Err(error @ SourceError::RefusedCommand { .. }) => (Err(error.to_string()), Ok(())),
            Err(error) => (Err(error.to_string()), Err(error)),
        };
        // Fails if the caller no longer waits.
        reply.send(told).unwrap_or_default();
        result
    }

    /// Counts a failure, and logs it unless the last one was of the same kind.
    fn report(&mut self, error: &SourceError) {
        let kind = error.kind();
        self.metrics.source_error(kind.as_str());
        self.health.revocations_failed(kind.as_str(), &error.to_string());
        if self.logged.replace(kind) != Some(kind) {
            let hint = match kind {
                SourceErrorKind::Permission => {
                    "deploy/redis-users.acl has the rights that it needs"
                }
                _ => "retrying",
            };
            let address = &self.server;
            tracing::warn!(%address, kind = kind.as_str(), %error, hint, "cannot follow the control channel");
        }
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
    timeout(REPLY_TIMEOUT, step).await.unwrap_or(Err(timed_out))
}

impl std::fmt::Debug for ControlChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlChannel").field("channel", &self.channel).finish_non_exhaustive()
    }
}
