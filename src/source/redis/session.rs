//! One pub/sub connection to Redis after its handshake: subscribes to what the hub follows, and hands what
//! comes to the hub.
//!
//! Replies are matched to commands ([`pending`](super::pending)). An unexpected one ends the connection.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::{FleetRequest, OrderId, SourceKind, SourceRequest, Subscription};
use ssegate_resp::{Payload, Value};
use tokio::time::{Instant, MissedTickBehavior};

use super::coalescing::ReadCoalescer;
use super::connection::RedisConnection;
use super::error::{SourceError, with_others};
use super::feed::PubSubFeed;
use super::fleet::FleetMember;
use super::fleet::server::ServerIdentity;
use super::pending::{PendingCommands, PubSubCommand};
use super::retry::{RETRY_INTERVAL, sample_to_retry};
use super::silence::{SILENCE_INTERVAL, Silence};
use crate::source::fleet::is_of_fleet;

/// How often to check whether a gateway that starts follows what its fleet follows.
const WARM_INTERVAL: Duration = Duration::from_millis(20);

/// One pub/sub connection after its handshake.
pub(super) struct PubSubSession<'a> {
    connection: RedisConnection,
    feed: &'a mut PubSubFeed,
    pending: PendingCommands,
    // Subscriptions that Redis refused. Some of them are retried every second.
    refused: HashSet<Subscription>,
    silence: Silence,
    coalescer: ReadCoalescer,
    // Redis has confirmed at least one subscription.
    is_any_confirmed: bool,
    is_restored: bool,
    // The gateway follows what its fleet follows.
    is_warm: bool,
}

impl<'a> PubSubSession<'a> {
    pub(super) fn new(connection: RedisConnection, feed: &'a mut PubSubFeed) -> Self {
        Self {
            connection,
            feed,
            pending: PendingCommands::default(),
            refused: HashSet::new(),
            silence: Silence::new(Instant::now()),
            coalescer: ReadCoalescer::new(Instant::now()),
            is_any_confirmed: false,
            is_restored: false,
            is_warm: false,
        }
    }

    /// Runs until the connection fails. Returns the error, and whether all subscriptions were restored.
    /// `server`: the server that it leads to, for a gateway of a fleet.
    pub(super) async fn run(mut self, server: Option<ServerIdentity>) -> (SourceError, bool) {
        if let (Some(fleet), Some(server)) = (&mut self.feed.fleet, server) {
            // Before everything else: a message is named by the mark before it.
            let channels = fleet.begin(&server);
            self.subscribe(channels);
        }
        match self.serve().await {
            Ok(never) => match never {},
            Err(error) => (error, self.is_restored),
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, SourceError> {
        let hub = self.feed.hub.clone();
        let followed = self.without_own(hub.followed());
        self.subscribe(followed);
        self.pending.push(PubSubCommand::Resubscribed);
        self.subscribe(vec![self.feed.state.probe_subscription()]);
        let mut liveness = tokio::time::interval(SILENCE_INTERVAL);
        liveness.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.update_readiness();
            tokio::select! {
                read = self.read() => {
                    read?;
                    self.silence.end(Instant::now());
                    let values = self.handle_batch()?;
                    self.coalescer.record_read(values, Instant::now());
                }
                changes = hub.source_requests(SourceKind::PubSub) => self.apply_changes(changes),
                requests = hub.fleet_requests() => self.serve_fleet(requests),
                () = tokio::time::sleep(WARM_INTERVAL), if !self.is_warm => {}
                _ = liveness.tick() => self.check_liveness()?,
                _ = retry.tick() => self.retry_refused(),
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
    fn handle_batch(&mut self) -> Result<usize, SourceError> {
        let mut values = 0;
        while let Some(value) = self.connection.next_value()? {
            // Before each value, not after all of them: the value may confirm a command sent after
            // the mark.
            self.complete_resubscribe();
            self.handle(value)?;
            values += 1;
        }
        self.update_readiness();
        self.feed.intake.flush();
        // Confirmations must reach the shards even if no message came with them.
        self.feed.hub.flush();
        Ok(values)
    }

    fn handle(&mut self, value: Value) -> Result<(), SourceError> {
        match value {
            Value::Push(parts) => self.handle_push(parts),
            Value::Error(message) => {
                self.handle_error(String::from_utf8_lossy(&message).into());
                Ok(())
            }
            Value::Simple(_) | Value::Bulk(_) => match self.pending.pop() {
                Some(PubSubCommand::Ping(fence)) => {
                    self.pass(fence);
                    Ok(())
                }
                _ => Err(SourceError::Unexpected("no command is pending".into())),
            },
            other => Err(SourceError::Unexpected(format!("{other:?}"))),
        }
    }

    /// <https://redis.io/docs/latest/develop/pubsub/#format-of-pushed-messages>
    fn handle_push(&mut self, parts: Vec<Value>) -> Result<(), SourceError> {
        let mut parts = parts.into_iter();
        let kind = parts.next();
        let kind = kind.as_ref().and_then(Value::as_bytes).map_or(&b""[..], |kind| kind);
        match (kind, parts.next(), parts.next(), parts.next()) {
            (b"message", Some(Value::Bulk(channel)), Some(payload), None) => {
                self.deliver(None, &channel, payload)?;
            }
            (
                b"pmessage",
                Some(Value::Bulk(pattern)),
                Some(Value::Bulk(channel)),
                Some(payload),
            ) => {
                self.deliver(Some(&pattern), &channel, payload)?;
            }
            (b"subscribe", Some(Value::Bulk(name)), ..) => self.confirm_subscribed(false, &name)?,
            (b"psubscribe", Some(Value::Bulk(name)), ..) => self.confirm_subscribed(true, &name)?,
            (b"unsubscribe", Some(Value::Bulk(name)), ..) => {
                self.pending.take_unsubscribed(false, &name)?;
            }
            (b"punsubscribe", Some(Value::Bulk(name)), ..) => {
                self.pending.take_unsubscribed(true, &name)?;
            }
            // Other push messages (client tracking, for example) are not replies, and are ignored.
            _ => {}
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        pattern: Option<&[u8]>,
        channel: &[u8],
        value: Value,
    ) -> Result<(), SourceError> {
        // Neither what gateways publish for each other nor the probes of the self-check are for clients.
        if is_of_fleet(channel) {
            if let (Some(fleet), None) = (&self.feed.fleet, pattern) {
                // A value after the message: no further copy of the message follows.
                self.feed.intake.end_message();
                fleet.receive(channel, &payload(value)?);
            }
        } else if self.feed.state.record_message(channel, &value, self.silence.last_read()) {
            self.feed.intake.end_message();
        } else {
            self.feed.intake.message(pattern, channel, &payload(value)?);
        }
        Ok(())
    }

    fn confirm_subscribed(&mut self, is_pattern: bool, name: &Bytes) -> Result<(), SourceError> {
        let subscription = self.pending.take_subscribed(is_pattern, name)?;
        self.refused.remove(&subscription);
        if subscription == self.feed.state.probe_subscription() {
            self.feed.state.add(&subscription);
            return Ok(());
        }
        if let Some(fleet) = self.feed.fleet.as_mut().filter(|fleet| fleet.has(&subscription)) {
            self.feed.state.add(&subscription);
            fleet.confirm();
            return Ok(());
        }
        self.is_any_confirmed = true;
        // If the name was unsubscribed since, and perhaps subscribed again, the last reply counts.
        if !self.pending.is_unsubscribing(&subscription) {
            self.feed.state.add(&subscription);
            self.feed.hub.confirm(is_pattern, subscription.name.as_str());
            // For example, it was refused at first: nothing else is being restored that would call this
            // later.
            if self.is_restored {
                self.feed.hub.restored();
            }
        }
        Ok(())
    }

    /// Handles an error reply. One denied name fails the whole command, so its names are retried
    /// one by one; a name that is refused alone is retried later ([`RETRY_INTERVAL`]).
    fn handle_error(&mut self, message: String) {
        let error = SourceError::Refused(message);
        if self.is_refusal_of_fleet(&error) {
            return;
        }
        let probe = self.feed.state.probe_subscription();
        if self.pending.subscribing().is_some_and(|names| names.contains(&probe)) {
            // The self-check works without its probe.
            tracing::info!(%error, "Redis denies the channel ssegate:check:*; the self-check sends no probe");
            self.pending.pop();
            return;
        }
        let mut names = match self.pending.pop() {
            Some(PubSubCommand::Subscribe(names)) => names,
            command => {
                if let Some(PubSubCommand::Ping(fence)) = command {
                    // An error reply takes the place of the reply to `PING`.
                    self.pass(fence);
                }
                return self.feed.failures.report(&error, "Redis refused a command");
            }
        };
        // Names that were unsubscribed since are not retried.
        names.retain(|name| {
            self.feed.hub.is_followed(name.is_pattern, name.name.as_str())
                && !self.pending.is_unsubscribing(name)
        });
        if names.len() > 1 {
            for subscription in names {
                self.subscribe(vec![subscription]);
            }
            // Streams get the gaps of the outage when all of the names are subscribed again.
            self.pending.delay_resubscribed();
        } else if let Some(name) = names.pop_front() {
            self.feed.hub.deny(name.is_pattern, name.name.as_str());
            self.refused.insert(name.clone());
            let error = error.for_command(with_others(describe(&name), self.refused.len() - 1));
            self.feed.failures.report(&error, "Redis refused a subscription");
        }
    }

    /// Handles an error reply to the subscription to the channels of the fleet.
    fn is_refusal_of_fleet(&mut self, error: &SourceError) -> bool {
        let first = self.pending.subscribing().and_then(VecDeque::front);
        let Some(fleet) = self.feed.fleet.as_mut() else { return false };
        let is_fleet = first.is_some_and(|first| fleet.has(first));
        if is_fleet {
            fleet.refuse(&error.to_string());
            self.pending.pop();
        }
        is_fleet
    }

    /// The reply to a `PING` has arrived: everything before it was received.
    fn pass(&mut self, fence: Option<u64>) {
        self.feed.intake.end_message();
        if let Some(ticket) = fence {
            self.feed.hub.in_order(OrderId::PLAIN).pass_fence(ticket);
        }
    }

    fn serve_fleet(&mut self, requests: Vec<FleetRequest>) {
        let Some(fleet) = &self.feed.fleet else { return };
        for ticket in requests.into_iter().filter_map(|request| fleet.serve(request)) {
            self.pending.ping(&mut self.connection, Some(ticket));
        }
    }

    /// Removes the channels of the fleet, and confirms them. This connection is always subscribed to them,
    /// and no client receives their messages.
    fn without_own(&self, mut subscriptions: Vec<Subscription>) -> Vec<Subscription> {
        if let Some(fleet) = &self.feed.fleet {
            let own = subscriptions.extract_if(.., |subscription| fleet.has(subscription));
            for Subscription { name, is_pattern } in own {
                // Redis has not replied: another copy of the newest message may follow.
                self.feed.hub.confirm_silent(is_pattern, name.as_str());
            }
        }
        subscriptions
    }

    /// Updates the readiness after the replies so far.
    fn update_readiness(&mut self) {
        self.complete_resubscribe();
        self.is_warm = self.feed.fleet.as_mut().is_none_or(FleetMember::report_warmth);
        // One denied name that a client asks for must not make the gateway unready for all other
        // clients; if Redis denies every name, it is unready.
        let is_refused = !self.refused.is_empty() && !self.is_any_confirmed;
        self.feed.health.set_source_ready(self.is_restored && !is_refused);
    }

    fn complete_resubscribe(&mut self) {
        if self.pending.take_resubscribed() {
            self.feed.hub.restored();
            self.feed.hub.flush();
            self.is_restored = true;
        }
    }

    fn apply_changes(&mut self, changes: impl Iterator<Item = (Subscription, SourceRequest)>) {
        let (follow, leave): (Vec<_>, Vec<_>) =
            changes.partition(|&(_, request)| request == SourceRequest::Follow);
        let names = |changes: Vec<(Subscription, SourceRequest)>| {
            changes.into_iter().map(|(subscription, _)| subscription).collect::<Vec<_>>()
        };
        let has = |subscription: &Subscription| {
            self.feed.fleet.as_ref().is_some_and(|fleet| fleet.has(subscription))
        };
        let mut leave = names(leave);
        leave.retain(|subscription| !has(subscription));
        for subscription in &leave {
            self.feed.state.remove(subscription);
            self.refused.remove(subscription);
        }
        self.pending.unsubscribe(&mut self.connection, leave);
        let follow = self.without_own(names(follow));
        self.subscribe(follow);
    }

    fn subscribe(&mut self, subscriptions: Vec<Subscription>) {
        self.pending.subscribe(&mut self.connection, subscriptions);
    }

    fn check_liveness(&mut self) -> Result<(), SourceError> {
        if self.silence.check(Instant::now())? && !self.pending.has_ping() {
            self.pending.ping(&mut self.connection, None);
        }
        Ok(())
    }

    /// Retries some of the refused subscriptions, each in its own command: one denied name fails
    /// the whole command.
    fn retry_refused(&mut self) {
        if self.pending.has_subscribe() {
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

fn payload(value: Value) -> Result<Payload, SourceError> {
    Payload::try_from(value).map_err(|other| SourceError::Unexpected(format!("{other:?}")))
}
