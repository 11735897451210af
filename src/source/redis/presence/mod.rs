//! Presence in Redis, for all gateways: a hash for each channel, with a lease for each gateway.
//!
//! One connection, in a Cluster one to each node, opened when there are members to write or requests to read. It works
//! in turns. In each turn the changes of this gateway, the leases that are due, and the requests that have come
//! meanwhile go out together. So the number of commands depends neither on how many streams come nor on how many
//! requests. A script ([`command`]) decides, by the clock of Redis, which member was the first and which the last.
//!
//! Streams do not know about it. While Redis is away requests are refused at once. What Redis has lost is written
//! again.

mod command;
mod due;
mod inspect;

use std::time::Duration;

use ssegate_hub::ChannelName;
use tokio::time::{Instant, sleep_until};

use self::command::{PresenceWriter, REPLIES};
pub(super) use self::inspect::inspect;
use super::error::{SourceError, SourceErrorKind};
use super::keyed::KeyedConnection;
use super::retry::{FailureLog, backoff};
use super::server::RedisServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::presence::{
    ChangeOutcome, ChannelPresence, PresenceAway, PresenceLookup, PresenceLookups, PresenceWork,
};
use crate::webhook::Webhooks;

/// Their names in the health: presence, and the publishing of its events.
const PRESENCE: &str = "presence";
const JOINS: &str = "joins and leaves";
/// The least time between two turns.
const TURN: Duration = Duration::from_millis(25);
/// Channels and members that are changed in one turn, at most.
const MAX_IN_TURN: usize = 1000;
/// Requests in one turn, at most.
const MAX_LOOKUPS: usize = 64;
/// After connecting, how long no lease counts as expired: Redis may have been away for all gateways. The same after a
/// node of a Cluster was away.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// How long nothing is tried after Redis has refused it.
const PAUSE: Duration = Duration::from_secs(10);
/// A connection that is unused for this long is closed, before a service in between closes it.
const IDLE: Duration = Duration::from_secs(30);
/// The longest string in a reply: the streams of one member at each gateway.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// Writes the members of this gateway to Redis, and reads those of all gateways.
pub(crate) struct RedisPresence {
    server: RedisServer,
    work: PresenceWork,
    lookups: PresenceLookups,
    webhooks: Webhooks,
    // The name of this gateway.
    gateway: String,
    failures: FailureLog,
    health: Health,
    metrics: Metrics,
    // What Redis refuses, as last logged.
    refused: Option<String>,
    // The same for publishing presence events.
    fault: Option<String>,
    // Whether a node of the Cluster was away, which was logged.
    is_partial: bool,
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
        Self {
            server,
            work,
            lookups,
            webhooks,
            gateway,
            failures,
            health,
            metrics,
            refused: None,
            fault: None,
            is_partial: false,
        }
    }

    /// Runs for ever: connects when there are members or requests. Owned by the gateway, which drops it.
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
            if connected.elapsed() >= LEASE_MARGIN {
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
    /// The connection failed, or Redis refuses what is needed. The requests stay in `asked`.
    async fn follow(&mut self, asked: &mut Vec<PresenceLookup>) -> Result<(), SourceError> {
        let mut connection = KeyedConnection::open(&self.server, MAX_REPLY_BYTES).await?;
        let connected = Instant::now();
        // Since when no node was away.
        let mut whole = connected;
        // It is not known how much of the last turn was executed.
        self.work.begin_anew();
        // A refusal is logged again on a new connection.
        self.fault = None;
        self.health.works(JOINS);
        let (mut used, mut looked) = (connected, connected);
        loop {
            if asked.is_empty() {
                tokio::select! {
                    () = sleep_until(looked + due::INTERVAL), if self.work.is_watching() => {}
                    () = self.work.news() => {}
                    Some(lookup) = self.lookups.recv() => asked.push(lookup),
                    lost = connection.lost() => match lost {
                        Ok(never) => match never {},
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
                PresenceWriter { gateway: &self.gateway, may_end: whole.elapsed() >= LEASE_MARGIN };
            let mut turn =
                take_turn(&mut connection, (&self.work, teller, &self.webhooks), asked).await?;
            if teller.may_end && !turn.is_partial && looked.elapsed() >= due::INTERVAL {
                let routes = self.work.watched();
                let due = (&*routes, teller, &self.webhooks);
                turn.is_partial = !due::end_due(&mut connection, due).await?;
            }
            if turn.is_partial {
                let error = connection.why_unknown();
                self.note_partial(&error);
                whole = Instant::now();
            } else if !self.is_partial || whole.elapsed() >= LEASE_MARGIN {
                // Within that time leases were renewed at the node that was away, too.
                self.is_partial = false;
                if self.health.works(PRESENCE) {
                    tracing::info!(address = %self.server, "presence is up to date again at all gateways");
                }
            }
            if looked.elapsed() >= due::INTERVAL {
                looked = Instant::now();
            }
            self.note_fault(turn.fault);
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
            self.failures.report(error, "cannot store presence in Redis; reconnecting");
            return backoff(attempt);
        }
        let (kind, text) = (error.kind().as_str(), self.server.explain(error));
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

    /// Logs once that a node of a Cluster is away.
    fn note_partial(&mut self, error: &SourceError) {
        match std::mem::replace(&mut self.is_partial, true) {
            true => self.failures.note(error),
            false => {
                self.failures
                    .report(error, "cannot store presence at a node of the Cluster; retrying");
            }
        }
    }

    /// Logs once that presence events cannot be published.
    fn note_fault(&mut self, fault: Option<String>) {
        // A turn in which no member joins or leaves publishes nothing.
        let Some(error) = fault else { return };
        let kind = SourceErrorKind::Refused.as_str();
        self.metrics.source_error(kind);
        self.health.failed(JOINS, kind, &error);
        if self.fault.as_ref() != Some(&error) {
            tracing::warn!(
                address = %self.server,
                error,
                hint = "deploy/redis-users.acl has the rights that it needs",
                "streams get no join and leave events of presence: Redis refused PUBLISH"
            );
            self.fault = Some(error);
        }
    }

    /// Refuses requests at once until the next attempt: waiting is up to the clients.
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

/// The result of a turn.
#[derive(Debug, Default)]
struct PresenceTurn {
    /// Why presence events could not be published.
    fault: Option<String>,
    /// Not all nodes of a Cluster have replied.
    is_partial: bool,
}

/// Writes the changes, and reads what was requested.
async fn take_turn(
    connection: &mut KeyedConnection,
    (work, teller, webhooks): (&PresenceWork, PresenceWriter<'_>, &Webhooks),
    asked: &mut Vec<PresenceLookup>,
) -> Result<PresenceTurn, SourceError> {
    let changes = work.take(MAX_IN_TURN);
    let (mut turn, mut told) = (PresenceTurn::default(), Vec::with_capacity(changes.len()));
    for (change, reply) in command::update(connection, teller, &changes).await? {
        let Some(reply) = reply else {
            // The store may not have it: all of it is written again.
            work.settle(change, &ChangeOutcome::Lost);
            turn.is_partial = true;
            continue;
        };
        let is_lost = reply.outcome == ChangeOutcome::Lost;
        if is_lost {
            tracing::debug!(channel = %change.name, "Redis has lost the presence of a channel; writing it again");
        }
        if let Some(event) = reply.event {
            change.call_webhook(webhooks, event, reply.time_ms);
        }
        work.settle(change, &reply.outcome);
        turn.fault = turn.fault.or(reply.fault);
        if !is_lost {
            told.push((change, reply.event, reply.time_ms));
        }
    }
    // Each channel once, however many requests there are for it.
    let mut names: Vec<(&ChannelName, bool)> = Vec::new();
    for lookup in asked.iter() {
        names.extend(lookup.channels.iter().map(|name| (name, lookup.is_count)));
    }
    names.sort_unstable();
    names.dedup();
    due::queue_notes(connection, told.into_iter());
    let found = look_up(connection, &names).await?;
    turn.is_partial |= found.iter().any(Result::is_err);
    let of = |name: &ChannelName, is_count: bool| match names.binary_search(&(name, is_count)) {
        Ok(place) => found[place].clone(),
        Err(_) => Ok(ChannelPresence::default()),
    };
    let results: Vec<Result<Vec<ChannelPresence>, PresenceAway>> = asked
        .iter()
        .map(|lookup| lookup.channels.iter().map(|name| of(name, lookup.is_count)).collect())
        .collect();
    for (lookup, result) in asked.drain(..).zip(results) {
        lookup.complete(result);
    }
    Ok(turn)
}

/// Reads the members of these channels, or their number; an error for a channel whose node does not reply. Notes may
/// have been queued before.
async fn look_up(
    connection: &mut KeyedConnection,
    names: &[(&ChannelName, bool)],
) -> Result<Vec<Result<ChannelPresence, PresenceAway>>, SourceError> {
    for (name, is_count) in names {
        match is_count {
            true => command::queue_count(connection, name),
            false => command::queue_members(connection, name),
        }
    }
    let mut replies = connection.replies().await?;
    let asked: usize = names.iter().map(|(_, is_count)| REPLIES[usize::from(!is_count)]).sum();
    let mut of_names = replies.split_off(replies.len() - asked).into_iter();
    for note in replies.into_iter().flatten() {
        due::refused(note)?;
    }
    let mut found = Vec::with_capacity(names.len());
    for (_, is_count) in names {
        let of_name: Vec<_> = of_names.by_ref().take(REPLIES[usize::from(!is_count)]).collect();
        let of_name: Option<Vec<_>> = of_name.into_iter().collect();
        found.push(match (of_name, is_count) {
            (None, _) => Err(PresenceAway::Away),
            (Some(replies), true) => Ok(command::count(&replies)?
                .map(|count| ChannelPresence { count, members: Vec::new() })),
            (Some(replies), false) => Ok(Some(command::members(&replies)?)),
        });
    }
    // A lease has expired: the members have to be read to count those that are left.
    let unknown: Vec<usize> =
        (0..found.len()).filter(|at| matches!(found[*at], Ok(None))).collect();
    unknown.iter().for_each(|at| command::queue_members(connection, names[*at].0));
    let replies = connection.replies().await?;
    for (at, replies) in unknown.into_iter().zip(replies.chunks(REPLIES[1])) {
        found[at] = match replies.iter().cloned().collect::<Option<Vec<_>>>() {
            None => Err(PresenceAway::Away),
            Some(replies) => {
                let counted = command::members(&replies)?;
                Ok(Some(ChannelPresence { members: Vec::new(), ..counted }))
            }
        };
    }
    Ok(found.into_iter().map(|found| found.map(Option::unwrap_or_default)).collect())
}

impl std::fmt::Debug for RedisPresence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisPresence").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}
