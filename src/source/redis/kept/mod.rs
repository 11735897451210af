//! Kept streams in Redis: makes the calls of the gateway's threads, and receives the notifications of other gateways.
//!
//! Two connections, opened when a route keeps its streams in Redis and the first stream begins or is asked for. One
//! is for commands, on which no call waits for another. The other listens to the channel of this gateway. Messages
//! there only save time: whatever they announce is also in Redis, which is read periodically.

mod inspect;
mod reachability;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::{ChannelName, Subscription};
use ssegate_resp::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::inspect::{inspect, notices};
use self::reachability::{LEASE_MARGIN, RedisReachability};
use super::connection::{ConnectionKind, RedisConnection};
use super::error::{SourceError, SourceErrorKind};
use super::keyed_pipeline::KeyedPipeline;
use super::listening::ListeningConnection;
use super::lost_nodes::NodeLoss;
use super::retry::{FailureLog, backoff};
use super::server::RedisServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::kept::{KeptAway, KeptCall, KeptLink, KeptStore};
use crate::source::redis::script::{RedisScript, is_unknown};

/// Its name in the health.
const KEPT: &str = "kept streams";
/// The longest string in a reply: the description of a stream, or one entry.
const MAX_REPLY_BYTES: usize = 4 << 20;
/// The longest message of another gateway.
const MAX_MESSAGE_BYTES: usize = 4096;
/// Logged when a node is back.
const IS_BACK: &str = "connected again to a node that keeps streams";
/// How long nothing is tried after Redis has refused the connection.
const PAUSE: Duration = Duration::from_secs(10);

/// Makes calls about kept streams.
pub(crate) struct RedisKept {
    server: RedisServer,
    store: KeptStore,
    calls: mpsc::Receiver<KeptCall>,
    failures: FailureLog,
    health: Health,
    metrics: Metrics,
    // Whether the connection has failed since the last successful call.
    has_failed: bool,
    // The script that Redis refuses, and its error as last logged.
    refused: Option<(&'static RedisScript, String)>,
}

/// A command in flight.
enum KeptInFlight {
    Call { call: KeptCall, has_text: bool },
    Ping,
}

impl RedisKept {
    pub(crate) fn new(
        server: RedisServer,
        (store, calls): KeptLink,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        // The gateway is ready without it: streams of its own clients are still kept.
        let record = |health: &Health, kind, error: &str| health.failed(KEPT, kind, error);
        let failures = FailureLog::new(&server, metrics.clone(), (health.clone(), record));
        let (has_failed, refused) = (false, None);
        Self { server, store, calls, failures, health, metrics, has_failed, refused }
    }

    /// Runs for ever: connects with the first call, reconnects. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        // Not in the health: kept streams are shared without notifications, too.
        let record = |_: &Health, _: &'static str, _: &str| {};
        let health = (self.health.clone(), record as fn(&Health, &'static str, &str));
        let refusals = FailureLog::new(&self.server, self.metrics.clone(), health);
        let store = self.store.clone();
        let listening = listen(self.server.clone(), store.clone(), refusals);
        tokio::select! {
            () = listening => {}
            () = store.look_for_losses() => {}
            () = self.make_calls() => {}
        }
    }

    async fn make_calls(&mut self) {
        let mut attempt = 0;
        loop {
            // A gateway without such streams has no connection for them.
            let mut first = match attempt {
                0 => self.calls.recv().await,
                _ => None,
            };
            let connected = Instant::now();
            let opened = KeyedPipeline::open(&self.server, MAX_REPLY_BYTES, Some(IS_BACK)).await;
            let error = match opened {
                Ok(mut pipeline) => {
                    let error = self.serve(&mut pipeline, first.take()).await;
                    let mut was_idle = true;
                    for lost in pipeline.into_pending() {
                        if let KeptInFlight::Call { call, .. } = lost {
                            was_idle = false;
                            call.complete(Err(KeptAway::Away));
                        }
                    }
                    if connected.elapsed() >= LEASE_MARGIN {
                        attempt = 0;
                    }
                    // A service in between has closed an unused connection.
                    if was_idle && attempt == 0 {
                        continue;
                    }
                    error
                }
                Err(error) => error,
            };
            if let Some(first) = first {
                first.complete(Err(KeptAway::Away));
            }
            self.has_failed = true;
            self.failures.report(&error, "cannot keep streams in Redis; reconnecting");
            let is_refusal =
                matches!(error.kind(), SourceErrorKind::Auth | SourceErrorKind::Permission);
            self.refuse_for(if is_refusal { PAUSE } else { backoff(attempt) }).await;
            attempt += 1;
        }
    }

    /// Makes calls until the connection fails. Returns the error.
    async fn serve(
        &mut self,
        pipeline: &mut KeyedPipeline<KeptInFlight>,
        first: Option<KeptCall>,
    ) -> SourceError {
        let mut redis = RedisReachability::new(Instant::now());
        if let Some(call) = first {
            send(pipeline, (call, false), &redis);
        }
        loop {
            let ping_at = redis.ping_at();
            tokio::select! {
                Some(call) = self.calls.recv() => {
                    send(pipeline, (call, false), &redis);
                    while let Ok(call) = self.calls.try_recv() {
                        send(pipeline, (call, false), &redis);
                    }
                }
                () = sleep_until(ping_at.unwrap_or_else(Instant::now)), if ping_at.is_some() => {
                    let (nodes, is_new) = pipeline.ping(|| KeptInFlight::Ping);
                    redis.pinged(Instant::now(), nodes);
                    if is_new {
                        redis.broke(Instant::now());
                    }
                }
                exchanged = pipeline.exchange() => {
                    let (done, failure) = match exchanged {
                        Ok(exchanged) => exchanged,
                        Err(error) => return error,
                    };
                    if let Some(failure) = failure {
                        redis.broke(Instant::now());
                        self.has_failed |= failure.loss != NodeLoss::Idle;
                        let what = "cannot keep streams at a node of the Cluster";
                        self.failures.lost(&failure.error, what, failure.loss);
                    }
                    for (in_flight, reply) in done {
                        match in_flight {
                            // An error reply also shows that Redis is reachable.
                            KeptInFlight::Ping => redis.replied(Instant::now(), reply.is_some()),
                            KeptInFlight::Call { call, has_text } => {
                                if let Some(again) = self.take((call, has_text), reply) {
                                    send(pipeline, (again, true), &redis);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Handles a reply. Returns the call if it is to be made again, with the text of its script.
    fn take(
        &mut self,
        (call, has_text): (KeptCall, bool),
        reply: Option<Value>,
    ) -> Option<KeptCall> {
        let message = match reply {
            None => {
                call.complete(Err(KeptAway::Away));
                return None;
            }
            Some(Value::Error(message)) => String::from_utf8_lossy(&message).into_owned(),
            Some(reply) => {
                self.note_success(call.script);
                call.complete(Ok(reply));
                return None;
            }
        };
        if is_unknown(&message) && !has_text {
            return Some(call);
        }
        let error = SourceError::Refused(message);
        let (kind, text) = (error.kind().as_str(), self.server.explain(&error));
        self.metrics.source_error(kind);
        self.health.failed(KEPT, kind, &text);
        if self.refused.as_ref().is_none_or(|(_, refused)| *refused != text) {
            tracing::warn!(
                address = %self.server,
                error = text,
                hint = "deploy/redis-users.acl has the rights that it needs",
                "kept streams are not shared with other gateways"
            );
            self.refused = Some((call.script, text));
        }
        call.complete(Err(KeptAway::Refused));
        None
    }

    /// Records that a script has succeeded: it is not refused any more.
    fn note_success(&mut self, script: &'static RedisScript) {
        let is_refused = self.refused.as_ref().map(|(refused, _)| std::ptr::eq(*refused, script));
        if is_refused == Some(true) {
            self.refused = None;
        }
        let is_well_again = std::mem::take(&mut self.has_failed) || is_refused == Some(true);
        if is_well_again && self.refused.is_none() && self.health.works(KEPT) {
            tracing::info!(address = %self.server, "kept streams are shared with other gateways again");
        }
    }

    /// Refuses calls at once until the next attempt: waiting is up to the callers.
    async fn refuse_for(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => return,
                Some(call) = self.calls.recv() => call.complete(Err(KeptAway::Away)),
            }
        }
    }
}

fn send(
    pipeline: &mut KeyedPipeline<KeptInFlight>,
    (call, has_text): (KeptCall, bool),
    redis: &RedisReachability,
) {
    let KeptCall { script, keys, arguments, asks_patience, .. } = &call;
    let words = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let words = words.chain(arguments.iter().cloned());
    let mut words = script.call(has_text, keys.len(), words);
    if *asks_patience {
        let may_end = redis.may_end(Instant::now());
        words.push(if may_end { "1".into() } else { "0".into() });
    }
    let key = keys.first().cloned().unwrap_or_default();
    pipeline.send(KeptInFlight::Call { call, has_text }, &key, words);
}

/// Listens to the notifications of other gateways about streams, for ever. Reports only a refusal: other failures
/// affect the command connection, too, and are reported there.
async fn listen(server: RedisServer, store: KeptStore, mut refusals: FailureLog) {
    let mut attempt = 0;
    loop {
        store.used().await;
        let connected = Instant::now();
        let Err(error) = follow(&server, &store).await;
        tracing::debug!(address = %server, %error, "cannot subscribe to the notifications about kept streams; reconnecting");
        if error.kind() == SourceErrorKind::Permission {
            let what = "kept streams of other gateways arrive late: Redis refuses SUBSCRIBE; \
                        deploy/redis-users.acl has the rights that it needs";
            refusals.report(&error, what);
            // It stays refused until an operator changes it. Notifications only repeat what is in Redis, which is
            // read periodically.
            sleep(PAUSE).await;
        }
        if connected.elapsed() >= LEASE_MARGIN {
            attempt = 0;
        }
        sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

fn channel(name: &str) -> Result<Subscription, SourceError> {
    let name = ChannelName::new(name);
    let name = name.map_err(|error| SourceError::Unexpected(error.to_string()))?;
    Ok(Subscription { name, is_pattern: false })
}

async fn follow(server: &RedisServer, store: &KeptStore) -> Result<Infallible, SourceError> {
    let kind = ConnectionKind::PubSub;
    let connection = RedisConnection::open(server, MAX_MESSAGE_BYTES, kind).await?;
    let followed = channel(&store.channel())?;
    let mut listening = ListeningConnection::subscribe(connection, &followed).await?;
    store.wake_all();
    loop {
        if let [kind, _, Value::Bulk(message)] = &listening.next().await?[..]
            && kind.as_bytes().is_some_and(|kind| kind == "message")
        {
            store.receive(message);
        }
    }
}

impl std::fmt::Debug for RedisKept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisKept").field("server", &self.server).finish_non_exhaustive()
    }
}
