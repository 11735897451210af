//! Follows a sentinel, which publishes when the master has moved.

use std::convert::Infallible;
use std::time::Duration;

use redis::ConnectionAddr;
use ssegate_hub::{ChannelName, Subscription};
use ssegate_resp::Value;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::listening::ListeningConnection;
use super::retry::{RETRY_INTERVAL, backoff};
use super::sentinel::{MAX_REPLY_BYTES, Sentinels, at_same_tls};
use super::server::RedisServer;
use super::socket::CONNECT_TIMEOUT;
use crate::health::Health;

/// The channel on which a sentinel tells of a new master
/// (<https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#pubsub-messages>).
const SWITCH: &str = "+switch-master";
/// How often the master is looked for without being told: a message may be lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How often a new master is looked for, each [`RETRY_INTERVAL`], until it shows to be one.
const LOOKS: usize = 10;
/// A connection that has lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// Follows one of the sentinels of a server.
#[derive(Debug)]
pub(crate) struct SentinelWatch {
    server: RedisServer,
    sentinels: Sentinels,
    at: usize,
    health: Health,
}

impl SentinelWatch {
    /// One for each sentinel of `server`, if it has any.
    pub(crate) fn all(server: &RedisServer, health: &Health) -> Vec<Self> {
        let Some(sentinels) = server.sentinels() else { return Vec::new() };
        let watch = |at| Self {
            server: server.clone(),
            sentinels: sentinels.clone(),
            at,
            health: health.clone(),
        };
        (0..sentinels.address().sentinels().len()).map(watch).collect()
    }

    /// Runs for ever: connects, follows, reconnects. Owned by the gateway, which drops it.
    pub(crate) async fn run(self) {
        let mut attempt = 0;
        loop {
            let connected = Instant::now();
            let Err(error) = self.follow().await;
            self.report(Some(error.to_string()));
            if connected.elapsed() >= GOOD {
                attempt = 0;
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    async fn follow(&self) -> Result<Infallible, SourceError> {
        let mut connection = self.subscribe().await?;
        self.report(None);
        let mut look = interval_at(Instant::now(), LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = connection.next() => {
                    if let Some(master) = self.new_master(&message?) {
                        self.look_for(&master).await;
                    }
                }
                // At once: it may have moved before this connection.
                _ = look.tick() => drop(self.look().await),
            }
        }
    }

    async fn subscribe(&self) -> Result<ListeningConnection, SourceError> {
        let sentinel = &self.sentinels.address().sentinels()[self.at];
        let subscribing = async {
            let connection = self.sentinels.open(sentinel, ConnectionKind::PubSub).await?;
            let name = ChannelName::new(SWITCH).expect("it is short and printable");
            let followed = Subscription { name, is_pattern: false };
            ListeningConnection::subscribe(connection, &followed).await
        };
        let timed_out = SourceError::Timeout(CONNECT_TIMEOUT.as_secs());
        tokio::time::timeout(CONNECT_TIMEOUT, subscribing).await.unwrap_or(Err(timed_out))
    }

    /// Where a message says that our master has moved to: `NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT`.
    fn new_master(&self, parts: &[Value]) -> Option<ConnectionAddr> {
        let text = str::from_utf8(parts.get(2)?.as_bytes()?).ok()?;
        let rest = text.strip_prefix(self.sentinels.address().master())?.strip_prefix(' ')?;
        let words: Vec<&str> = rest.split(' ').collect();
        let [_, _, host, port] = words[..] else { return None };
        let sentinel = &self.sentinels.address().sentinels()[self.at];
        Some(at_same_tls(sentinel, host.to_owned(), port.parse().ok()?))
    }

    /// Sentinels may tell of a new master before it accepts connections.
    async fn look_for(&self, master: &ConnectionAddr) {
        for _ in 0..LOOKS {
            let looked = self.look().await;
            if looked.is_ok() && self.sentinels.master().as_ref() == Some(master) {
                return;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Opens a connection to the master: if that is another server than before, all connections move there.
    async fn look(&self) -> Result<(), SourceError> {
        let kind = ConnectionKind::Command;
        RedisConnection::open(&self.server, MAX_REPLY_BYTES, kind).await.map(drop)
    }

    /// Tells whether the sentinel can be reached: `failure` is why not.
    fn report(&self, failure: Option<String>) {
        let sentinels = self.sentinels.address().sentinels();
        let address = &sentinels[self.at];
        let (was_failed, failures) = self.sentinels.status().set(self.at, failure);
        match &failures[self.at] {
            Some(error) if !was_failed => {
                tracing::warn!(%address, error, "cannot follow a sentinel; retrying");
            }
            None if was_failed => tracing::info!(%address, "a sentinel is followed again"),
            _ => {}
        }
        let failed = |(sentinel, failure): (&ConnectionAddr, &Option<String>)| {
            failure.as_ref().map(|why| format!("{sentinel}: {why}"))
        };
        let failed: Vec<String> = sentinels.iter().zip(&failures).filter_map(failed).collect();
        let problem = (!failed.is_empty()).then(|| {
            let (failed_count, all) = (failed.len(), failures.len());
            let effect = match failed_count == all {
                true => "a failover would go unseen; Redis is used where it was",
                false => "the others are asked",
            };
            format!("{failed_count} of {all} cannot be reached; {effect}: {}", failed.join(", "))
        });
        self.health.set_sentinel_problem(problem);
    }
}
