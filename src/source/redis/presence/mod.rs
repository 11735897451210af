//! Who listens, kept in Redis for all gateways: a hash for each channel, with a lease for each gateway.
//!
//! One connection, opened when there is somebody to tell of, and used in turns: what has changed at this gateway, the
//! leases that are due, and what requests have asked meanwhile go out together. So the number of commands depends on
//! neither the streams that come nor the requests. Who came first and who left last is decided by a script
//! ([`command`]), by the clock of Redis.
//!
//! Streams know nothing of it. While Redis is away requests are told so at once, and what Redis has lost is said again.

mod command;
mod due;
mod inspect;

use std::time::Duration;

use ssegate_hub::ChannelName;
use ssegate_resp::Value;
use tokio::time::{Instant, sleep_until, timeout};

use self::command::{PresenceTeller, REPLIES, read_reply};
pub(super) use self::inspect::inspect;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::{SourceError, SourceErrorKind};
use super::retry::{FailureLog, backoff};
use super::server::RedisServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::presence::{
    ChangeOutcome, ChannelPresence, PresenceAway, PresenceLookup, PresenceLookups, PresenceWork,
};
use crate::webhook::Webhooks;

/// What the health calls it, and the publishing of who joins and leaves.
const PRESENCE: &str = "presence";
const JOINS: &str = "joins and leaves";
/// The least time between two turns.
const TURN: Duration = Duration::from_millis(25);
/// Channels and members that are changed in one turn, at most.
const MAX_IN_TURN: usize = 1000;
/// Questions that are asked in one turn, at most.
const MAX_LOOKUPS: usize = 64;
/// How long Redis may take for one turn.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// After connecting, how long nobody is taken to have ended: Redis may have been away for all of them.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is tried after Redis has refused it.
const PAUSE: Duration = Duration::from_secs(10);
/// A connection that was not used for so long is closed, before a service in between cuts it.
const IDLE: Duration = Duration::from_secs(30);
/// The longest string in a reply: the streams of one member at each gateway.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// Tells Redis who listens at this gateway, and asks who does at all.
pub(crate) struct RedisPresence {
    server: RedisServer,
    work: PresenceWork,
    lookups: PresenceLookups,
    webhooks: Webhooks,
    // What this gateway is called.
    gateway: String,
    failures: FailureLog,
    health: Health,
    metrics: Metrics,
    // What Redis refuses, as it was logged last.
    refused: Option<String>,
    // The same, of publishing who joins and leaves.
    fault: Option<String>,
}

impl RedisPresence {
    pub(crate) fn new(
        server: RedisServer,
        (work, lookups): (PresenceWork, PresenceLookups),
        webhooks: Webhooks,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        // The gateway is ready without it: streams do not need it.
        let record = |health: &Health, kind, error: &str| health.failed(PRESENCE, kind, error);
        let failures = FailureLog::new(&server, metrics.clone(), (health.clone(), record));
        let gateway = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let (refused, fault) = (None, None);
        Self { server, work, lookups, webhooks, gateway, failures, health, metrics, refused, fault }
    }

    /// Runs for ever: connects when somebody is there, or is asked for. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let mut asked = Vec::new();
            if self.work.is_idle() {
                tokio::select! {
                    () = self.work.news() => {}
                    Some(lookup) = self.lookups.recv() => asked.push(lookup),
                }
            }
            let connected = Instant::now();
            let Err(error) = self.follow(&mut asked).await else { continue };
            // The backoff is not reset by a server that completes the handshake and then fails.
            if connected.elapsed() >= PATIENCE {
                attempt = 0;
                self.refused = None;
            }
            let pause = self.report(&error, attempt);
            attempt += 1;
            asked.into_iter().for_each(|lookup| lookup.complete(Err(PresenceAway::Away)));
            self.refuse_for(pause).await;
        }
    }

    /// Takes turns until the connection is not needed any more.
    ///
    /// # Errors
    /// The connection failed, or Redis refuses what is needed. What was `asked` then is left there.
    async fn follow(&mut self, asked: &mut Vec<PresenceLookup>) -> Result<(), SourceError> {
        let kind = ConnectionKind::Command;
        let mut connection = RedisConnection::open(&self.server, MAX_REPLY_BYTES, kind).await?;
        let connected = Instant::now();
        // Of the last connection it is not known how far it came.
        self.work.begin_anew();
        let (mut used, mut looked) = (connected, connected);
        loop {
            if asked.is_empty() {
                tokio::select! {
                    () = sleep_until(looked + due::INTERVAL), if self.work.is_watching() => {}
                    () = self.work.news() => {}
                    Some(lookup) = self.lookups.recv() => asked.push(lookup),
                    ended = connection.exchange() => match ended {
                        Ok(()) => drop_pushes(&mut connection)?,
                        Err(_) if self.work.is_idle() => return Ok(()),
                        Err(error) => return Err(error),
                    },
                    () = sleep_until(used + IDLE), if self.work.is_idle() => return Ok(()),
                }
            }
            while asked.len() < MAX_LOOKUPS
                && let Ok(lookup) = self.lookups.try_recv()
            {
                asked.push(lookup);
            }
            let teller =
                PresenceTeller { gateway: &self.gateway, may_end: connected.elapsed() >= PATIENCE };
            let turn = take_turn(&mut connection, (&self.work, teller, &self.webhooks), asked);
            let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
            let fault = timeout(REPLY_TIMEOUT, turn).await.unwrap_or(Err(timed_out))?;
            self.health.works(PRESENCE);
            if teller.may_end && looked.elapsed() >= due::INTERVAL {
                let routes = self.work.watched();
                let ending = due::end_due(&mut connection, (&routes, teller, &self.webhooks));
                let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
                timeout(REPLY_TIMEOUT, ending).await.unwrap_or(Err(timed_out))?;
            }
            if looked.elapsed() >= due::INTERVAL {
                looked = Instant::now();
            }
            self.note_fault(fault);
            used = Instant::now();
            sleep_until(used + TURN).await;
        }
    }

    /// Counts and logs a failure. Returns how long to wait.
    fn report(&mut self, error: &SourceError, attempt: u32) -> Duration {
        let is_refusal = matches!(
            error.kind(),
            SourceErrorKind::Permission | SourceErrorKind::Refused | SourceErrorKind::Protocol
        );
        if !is_refusal {
            self.failures.report(error, "cannot keep who listens; reconnecting");
            return backoff(attempt);
        }
        let (kind, text) = (error.kind().as_str(), error.to_string());
        self.metrics.source_error(kind);
        self.health.failed(PRESENCE, kind, &text);
        if self.refused.as_ref() != Some(&text) {
            tracing::warn!(
                address = %self.server,
                error = text,
                hint = "deploy/redis-users.acl has the rights that it needs",
                "presence does not work"
            );
            self.refused = Some(text);
        }
        PAUSE
    }

    /// Says once that who joins and leaves cannot be published.
    fn note_fault(&mut self, fault: Option<String>) {
        // A turn without joins says nothing.
        let Some(error) = fault else { return };
        let kind = SourceErrorKind::Refused.as_str();
        self.metrics.source_error(kind);
        self.health.failed(JOINS, kind, &error);
        if self.fault.as_ref() != Some(&error) {
            tracing::warn!(
                address = %self.server,
                error,
                hint = "deploy/redis-users.acl has the rights that it needs",
                "streams are not told who joins and leaves: Redis refused PUBLISH"
            );
            self.fault = Some(error);
        }
    }

    /// Refuses questions at once until the next attempt: a client can wait better than we can.
    async fn refuse_for(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => return,
                Some(lookup) = self.lookups.recv() => lookup.complete(Err(PresenceAway::Away)),
            }
        }
    }
}

/// Tells what is new, and asks. Returns why who joins and leaves could not be published, if so.
async fn take_turn(
    connection: &mut RedisConnection,
    (work, teller, webhooks): (&PresenceWork, PresenceTeller<'_>, &Webhooks),
    asked: &mut Vec<PresenceLookup>,
) -> Result<Option<String>, SourceError> {
    let changes = work.take(MAX_IN_TURN);
    for batch in command::batches(&changes) {
        command::queue_update(connection, teller, batch);
    }
    // Each channel once, however many ask.
    let mut names: Vec<(&ChannelName, bool)> = Vec::new();
    for lookup in asked.iter() {
        let wanted = lookup.channels.iter().map(|name| (name, lookup.is_count));
        names.extend(wanted);
    }
    names.sort_unstable();
    names.dedup();
    for (name, is_count) in &names {
        match is_count {
            true => command::queue_count(connection, name),
            false => command::queue_members(connection, name),
        }
    }
    let (mut fault, mut told) = (None, Vec::with_capacity(changes.len()));
    for batch in command::batches(&changes) {
        let reply = read_reply(connection).await?;
        let replies = command::update_replies(&reply, batch.len())?;
        for (change, reply) in batch.iter().zip(replies) {
            let is_lost = reply.outcome == ChangeOutcome::Lost;
            if is_lost {
                tracing::debug!(channel = %change.name, "Redis has lost who listens");
            }
            if let Some(event) = reply.event {
                change.tell(webhooks, event, reply.time_ms);
            }
            work.settle(change, &reply.outcome);
            fault = fault.or(reply.fault);
            if !is_lost {
                told.push((change, reply.event, reply.time_ms));
            }
        }
    }
    let mut found = Vec::with_capacity(names.len());
    for (_, is_count) in &names {
        let replies = read_replies(connection, REPLIES[usize::from(!is_count)]).await?;
        found.push(match is_count {
            true => command::count(&replies)?
                .map(|count| ChannelPresence { count, members: Vec::new() }),
            false => Some(command::members(&replies)?),
        });
    }
    for ((name, _), found) in names.iter().zip(&mut found) {
        if found.is_none() {
            command::queue_members(connection, name);
            let counted = command::members(&read_replies(connection, REPLIES[1]).await?)?;
            *found = Some(ChannelPresence { members: Vec::new(), ..counted });
        }
    }
    let notes = due::queue_notes(connection, told.into_iter());
    for reply in read_replies(connection, notes).await? {
        due::refused(reply)?;
    }
    let of = |name: &ChannelName, is_count: bool| {
        let place = names.binary_search(&(name, is_count)).ok();
        place.and_then(|place| found[place].clone()).unwrap_or_default()
    };
    let results: Vec<Vec<ChannelPresence>> = asked
        .iter()
        .map(|lookup| lookup.channels.iter().map(|name| of(name, lookup.is_count)).collect())
        .collect();
    for (lookup, result) in asked.drain(..).zip(results) {
        lookup.complete(Ok(result));
    }
    Ok(fault)
}

async fn read_replies(
    connection: &mut RedisConnection,
    count: usize,
) -> Result<Vec<Value>, SourceError> {
    let mut replies = Vec::with_capacity(count);
    while replies.len() < count {
        replies.push(read_reply(connection).await?);
    }
    Ok(replies)
}

/// Between two turns no reply is due.
fn drop_pushes(connection: &mut RedisConnection) -> Result<(), SourceError> {
    while let Some(value) = connection.next_value()? {
        if !matches!(value, Value::Push(_)) {
            return Err(SourceError::Unexpected(format!("{value:?}")));
        }
    }
    Ok(())
}

impl std::fmt::Debug for RedisPresence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisPresence").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}
