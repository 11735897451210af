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
use super::location::ShownAddress;
use super::retry::{RETRY_INTERVAL, backoff};
use super::sentinel::{MAX_REPLY_BYTES, Sentinels, at_same_tls, host_and_port};
use super::server::RedisServer;
use super::socket::CONNECT_TIMEOUT;
use crate::health::Health;
use crate::metrics::Metrics;

/// The channel on which a sentinel publishes a new master
/// (<https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#pubsub-messages>).
const SWITCH: &str = "+switch-master";
/// How often to look for the master without a message, since a message may be lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How many times a new master is looked for, each [`RETRY_INTERVAL`], until it proves to be one: sentinels may publish
/// it before it accepts connections, or before they agree.
const LOOKS: usize = 10;
/// A connection that lasted this long resets the backoff.
const GOOD: Duration = Duration::from_secs(5);

/// Follows one of the sentinels of a server.
#[derive(Debug)]
pub(crate) struct SentinelWatch {
    server: RedisServer,
    sentinels: Sentinels,
    at: usize,
    health: Health,
    metrics: Metrics,
    // When the master was last looked for.
    looked: Option<Instant>,
    // The sentinel has a problem, which was logged.
    has_problem: bool,
}

impl SentinelWatch {
    /// One for each sentinel of `server`, if it has any.
    pub(crate) fn all(server: &RedisServer, health: &Health, metrics: &Metrics) -> Vec<Self> {
        let Some(sentinels) = server.sentinels() else { return Vec::new() };
        let watch = |at| Self {
            server: server.clone(),
            sentinels: sentinels.clone(),
            at,
            health: health.clone(),
            metrics: metrics.clone(),
            looked: None,
            has_problem: false,
        };
        (0..sentinels.address().sentinels().len()).map(watch).collect()
    }

    /// Runs for ever: connects, follows, reconnects. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let connected = Instant::now();
            let Err(error) = self.follow().await;
            self.sentinels.status().set_followed(self.at, Some(error.to_string()));
            self.report();
            if connected.elapsed() >= GOOD {
                attempt = 0;
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
            // All sentinels may refuse to be followed, and yet reply to commands.
            if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL) {
                self.look().await;
            }
        }
    }

    async fn follow(&mut self) -> Result<Infallible, SourceError> {
        let mut connection = subscribe(&self.sentinels, self.at).await?;
        self.sentinels.status().set_followed(self.at, None);
        // At once: the master may have moved before this connection was opened.
        let mut look = interval_at(Instant::now(), LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expected = None;
        loop {
            tokio::select! {
                message = connection.next() => {
                    if let Some(master) = self.new_master(&message?) {
                        expected = Some((master, LOOKS));
                        look.reset_immediately();
                    }
                }
                _ = look.tick() => {
                    let is_found = self.look().await;
                    let master = self.sentinels.master();
                    expected = expected.and_then(|(expected, looks)| {
                        let is_there = is_found && master.as_ref() == Some(&expected);
                        (!is_there && looks > 1).then_some((expected, looks - 1))
                    });
                    if expected.is_some() {
                        look.reset_after(RETRY_INTERVAL);
                    }
                }
            }
        }
    }

    /// Returns the new address of our master from a message: `NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT`.
    fn new_master(&self, parts: &[Value]) -> Option<ConnectionAddr> {
        let text = str::from_utf8(parts.get(2)?.as_bytes()?).ok()?;
        let rest = text.strip_prefix(self.sentinels.address().master())?.strip_prefix(' ')?;
        let words: Vec<&str> = rest.split(' ').collect();
        let [_, _, host, port] = words[..] else { return None };
        let sentinel = &self.sentinels.address().sentinels()[self.at];
        let (host, port) = host_and_port(host, port)?;
        Some(at_same_tls(sentinel, host, port))
    }

    /// Opens a connection to the master. If that is another server than before, all connections move there. If the
    /// sentinels name a master that cannot be used, the connections to the old one end. Returns whether there is a
    /// master.
    async fn look(&mut self) -> bool {
        let kind = ConnectionKind::Command;
        let opened = RedisConnection::open(&self.server, MAX_REPLY_BYTES, kind).await;
        self.looked = Some(Instant::now());
        self.report();
        opened.is_ok()
    }

    /// Reports the state of the sentinels: of this one in the log, of all in health and metrics.
    fn report(&mut self) {
        let address = self.sentinels.address();
        let status = self.sentinels.status();
        let report = status.report(address, self.sentinels.master().as_ref());
        let sentinel = ShownAddress(&address.sentinels()[self.at]);
        let problem = &report.problems[self.at];
        match problem {
            Some(error) if !self.has_problem => {
                tracing::warn!(address = %sentinel, error, "a sentinel cannot be used; retrying");
            }
            None if self.has_problem => {
                tracing::info!(address = %sentinel, "a sentinel can be used again");
            }
            _ => {}
        }
        self.has_problem = problem.is_some();
        self.health.set_sentinels(report.summary);
        self.metrics.sentinels(report.counts.map(|(state, number)| (state.as_str(), number)));
        self.metrics.master_changes(status.take_changes());
    }
}

/// Checks once, for an operator, all sentinels of a server that were asked already. Returns which master they name;
/// `Err`: what is wrong with them.
pub(super) async fn inspect(sentinels: &Sentinels) -> Result<String, String> {
    let status = sentinels.status();
    for at in 0..sentinels.address().sentinels().len() {
        let failure = subscribe(sentinels, at).await.err();
        status.set_followed(at, failure.map(|error| error.to_string()));
    }
    status.report(sentinels.address(), sentinels.master().as_ref()).summary
}

async fn subscribe(sentinels: &Sentinels, at: usize) -> Result<ListeningConnection, SourceError> {
    let sentinel = &sentinels.address().sentinels()[at];
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let subscribing = async {
        let connection = sentinels.open(sentinel, ConnectionKind::PubSub, deadline).await?;
        let name = ChannelName::new(SWITCH).expect("it is short and printable");
        let followed = Subscription { name, is_pattern: false };
        ListeningConnection::subscribe(connection, &followed).await
    };
    let timed_out = SourceError::Timeout(CONNECT_TIMEOUT.as_secs());
    tokio::time::timeout_at(deadline, subscribing).await.unwrap_or(Err(timed_out))
}
