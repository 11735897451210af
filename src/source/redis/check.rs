//! The self-check: compares the subscriptions that Redis reports with our own.
//!
//! A connection can be open and yet receive nothing, or not everything, because Redis or a proxy
//! has lost subscriptions. So the check periodically asks Redis, on a separate connection, how many
//! subscribers each of our channels has and how many patterns are subscribed to, and publishes a
//! probe message to a channel of our own. A mismatch that is found twice ends the pub/sub
//! connection; the next one subscribes to everything again, and clients get a gap.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use redis::ConnectionInfo;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::{ConnectionKind, RedisConnection};
use super::error::{SourceError, SourceErrorKind};
use super::socket::RedisTls;
use crate::event::{ChannelName, Subscription};
use crate::metrics::Metrics;
use crate::source::resp::Value;

/// How often the check runs.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// A mismatch is checked again after this.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How long a reply or a probe message may take.
const ECHO_TIMEOUT: Duration = Duration::from_secs(4);
/// Channels in one `PUBSUB NUMSUB`, at most.
const MAX_NAMES: usize = 512;

/// What Redis confirmed, and what was received: shared by the pub/sub connection and the check.
#[derive(Debug)]
pub(super) struct Belief {
    /// The confirmed subscriptions.
    subscribed: RefCell<HashSet<Subscription>>,
    /// The channel of the probe messages.
    channel: ChannelName,
    // The number of the last probe message received, and a notification of it.
    echo: Cell<u64>,
    echoed: Notify,
    /// When the last message was received.
    heard: Cell<Instant>,
}

/// A difference between our subscriptions and those of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doubt {
    /// Redis reports no subscribers for this channel.
    Channel(ChannelName),
    /// Redis reports fewer patterns than we have subscribed to.
    Patterns,
    /// The probe message did not arrive.
    Echo,
}

impl Belief {
    pub(super) fn new() -> Self {
        let tag: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
        let channel =
            ChannelName::new(&format!("ssegate:check:{tag}")).expect("it is short and printable");
        Self {
            subscribed: RefCell::default(),
            channel,
            echo: Cell::new(0),
            echoed: Notify::new(),
            heard: Cell::new(Instant::now()),
        }
    }

    /// The subscription to the probe channel.
    pub(super) fn own(&self) -> Subscription {
        Subscription { name: self.channel.clone(), is_pattern: false }
    }

    /// Forgets all subscriptions, for a new connection.
    pub(super) fn begin_anew(&self) {
        self.subscribed.borrow_mut().clear();
    }

    pub(super) fn subscribed(&self, subscription: &Subscription) {
        self.subscribed.borrow_mut().insert(subscription.clone());
    }

    pub(super) fn left(&self, subscription: &Subscription) {
        self.subscribed.borrow_mut().remove(subscription);
    }

    /// Records a message. Returns whether it is a probe message.
    pub(super) fn heard(&self, channel: &[u8], payload: &Value, at: Instant) -> bool {
        self.heard.set(at);
        if channel != self.channel.as_str().as_bytes() {
            return false;
        }
        let number =
            payload.as_bytes().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        self.echo.set(number.unwrap_or(0));
        self.echoed.notify_one();
        true
    }

    fn holds(&self, subscription: &Subscription) -> bool {
        self.subscribed.borrow().contains(subscription)
    }

    fn names(&self) -> Vec<ChannelName> {
        let subscribed = self.subscribed.borrow();
        subscribed.iter().filter(|s| !s.is_pattern).map(|s| s.name.clone()).collect()
    }

    fn patterns(&self) -> usize {
        self.subscribed.borrow().iter().filter(|subscription| subscription.is_pattern).count()
    }
}

/// The self-check of one pub/sub connection.
#[derive(Debug)]
pub(super) struct SelfCheck {
    info: ConnectionInfo,
    tls: RedisTls,
    belief: Rc<Belief>,
    metrics: Metrics,
    echoes: u64,
    // An ACL rule denies a command of the check; logged once.
    is_forbidden: bool,
}

impl SelfCheck {
    pub(super) fn new(
        info: ConnectionInfo,
        tls: RedisTls,
        belief: Rc<Belief>,
        metrics: Metrics,
    ) -> Self {
        Self { info, tls, belief, metrics, echoes: 0, is_forbidden: false }
    }

    /// Runs until a mismatch is found. An error of its own connection does not end the check: the
    /// pub/sub connection detects by itself that Redis is unreachable.
    pub(super) async fn run(&mut self) -> SourceError {
        loop {
            let limits = 1 << 16;
            let opening =
                RedisConnection::open(&self.info, &self.tls, limits, ConnectionKind::Command);
            if let Ok(mut connection) = opening.await
                && let Ok(doubts) = self.check_with(&mut connection).await
            {
                self.metrics.self_check("mended");
                return SourceError::SubscriptionsLost(describe(&doubts));
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Checks until a mismatch is found twice; returns all that were. Fails if the connection does.
    async fn check_with(
        &mut self,
        connection: &mut RedisConnection,
    ) -> Result<Vec<Doubt>, SourceError> {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let mut doubts = self.doubts(connection, self.belief.names()).await?;
            if !doubts.is_empty() {
                tokio::time::sleep(SECOND_LOOK).await;
                let names = doubts.iter().filter_map(|doubt| match doubt {
                    Doubt::Channel(name) => Some(name.clone()),
                    Doubt::Patterns | Doubt::Echo => None,
                });
                let again = self.doubts(connection, names.collect()).await?;
                doubts.retain(|doubt| again.contains(doubt));
            }
            if !doubts.is_empty() {
                return Ok(doubts);
            }
            self.metrics.self_check(if self.is_forbidden { "forbidden" } else { "agreed" });
        }
    }

    async fn doubts(
        &mut self,
        connection: &mut RedisConnection,
        names: Vec<ChannelName>,
    ) -> Result<Vec<Doubt>, SourceError> {
        let mut doubts = Vec::new();
        for names in names.chunks(MAX_NAMES) {
            let arguments = std::iter::once("NUMSUB").chain(names.iter().map(ChannelName::as_str));
            let arguments: Vec<&str> = arguments.collect();
            let Some(answer) = self.ask(connection, "PUBSUB", &arguments).await? else { break };
            for name in without_listeners(&answer) {
                let Some(name) = names.iter().find(|known| known.as_str().as_bytes() == name)
                else {
                    continue;
                };
                // It may have been unsubscribed meanwhile.
                let subscription = Subscription { name: name.clone(), is_pattern: false };
                if self.belief.holds(&subscription) {
                    doubts.push(Doubt::Channel(subscription.name));
                }
            }
        }
        let patterns = self.ask(connection, "PUBSUB", &["NUMPAT"]).await?;
        if let Some(Value::Integer(patterns)) = patterns
            && usize::try_from(patterns).is_ok_and(|patterns| patterns < self.belief.patterns())
        {
            doubts.push(Doubt::Patterns);
        }
        if self.belief.holds(&self.belief.own()) && !self.hears_itself(connection).await? {
            doubts.push(Doubt::Echo);
        }
        Ok(doubts)
    }

    /// Publishes a probe message and waits for it.
    async fn hears_itself(
        &mut self,
        connection: &mut RedisConnection,
    ) -> Result<bool, SourceError> {
        self.echoes += 1;
        let (number, sent) = (self.echoes.to_string(), Instant::now());
        let belief = Rc::clone(&self.belief);
        let arguments = [belief.channel.as_str(), &number];
        match self.ask(connection, "PUBLISH", &arguments).await? {
            Some(Value::Integer(0)) => return Ok(false),
            Some(_) => {}
            None => return Ok(true),
        }
        let echo = async {
            while belief.echo.get() < self.echoes {
                belief.echoed.notified().await;
            }
        };
        let is_heard = tokio::time::timeout(ECHO_TIMEOUT, echo).await.is_ok();
        // Many other messages may have to be read before the probe.
        Ok(is_heard || belief.heard.get() > sent + ECHO_TIMEOUT / 2)
    }

    /// Sends a command. Returns `None` if an ACL rule denies it.
    async fn ask(
        &mut self,
        connection: &mut RedisConnection,
        command: &str,
        arguments: &[&str],
    ) -> Result<Option<Value>, SourceError> {
        let answer = connection.request(command, arguments.iter().copied());
        let answer = tokio::time::timeout(ECHO_TIMEOUT, answer).await;
        match answer.unwrap_or(Err(SourceError::Timeout(ECHO_TIMEOUT.as_secs()))) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == SourceErrorKind::Permission => {
                if !std::mem::replace(&mut self.is_forbidden, true) {
                    tracing::info!(
                        command,
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
fn without_listeners(answer: &Value) -> Vec<&[u8]> {
    let Value::Array(parts) = answer else { return Vec::new() };
    parts
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [Value::Bulk(name), Value::Integer(0)] => Some(&name[..]),
            _ => None,
        })
        .collect()
}

fn describe(doubts: &[Doubt]) -> String {
    let channels = doubts.iter().filter(|doubt| matches!(doubt, Doubt::Channel(_))).count();
    if doubts.contains(&Doubt::Echo) {
        return "a probe message did not arrive".to_owned();
    }
    match channels {
        0 => "it reports fewer patterns than we have subscribed to".to_owned(),
        channels => format!("it reports no subscribers for {channels} of our channels"),
    }
}
