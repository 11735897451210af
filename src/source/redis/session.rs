//! One connection to Redis, from its greeting to its end: what was asked, and what answers it.
//!
//! Answers come in the order of the questions, and pushes are no answers: what was not asked for ends
//! the connection, so that nothing is ever taken for something else.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::Connection;
use super::error::{SourceError, with_others};
use super::gathering::Gathering;
use super::life::{ASK_AGAIN_INTERVAL, some_of};
use super::subscription::Subscriber;
use crate::event::{Payload, Subscription};
use crate::hub::{SourceKind, SourceRequest};
use crate::source::resp::Value;

/// Names in one `SUBSCRIBE`.
const MAX_NAMES: usize = 512;
/// A `PING` goes out when nothing was heard for so long, and its answer may take as long again.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection is silent.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What an answer is awaited for, in the order in which it was asked.
#[derive(Debug)]
enum Awaited {
    /// One push for each name; these are not answered yet.
    Subscribed(VecDeque<Subscription>),
    Unsubscribed(VecDeque<Subscription>),
    Pong,
    /// Everything before this was asked for a new connection: what was lost is restored.
    Restored,
}

/// One connection, from its greeting to its end.
pub(super) struct Session<'a> {
    connection: Connection,
    owner: &'a mut Subscriber,
    awaited: VecDeque<Awaited>,
    // What Redis does not let us subscribe to. Some of it is asked for again each second.
    refused: HashSet<Subscription>,
    heard: Instant,
    gathering: Gathering,
    // Nothing was heard for too long when it was looked at last.
    is_doubted: bool,
    // Redis lets us subscribe to something.
    is_allowed: bool,
    is_restored: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(connection: Connection, owner: &'a mut Subscriber) -> Self {
        Self {
            connection,
            owner,
            awaited: VecDeque::new(),
            refused: HashSet::new(),
            heard: Instant::now(),
            gathering: Gathering::new(Instant::now()),
            is_doubted: false,
            is_allowed: false,
            is_restored: false,
        }
    }

    /// Why it ended, and whether everything had been subscribed to.
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
        let mut again = tokio::time::interval(ASK_AGAIN_INTERVAL);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.settle();
            tokio::select! {
                read = self.read() => {
                    read?;
                    self.heard = Instant::now();
                    let values = self.take_in()?;
                    self.gathering.note(values, Instant::now());
                }
                wishes = hub.source_requests(SourceKind::PubSub) => self.change(wishes),
                _ = look.tick() => self.look()?,
                _ = again.tick() => self.ask_again(),
            }
        }
    }

    /// Waits for something to read, and a moment longer where that is worth it. Cancel safe.
    async fn read(&mut self) -> Result<(), SourceError> {
        if let Some(until) = self.gathering.until() {
            self.connection.rest(until).await?;
        }
        self.connection.exchange().await
    }

    /// Takes everything that was read, and only then lets go of it: one batch. Gives how many values
    /// there were.
    fn take_in(&mut self) -> Result<usize, SourceError> {
        let mut values = 0;
        while let Some(value) = self.connection.next_value()? {
            // Before the value, not after all of them: it may answer what was asked behind the mark.
            self.pass_mark();
            self.take(value)?;
            values += 1;
        }
        self.settle();
        self.owner.intake.flush();
        // Confirmations are for the shards too, also where no message came with them.
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
                _ => Err(SourceError::Unexpected("a reply".into())),
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
            // Other pushes (client tracking, say) are not for us, and answer nothing.
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
        // What we say to ourselves is for nobody else.
        if self.owner.belief.heard(channel, &payload, self.heard) {
            self.owner.intake.end_message();
        } else {
            self.owner.intake.message(pattern, channel, &whole(payload)?);
        }
        Ok(())
    }

    fn subscribed(&mut self, is_pattern: bool, name: &Bytes) -> Result<(), SourceError> {
        // Pushes are not answers: one that was not asked for must not be taken for one.
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
        // Where it has been left since, and perhaps asked for again, the last answer counts.
        if !self.is_left_later(&subscription) {
            self.owner.belief.subscribed(&subscription);
            self.owner.hub.confirm(is_pattern, subscription.name.as_str());
            // It was refused at first, say: nothing more is waited for.
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

    /// An error in the place of an answer. One name that is not allowed fails the whole command, so
    /// its names are asked for one by one; what is refused alone is asked for again later
    /// ([`ASK_AGAIN_INTERVAL`]).
    fn refuse(&mut self, message: String) {
        let error = SourceError::Refused(message);
        let own = self.owner.belief.own();
        if matches!(self.awaited.front(), Some(Awaited::Subscribed(names)) if names.contains(&own))
        {
            // It is done without.
            tracing::info!(%error, "Redis does not let us send messages to ourselves");
            self.awaited.pop_front();
            return;
        }
        let Some(Awaited::Subscribed(mut names)) = self.awaited.pop_front() else {
            return self.owner.report(&error, "Redis refused a command");
        };
        // What has been left since is not asked for again: the answer to that is on its way.
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
            let error = error.to(with_others(describe(&name), self.refused.len() - 1));
            self.owner.report(&error, "Redis refused a subscription");
        }
    }

    /// What follows from the answers so far.
    fn settle(&mut self) {
        self.pass_mark();
        // A name that a client asks for and Redis forbids must not take the gateway away from all
        // others; that Redis forbids everything must.
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

    fn change(&mut self, wishes: impl Iterator<Item = (Subscription, SourceRequest)>) {
        let (follow, leave): (Vec<_>, Vec<_>) =
            wishes.partition(|&(_, wish)| wish == SourceRequest::Follow);
        let names = |wishes: Vec<(Subscription, SourceRequest)>| {
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
                self.connection.send(name, chunk.iter().map(|s| s.name.as_str()));
                self.awaited.push_back(awaited(chunk.iter().cloned().collect()));
            }
        }
    }

    fn look(&mut self) -> Result<(), SourceError> {
        let is_asked = self.awaited.iter().any(|awaited| matches!(awaited, Awaited::Pong));
        let silence = self.heard.elapsed();
        // Found silent twice: after a halt of this process what has arrived is to be read first.
        let was_doubted = std::mem::replace(&mut self.is_doubted, silence >= 2 * PING_INTERVAL);
        if was_doubted && self.is_doubted {
            return Err(SourceError::Unresponsive(silence.as_secs()));
        }
        if silence >= PING_INTERVAL && !is_asked {
            self.connection.send("PING", [].into_iter());
            self.awaited.push_back(Awaited::Pong);
        }
        Ok(())
    }

    /// Asks again for some of what was refused. Each by itself: one that is not allowed fails all that are
    /// asked for with it.
    fn ask_again(&mut self) {
        let is_asking =
            self.awaited.iter().any(|awaited| matches!(awaited, Awaited::Subscribed(_)));
        if is_asking {
            return;
        }
        for subscription in some_of(&self.refused) {
            self.subscribe(vec![subscription]);
        }
    }
}

/// The command and the name, for an error: Redis does not say which name it means.
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

/// Redis answers in the order of the names that it was asked for.
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
