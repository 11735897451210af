//! One pub/sub connection to Redis after its handshake: matches replies to commands.
//!
//! Replies arrive in the order of the commands; push messages are not replies. An unexpected reply
//! ends the connection, so that no reply is ever matched to the wrong command.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior};

use super::coalescing::ReadCoalescer;
use super::connection::RedisConnection;
use super::error::{SourceError, with_others};
use super::pubsub::PubSub;
use super::retry::{RETRY_INTERVAL, sample_to_retry};
use crate::event::{Payload, Subscription};
use crate::hub::Wish;
use crate::source::resp::Value;

/// Names in one `SUBSCRIBE`, at most.
const MAX_NAMES: usize = 512;
/// A `PING` is sent after this long without data, and its reply may take as long again.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How often the connection is checked for silence.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A command whose reply is pending, in the order of sending.
#[derive(Debug)]
enum Awaited {
    /// `SUBSCRIBE` or `PSUBSCRIBE`: one push message for each name. These are not confirmed yet.
    Subscribed(VecDeque<Subscription>),
    Unsubscribed(VecDeque<Subscription>),
    Pong,
    /// A mark: the commands before it restore the subscriptions on a new connection.
    Restored,
}

/// One pub/sub connection after its handshake.
pub(super) struct Session<'a> {
    connection: RedisConnection,
    owner: &'a mut PubSub,
    awaited: VecDeque<Awaited>,
    // Subscriptions that Redis refused. Some of them are retried every second.
    refused: HashSet<Subscription>,
    heard: Instant,
    coalescer: ReadCoalescer,
    // The last check found the connection silent for too long.
    is_doubted: bool,
    // Redis has confirmed at least one subscription.
    is_allowed: bool,
    is_restored: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(connection: RedisConnection, owner: &'a mut PubSub) -> Self {
        Self {
            connection,
            owner,
            awaited: VecDeque::new(),
            refused: HashSet::new(),
            heard: Instant::now(),
            coalescer: ReadCoalescer::new(Instant::now()),
            is_doubted: false,
            is_allowed: false,
            is_restored: false,
        }
    }

    /// Runs until the connection fails. Returns the error, and whether all subscriptions were
    /// restored.
    pub(super) async fn run(mut self) -> (SourceError, bool) {
        match self.listen().await {
            Ok(never) => match never {},
            Err(error) => (error, self.is_restored),
        }
    }

    async fn listen(&mut self) -> Result<std::convert::Infallible, SourceError> {
        let hub = self.owner.hub.clone();
        self.subscribe(hub.followed());
        self.awaited.push_back(Awaited::Restored);
        self.subscribe(vec![self.owner.belief.own()]);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = tokio::time::interval(RETRY_INTERVAL);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.settle();
            tokio::select! {
                read = self.read() => {
                    read?;
                    self.heard = Instant::now();
                    let values = self.take_in()?;
                    self.coalescer.record_read(values, Instant::now());
                }
                wishes = hub.wishes() => self.change(wishes),
                _ = look.tick() => self.look()?,
                _ = again.tick() => self.ask_again(),
            }
        }
    }

    /// Waits for data, and for a moment longer if reads are being coalesced. Cancel safe.
    async fn read(&mut self) -> Result<(), SourceError> {
        if let Some(until) = self.coalescer.read_at() {
            self.connection.pause(until).await?;
        }
        self.connection.exchange().await
    }

    /// Handles everything that was read as one batch, then flushes it to the shards. Returns the
    /// number of values.
    fn take_in(&mut self) -> Result<usize, SourceError> {
        let mut values = 0;
        while let Some(value) = self.connection.next_value()? {
            // Before each value, not after all of them: the value may confirm a command sent after
            // the mark.
            self.pass_mark();
            self.take(value)?;
            values += 1;
        }
        self.settle();
        self.owner.intake.flush();
        // Confirmations must reach the shards even if no message came with them.
        self.owner.hub.flush();
        Ok(values)
    }

    fn take(&mut self, value: Value) -> Result<(), SourceError> {
        match value {
            Value::Push(parts) => self.take_push(parts),
            Value::Error(message) => {
                self.refuse(String::from_utf8_lossy(&message).into());
                Ok(())
            }
            Value::Simple(_) | Value::Bulk(_) => match self.awaited.pop_front() {
                Some(Awaited::Pong) => {
                    self.owner.intake.end_message();
                    Ok(())
                }
                _ => Err(SourceError::Unexpected("no command is pending".into())),
            },
            other => Err(SourceError::Unexpected(format!("{other:?}"))),
        }
    }

    /// <https://redis.io/docs/latest/develop/pubsub/#format-of-pushed-messages>
    fn take_push(&mut self, parts: Vec<Value>) -> Result<(), SourceError> {
        let mut parts = parts.into_iter();
        let kind = parts.next();
        let kind = kind.as_ref().and_then(Value::as_bytes).map_or(&b""[..], |kind| kind);
        match (kind, parts.next(), parts.next(), parts.next()) {
            (b"message", Some(Value::Bulk(channel)), Some(payload), None) => {
                self.hear(None, &channel, payload)?;
            }
            (
                b"pmessage",
                Some(Value::Bulk(pattern)),
                Some(Value::Bulk(channel)),
                Some(payload),
            ) => {
                self.hear(Some(&pattern), &channel, payload)?;
            }
            (b"subscribe", Some(Value::Bulk(name)), ..) => self.subscribed(false, &name)?,
            (b"psubscribe", Some(Value::Bulk(name)), ..) => self.subscribed(true, &name)?,
            (b"unsubscribe", Some(Value::Bulk(name)), ..) => self.unsubscribed(false, &name)?,
            (b"punsubscribe", Some(Value::Bulk(name)), ..) => self.unsubscribed(true, &name)?,
            // Other push messages (client tracking, for example) are not replies, and are ignored.
            _ => {}
        }
        Ok(())
    }

    fn hear(
        &mut self,
        pattern: Option<&[u8]>,
        channel: &[u8],
        payload: Value,
    ) -> Result<(), SourceError> {
        // Probe messages of the self-check are not for clients.
        if self.owner.belief.heard(channel, &payload, self.heard) {
            self.owner.intake.end_message();
        } else {
            self.owner.intake.message(pattern, channel, &whole(payload)?);
        }
        Ok(())
    }

    fn subscribed(&mut self, is_pattern: bool, name: &Bytes) -> Result<(), SourceError> {
        // An unsolicited confirmation must not be matched to a pending command.
        let Some(Awaited::Subscribed(names)) = self.awaited.front_mut() else {
            return Err(unasked("subscribe", name));
        };
        let Some(subscription) = take_named(names, is_pattern, name) else {
            return Err(unasked("subscribe", name));
        };
        if names.is_empty() {
            self.awaited.pop_front();
        }
        self.refused.remove(&subscription);
        if subscription == self.owner.belief.own() {
            self.owner.belief.subscribed(&subscription);
            return Ok(());
        }
        self.is_allowed = true;
        // If the name was unsubscribed since, and perhaps subscribed again, the last reply counts.
        if !self.is_left_later(&subscription) {
            self.owner.belief.subscribed(&subscription);
            self.owner.hub.confirm(is_pattern, subscription.name.as_str());
            // It was refused at first, for example: no other subscription is being restored.
            if self.is_restored {
                self.owner.hub.restored();
            }
        }
        Ok(())
    }

    fn unsubscribed(&mut self, is_pattern: bool, name: &Bytes) -> Result<(), SourceError> {
        let Some(Awaited::Unsubscribed(names)) = self.awaited.front_mut() else {
            return Err(unasked("unsubscribe", name));
        };
        if take_named(names, is_pattern, name).is_none() {
            return Err(unasked("unsubscribe", name));
        }
        if names.is_empty() {
            self.awaited.pop_front();
        }
        Ok(())
    }

    fn is_left_later(&self, subscription: &Subscription) -> bool {
        self.awaited.iter().any(|awaited| {
            matches!(awaited, Awaited::Unsubscribed(names) if names.contains(subscription))
        })
    }

    /// Handles an error reply. One denied name fails the whole command, so its names are retried
    /// one by one; a name that is refused alone is retried later ([`RETRY_INTERVAL`]).
    fn refuse(&mut self, message: String) {
        let error = SourceError::Refused(message);
        let own = self.owner.belief.own();
        if matches!(self.awaited.front(), Some(Awaited::Subscribed(names)) if names.contains(&own))
        {
            // The self-check works without its probe.
            tracing::info!(%error, "Redis denies the channel ssegate:check:*; the self-check sends no probe");
            self.awaited.pop_front();
            return;
        }
        let Some(Awaited::Subscribed(mut names)) = self.awaited.pop_front() else {
            return self.owner.report(&error, "Redis refused a command");
        };
        // Names that were unsubscribed since are not retried.
        names.retain(|name| {
            self.owner.hub.is_followed(name.is_pattern, name.name.as_str())
                && !self.is_left_later(name)
        });
        if names.len() > 1 {
            for subscription in names {
                self.subscribe(vec![subscription]);
            }
        } else if let Some(name) = names.pop_front() {
            self.owner.hub.deny(name.is_pattern, name.name.as_str());
            self.refused.insert(name.clone());
            let error = error.for_command(with_others(describe(&name), self.refused.len() - 1));
            self.owner.report(&error, "Redis refused a subscription");
        }
    }

    /// Updates the readiness after the replies so far.
    fn settle(&mut self) {
        self.pass_mark();
        // One denied name that a client asks for must not make the gateway unready for all other
        // clients; if Redis denies every name, it is unready.
        let is_refused = !self.refused.is_empty() && !self.is_allowed;
        self.owner.health.set_source_ready(self.is_restored && !is_refused);
    }

    fn pass_mark(&mut self) {
        if matches!(self.awaited.front(), Some(Awaited::Restored)) {
            self.awaited.pop_front();
            self.owner.hub.restored();
            self.owner.hub.flush();
            self.is_restored = true;
        }
    }

    fn change(&mut self, wishes: impl Iterator<Item = (Subscription, Wish)>) {
        let (follow, leave): (Vec<_>, Vec<_>) = wishes.partition(|&(_, wish)| wish == Wish::Follow);
        let names = |wishes: Vec<(Subscription, Wish)>| {
            wishes.into_iter().map(|(subscription, _)| subscription).collect::<Vec<_>>()
        };
        let leave = names(leave);
        for subscription in &leave {
            self.owner.belief.left(subscription);
            self.refused.remove(subscription);
        }
        self.unsubscribe(leave);
        self.subscribe(names(follow));
    }

    fn subscribe(&mut self, subscriptions: Vec<Subscription>) {
        self.command(subscriptions, ["SUBSCRIBE", "PSUBSCRIBE"], Awaited::Subscribed);
    }

    fn unsubscribe(&mut self, subscriptions: Vec<Subscription>) {
        self.command(subscriptions, ["UNSUBSCRIBE", "PUNSUBSCRIBE"], Awaited::Unsubscribed);
    }

    fn command(
        &mut self,
        subscriptions: Vec<Subscription>,
        [plain, pattern]: [&str; 2],
        awaited: fn(VecDeque<Subscription>) -> Awaited,
    ) {
        let (patterns, channels): (Vec<_>, Vec<_>) =
            subscriptions.into_iter().partition(|subscription| subscription.is_pattern);
        for (name, subscriptions) in [(plain, channels), (pattern, patterns)] {
            for chunk in subscriptions.chunks(MAX_NAMES) {
                self.connection.queue(name, chunk.iter().map(|s| s.name.as_str()));
                self.awaited.push_back(awaited(chunk.iter().cloned().collect()));
            }
        }
    }

    fn look(&mut self) -> Result<(), SourceError> {
        let is_asked = self.awaited.iter().any(|awaited| matches!(awaited, Awaited::Pong));
        let silence = self.heard.elapsed();
        // Silence must be found twice: after this process was suspended, data that has arrived is
        // read first.
        let was_doubted = std::mem::replace(&mut self.is_doubted, silence >= 2 * PING_INTERVAL);
        if was_doubted && self.is_doubted {
            return Err(SourceError::Unresponsive(silence.as_secs()));
        }
        if silence >= PING_INTERVAL && !is_asked {
            self.connection.queue("PING", [].into_iter());
            self.awaited.push_back(Awaited::Pong);
        }
        Ok(())
    }

    /// Retries some of the refused subscriptions, each in its own command: one denied name fails
    /// the whole command.
    fn ask_again(&mut self) {
        let is_asking =
            self.awaited.iter().any(|awaited| matches!(awaited, Awaited::Subscribed(_)));
        if is_asking {
            return;
        }
        for subscription in sample_to_retry(&self.refused) {
            self.subscribe(vec![subscription]);
        }
    }
}

/// The command and the name, for error messages: Redis does not say which name it means.
pub(super) fn describe(Subscription { name, is_pattern }: &Subscription) -> String {
    let what = if *is_pattern { "PSUBSCRIBE to the pattern" } else { "SUBSCRIBE to the channel" };
    format!("{what} {name:?}")
}

fn whole(payload: Value) -> Result<Payload, SourceError> {
    match payload {
        Value::Bulk(bytes) => Ok(Payload::Whole(bytes)),
        Value::TooLarge(bytes) => Ok(Payload::TooLarge(bytes)),
        other => Err(SourceError::Unexpected(format!("{other:?}"))),
    }
}

/// Removes the next name, if it is `name`: Redis confirms names in the order of the command.
fn take_named(
    names: &mut VecDeque<Subscription>,
    is_pattern: bool,
    name: &Bytes,
) -> Option<Subscription> {
    let is_next = names.front().is_some_and(|next| {
        next.is_pattern == is_pattern && next.name.as_str().as_bytes() == &name[..]
    });
    if is_next { names.pop_front() } else { None }
}

fn unasked(kind: &str, name: &Bytes) -> SourceError {
    SourceError::Unexpected(format!("{kind} {}", String::from_utf8_lossy(name)))
}
