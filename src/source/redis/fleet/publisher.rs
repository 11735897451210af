//! The connection that publishes for the fleet: opened with the first message, kept, and opened again.
//!
//! A message that was sent and not acknowledged is never sent again: a mark that arrived twice would move
//! positions. Messages that wait while the connection is down are dropped, since they would come too late.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use redis::ConnectionAddr;
use ssegate_hub::HubOrder;
use ssegate_resp::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::member::FleetMember;
use super::message;
use super::outbox::{FleetOutbox, OutgoingFleetMessage};
use super::server::{are_two, identify};
use super::teller::SettingsPublisher;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::fleet::FleetKey;
use crate::source::redis::connection::{ConnectionKind, RedisConnection};
use crate::source::redis::error::SourceError;
use crate::source::redis::retry::{FailureLog, backoff};
use crate::source::redis::server::RedisServer;

/// Replies are numbers, and `INFO`.
const MAX_REPLY_BYTES: usize = 64 << 10;
/// How long Redis may take to reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing is published after Redis has refused it, or turned out to be another server.
const PAUSE: Duration = Duration::from_secs(10);

/// Publishes messages for other gateways.
#[derive(Debug)]
pub(in super::super) struct FleetPublisher {
    server: RedisServer,
    // In a Cluster, the node at which it publishes.
    node: Option<ConnectionAddr>,
    shown: Option<String>,
    order: HubOrder,
    key: Option<FleetKey>,
    outbox: Rc<FleetOutbox>,
    teller: Option<Rc<SettingsPublisher>>,
    failures: FailureLog,
    health: Health,
    metrics: Metrics,
    // The text that was logged last, until a message is published.
    logged: Option<String>,
}

/// Why a connection is closed.
enum PublishEnd {
    /// It ended while there was nothing to publish, or the pub/sub connection has changed.
    Unneeded,
    /// Redis refuses to publish, or is another server than that of the pub/sub connection.
    Useless(String),
    Failed(SourceError),
}

impl From<SourceError> for PublishEnd {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl FleetPublisher {
    /// Creates the publisher of the messages that `member` puts into its outbox.
    pub(in super::super) fn new(
        (server, node): (RedisServer, Option<ConnectionAddr>),
        member: &FleetMember,
        (health, metrics): (Health, Metrics),
    ) -> Self {
        // The gateway is ready without it: it serves clients like a single gateway.
        let failures = FailureLog::new(&server, metrics.clone(), (health.clone(), |_, _, _| {}));
        let (order, shown) = (member.order(), member.node().map(str::to_owned));
        let (key, outbox) = (member.settings().key.clone(), member.outbox());
        let teller = member.teller();
        Self {
            server,
            node,
            shown,
            order,
            key,
            outbox,
            teller,
            failures,
            health,
            metrics,
            logged: None,
        }
    }

    /// Runs for ever. Owned by the pub/sub connection's task.
    pub(in super::super) async fn run(mut self) {
        match self.teller.clone() {
            Some(teller) => {
                tokio::join!(teller.run(), self.publish_for_ever());
            }
            None => self.publish_for_ever().await,
        }
    }

    async fn publish_for_ever(&mut self) {
        let mut attempt = 0;
        loop {
            self.outbox.wait().await;
            let generation = self.outbox.generation();
            let pause = match self.publish_until_failure(generation, &mut attempt).await {
                PublishEnd::Unneeded => continue,
                PublishEnd::Useless(why) => {
                    if self.logged.as_ref() != Some(&why) {
                        tracing::warn!("clients cannot resume at another gateway: {why}");
                        self.logged = Some(why.clone());
                    }
                    self.health.set_fleet_published(self.shown.as_deref(), Err(why));
                    PAUSE
                }
                PublishEnd::Failed(error) => {
                    self.failures.report(&error, "cannot publish for the fleet; reconnecting");
                    let why = error.to_string();
                    self.health.set_fleet_published(self.shown.as_deref(), Err(why));
                    backoff(attempt)
                }
            };
            attempt += 1;
            self.drop_all_for(pause, generation).await;
        }
    }

    /// Opens a connection, and publishes until it cannot be used any more.
    async fn publish_until_failure(&mut self, generation: u64, attempt: &mut u32) -> PublishEnd {
        match self.try_publishing(generation, attempt).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_publishing(
        &mut self,
        generation: u64,
        attempt: &mut u32,
    ) -> Result<Infallible, PublishEnd> {
        let kind = ConnectionKind::Command;
        let mut connection = match self.node.clone() {
            None => RedisConnection::open(&self.server, MAX_REPLY_BYTES, kind).await?,
            Some(node) => {
                let kind = (MAX_REPLY_BYTES, kind);
                RedisConnection::open_at_node(&self.server, node, kind).await?
            }
        };
        let server = in_time(identify(&mut connection)).await?.run_id;
        loop {
            tokio::select! {
                biased;
                () = self.outbox.wait() => {}
                // Between replies only the end of the connection can arrive.
                read = connection.exchange() => match read {
                    Ok(()) => continue,
                    Err(_) => return Err(PublishEnd::Unneeded),
                },
            }
            if self.outbox.generation() != generation {
                return Err(PublishEnd::Unneeded);
            }
            if self.outbox.server().is_some_and(|followed| are_two(&followed, &server)) {
                let why =
                    "the connections to Redis lead to several servers; use the address of one";
                return Err(PublishEnd::Useless(why.to_owned()));
            }
            self.publish(&mut connection, &server).await?;
            (*attempt, self.logged) = (0, None);
            self.health.set_fleet_published(self.shown.as_deref(), Ok(()));
        }
    }

    /// Publishes all messages that wait, and reads the replies.
    async fn publish(
        &self,
        connection: &mut RedisConnection,
        server: &str,
    ) -> Result<(), PublishEnd> {
        let messages = self.outbox.take();
        for OutgoingFleetMessage { channel, body, .. } in &messages {
            let body = message::write(server, channel, body, self.key.as_ref());
            let name = Bytes::copy_from_slice(channel.as_bytes());
            connection.queue_bytes(&[Bytes::from_static(b"PUBLISH"), name, body.into()]);
        }
        let deadline = Instant::now() + REPLY_TIMEOUT;
        let mut refused = None;
        for message in messages {
            let reply = timeout_at(deadline, next_reply(connection)).await;
            match reply.unwrap_or(Err(SourceError::Timeout(REPLY_TIMEOUT.as_secs())))? {
                Value::Integer(subscribers) => self.published(&message, subscribers),
                Value::Error(error) => {
                    let error = SourceError::Refused(String::from_utf8_lossy(&error).into());
                    let error = error.for_command(format!("PUBLISH to {}", message.channel));
                    self.drop_message(&message);
                    refused = Some(error);
                }
                other => return Err(SourceError::Unexpected(format!("{other:?}")).into()),
            }
        }
        match refused {
            None => Ok(()),
            Some(error) if error.is_unavailable() => {
                let hint = "deploy/redis-users.acl has the rights that it needs";
                Err(PublishEnd::Useless(format!("{error}; {hint}")))
            }
            Some(error) => Err(error.into()),
        }
    }

    fn published(&self, message: &OutgoingFleetMessage, subscribers: i64) {
        self.metrics.fleet_message_published(message.kind.as_str());
        if let Some(question) = message.question {
            self.order.asked(question, usize::try_from(subscribers).unwrap_or_default());
        }
    }

    /// Drops all messages for this long, or until the pub/sub connection has changed.
    async fn drop_all_for(&self, pause: Duration, generation: u64) {
        let until = Instant::now() + pause;
        loop {
            if self.outbox.generation() != generation {
                return;
            }
            self.outbox.take().iter().for_each(|message| self.drop_message(message));
            if timeout_at(until, self.outbox.wait()).await.is_err() {
                return;
            }
        }
    }

    fn drop_message(&self, message: &OutgoingFleetMessage) {
        self.metrics.fleet_message_dropped();
        if let Some(question) = message.question {
            self.order.not_asked(question);
        }
    }
}

/// The next reply; other values are skipped.
async fn next_reply(connection: &mut RedisConnection) -> Result<Value, SourceError> {
    loop {
        match connection.read_value().await? {
            Value::Push(_) => {}
            reply => return Ok(reply),
        }
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
    timeout(REPLY_TIMEOUT, step).await.unwrap_or(Err(timed_out))
}
