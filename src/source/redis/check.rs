//! The self-check: compares the subscriptions that Redis reports with our own.
//!
//! A connection can be open and yet receive nothing, or not everything, because Redis or a proxy
//! has lost subscriptions. So the check periodically asks Redis, on a separate connection, how many
//! subscribers each of our channels has and how many patterns are subscribed to, and publishes a
//! probe message to a channel of our own. A mismatch that is found twice ends the pub/sub
//! connection; the next one subscribes to everything again, and clients get a gap.
//!
//! In a Cluster the probe is published at another node than the one that the gateway listens through, which may be cut
//! off from the Cluster. The check also asks the latter node whether it sees the Cluster.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::{ChannelName, Subscription};
use ssegate_resp::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::server::RedisServer;
use crate::metrics::Metrics;

/// How often the check runs.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// A mismatch is checked again after this.
const RECHECK_DELAY: Duration = Duration::from_secs(1);
/// How long a reply or a probe message may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(4);
/// Channels in one `PUBSUB NUMSUB`, at most.
const MAX_NAMES: usize = 512;

/// What Redis confirmed, and what was received: shared by the pub/sub connection and the check.
#[derive(Debug)]
pub(super) struct PubSubState {
    /// The confirmed subscriptions.
    confirmed: RefCell<HashSet<Subscription>>,
    /// The channel of the probe messages.
    probe_channel: ChannelName,
    // The number of the last probe message received, and a notification of it.
    last_probe: Cell<u64>,
    probe_arrived: Notify,
    /// When the last message was received.
    last_message: Cell<Instant>,
}

/// A difference between our subscriptions and those of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mismatch {
    /// Redis reports no subscribers for this channel.
    Channel(ChannelName),
    /// Redis reports fewer patterns than we have subscribed to.
    Patterns,
    /// The probe message did not arrive.
    Probe,
    /// The node that the gateway listens through does not see its Cluster, and another one does.
    Node,
}

/// The connections of the check.
struct CheckConnections {
    /// To the server that the gateway listens to.
    same: RedisConnection,
    /// To another node, in a Cluster with more than one that can be reached.
    elsewhere: Option<RedisConnection>,
}

impl PubSubState {
    pub(super) fn new() -> Self {
        let tag: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
        let probe_channel =
            ChannelName::new(&format!("ssegate:check:{tag}")).expect("it is short and printable");
        Self {
            confirmed: RefCell::default(),
            probe_channel,
            last_probe: Cell::new(0),
            probe_arrived: Notify::new(),
            last_message: Cell::new(Instant::now()),
        }
    }

    /// The subscription to the probe channel.
    pub(super) fn probe_subscription(&self) -> Subscription {
        Subscription { name: self.probe_channel.clone(), is_pattern: false }
    }

    /// Forgets all subscriptions, for a new connection.
    pub(super) fn reset(&self) {
        self.confirmed.borrow_mut().clear();
    }

    pub(super) fn add(&self, subscription: &Subscription) {
        self.confirmed.borrow_mut().insert(subscription.clone());
    }

    pub(super) fn remove(&self, subscription: &Subscription) {
        self.confirmed.borrow_mut().remove(subscription);
    }

    /// Records a message. Returns whether it is a probe message.
    pub(super) fn record_message(&self, channel: &[u8], payload: &Value, at: Instant) -> bool {
        self.last_message.set(at);
        if channel != self.probe_channel.as_str().as_bytes() {
            return false;
        }
        let number =
            payload.as_bytes().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        self.last_probe.set(number.unwrap_or(0));
        self.probe_arrived.notify_one();
        true
    }

    fn contains(&self, subscription: &Subscription) -> bool {
        self.confirmed.borrow().contains(subscription)
    }

    fn channels(&self) -> Vec<ChannelName> {
        let confirmed = self.confirmed.borrow();
        confirmed.iter().filter(|s| !s.is_pattern).map(|s| s.name.clone()).collect()
    }

    fn pattern_count(&self) -> usize {
        self.confirmed.borrow().iter().filter(|subscription| subscription.is_pattern).count()
    }
}

/// The self-check of one pub/sub connection.
#[derive(Debug)]
pub(super) struct SelfCheck {
    server: RedisServer,
    state: Rc<PubSubState>,
    metrics: Metrics,
    probes_sent: u64,
    // A command of the check cannot be used; logged once.
    is_denied: bool,
}

impl SelfCheck {
    pub(super) fn new(server: RedisServer, state: Rc<PubSubState>, metrics: Metrics) -> Self {
        Self { server, state, metrics, probes_sent: 0, is_denied: false }
    }

    /// Runs until a mismatch is found. An error of its own connection does not end the check: the
    /// pub/sub connection detects by itself that Redis is unreachable.
    pub(super) async fn run(&mut self) -> SourceError {
        loop {
            let limits = 1 << 16;
            let opening = RedisConnection::open(&self.server, limits, ConnectionKind::Command);
            if let Ok(same) = opening.await {
                let elsewhere = RedisConnection::open_elsewhere(&self.server, limits).await;
                let connections = CheckConnections { same, elsewhere };
                if let Ok(mismatches) = self.check_until_mismatch(connections).await {
                    self.metrics.self_check("mended");
                    if let Some(cluster) = self.server.cluster() {
                        cluster.leave();
                    }
                    return SourceError::SubscriptionsLost(describe(&mismatches));
                }
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Checks until a mismatch is found twice; returns all that were. Fails if the connection does.
    async fn check_until_mismatch(
        &mut self,
        mut connections: CheckConnections,
    ) -> Result<Vec<Mismatch>, SourceError> {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let mut mismatches = self.mismatches(&mut connections, self.state.channels()).await?;
            if !mismatches.is_empty() {
                tokio::time::sleep(RECHECK_DELAY).await;
                let names = mismatches.iter().filter_map(|mismatch| match mismatch {
                    Mismatch::Channel(name) => Some(name.clone()),
                    Mismatch::Patterns | Mismatch::Probe | Mismatch::Node => None,
                });
                let again = self.mismatches(&mut connections, names.collect()).await?;
                mismatches.retain(|mismatch| again.contains(mismatch));
            }
            if !mismatches.is_empty() {
                return Ok(mismatches);
            }
            self.metrics.self_check(if self.is_denied { "forbidden" } else { "agreed" });
        }
    }

    async fn mismatches(
        &mut self,
        CheckConnections { same: connection, elsewhere }: &mut CheckConnections,
        names: Vec<ChannelName>,
    ) -> Result<Vec<Mismatch>, SourceError> {
        let mut mismatches = Vec::new();
        if let Some(elsewhere) = elsewhere
            && !connection.sees_cluster().await?
            && elsewhere.sees_cluster().await?
        {
            // A node that is cut off does not receive a probe either.
            return Ok(vec![Mismatch::Node]);
        }
        for names in names.chunks(MAX_NAMES) {
            let arguments = std::iter::once("NUMSUB").chain(names.iter().map(ChannelName::as_str));
            let arguments: Vec<&str> = arguments.collect();
            let Some(reply) = self.request_if_allowed(connection, "PUBSUB", &arguments).await?
            else {
                break;
            };
            for name in without_subscribers(&reply) {
                let Some(name) = names.iter().find(|known| known.as_str().as_bytes() == name)
                else {
                    continue;
                };
                // It may have been unsubscribed meanwhile.
                let subscription = Subscription { name: name.clone(), is_pattern: false };
                if self.state.contains(&subscription) {
                    mismatches.push(Mismatch::Channel(subscription.name));
                }
            }
        }
        let patterns = self.request_if_allowed(connection, "PUBSUB", &["NUMPAT"]).await?;
        if let Some(Value::Integer(patterns)) = patterns
            && usize::try_from(patterns).is_ok_and(|patterns| patterns < self.state.pattern_count())
        {
            mismatches.push(Mismatch::Patterns);
        }
        if self.state.contains(&self.state.probe_subscription())
            && !match elsewhere {
                Some(elsewhere) => self.probe_arrives(elsewhere, true).await?,
                None => self.probe_arrives(connection, false).await?,
            }
        {
            mismatches.push(Mismatch::Probe);
        }
        Ok(mismatches)
    }

    /// Publishes a probe message and waits for it. `is_elsewhere`: at a node that counts only its own subscribers.
    async fn probe_arrives(
        &mut self,
        connection: &mut RedisConnection,
        is_elsewhere: bool,
    ) -> Result<bool, SourceError> {
        self.probes_sent += 1;
        let (number, sent) = (self.probes_sent.to_string(), Instant::now());
        let state = Rc::clone(&self.state);
        let arguments = [state.probe_channel.as_str(), &number];
        match self.request_if_allowed(connection, "PUBLISH", &arguments).await? {
            Some(Value::Integer(0)) if !is_elsewhere => return Ok(false),
            Some(_) => {}
            None => return Ok(true),
        }
        let arrival = async {
            while state.last_probe.get() < self.probes_sent {
                state.probe_arrived.notified().await;
            }
        };
        let has_arrived = tokio::time::timeout(REPLY_TIMEOUT, arrival).await.is_ok();
        // Many other messages may have to be read before the probe.
        Ok(has_arrived || state.last_message.get() > sent + REPLY_TIMEOUT / 2)
    }

    /// Sends a command. Returns `None` if Redis does not let us use it.
    async fn request_if_allowed(
        &mut self,
        connection: &mut RedisConnection,
        command: &str,
        arguments: &[&str],
    ) -> Result<Option<Value>, SourceError> {
        let reply = connection.request(command, arguments.iter().copied());
        let reply = tokio::time::timeout(REPLY_TIMEOUT, reply).await;
        match reply.unwrap_or(Err(SourceError::Timeout(REPLY_TIMEOUT.as_secs()))) {
            Ok(reply) => Ok(Some(reply)),
            Err(error) if error.is_unavailable() => {
                if !std::mem::replace(&mut self.is_denied, true) {
                    tracing::info!(
                        command,
                        %error,
                        "Redis denies a command of the self-check; it checks less"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The channels without subscribers in a reply to `PUBSUB NUMSUB`: `[name, count, …]`.
fn without_subscribers(reply: &Value) -> Vec<&[u8]> {
    let Value::Array(parts) = reply else { return Vec::new() };
    parts
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [Value::Bulk(name), Value::Integer(0)] => Some(&name[..]),
            _ => None,
        })
        .collect()
}

fn describe(mismatches: &[Mismatch]) -> String {
    let channels =
        mismatches.iter().filter(|mismatch| matches!(mismatch, Mismatch::Channel(_))).count();
    if mismatches.contains(&Mismatch::Node) {
        return "the node does not see its Cluster (cluster_state:fail), and others do".to_owned();
    }
    if mismatches.contains(&Mismatch::Probe) {
        return "a probe message did not arrive".to_owned();
    }
    match channels {
        0 => "it reports fewer patterns than we have subscribed to".to_owned(),
        channels => format!("it reports no subscribers for {channels} of our channels"),
    }
}
