//! The pub/sub connection to Redis, reopened for ever.
//!
//! Connects, subscribes to everything that the hub follows, and reads; reconnects when the
//! connection is lost or silent. Reports to the hub which subscriptions are confirmed, and when
//! they are lost.

use std::rc::Rc;

use ssegate_hub::{Hub, SourceKind};

use super::check::{PubSubState, SelfCheck};
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::feed::PubSubFeed;
use super::fleet::server::{ServerIdentity, identify};
use super::fleet::{FleetMember, FleetOrder, FleetPublisher};
use super::retry::{FailureLog, backoff};
use super::server::RedisServer;
use super::session::PubSubSession;
use super::socket::CONNECT_TIMEOUT;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::alike::AlikeSource;
use crate::source::fleet::FleetSettings;
use crate::source::intake::Intake;

/// Receives pub/sub messages on behalf of the hub.
#[derive(Debug)]
pub(crate) struct PubSub {
    server: RedisServer,
    max_event_bytes: usize,
    feed: PubSubFeed,
    fleet_publisher: Option<FleetPublisher>,
}

impl PubSub {
    /// Hands the messages to `hub`. Without `fleet` the gateway is on its own.
    pub(crate) fn new(
        server: RedisServer,
        (max_event_bytes, fleet): (usize, Option<(FleetSettings, AlikeSource)>),
        hub: Hub,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        let intake = Intake::new(hub.clone(), metrics.clone());
        let record = (health.clone(), Health::source_failed as _);
        let failures = FailureLog::new(&server, metrics.clone(), record);
        let state = Rc::new(PubSubState::new());
        let shared = || (health.clone(), metrics.clone());
        let member = |(settings, alike)| {
            let (at, settings) = ((hub.clone(), FleetOrder::Plain), (settings, Some(alike)));
            FleetMember::new(at, settings, max_event_bytes, shared())
        };
        let fleet = fleet.map(member);
        let publisher = |member| FleetPublisher::new((server.clone(), None), member, shared());
        let fleet_publisher = fleet.as_ref().map(publisher);
        let feed = PubSubFeed { hub, intake, fleet, health, metrics, state, failures };
        Self { server, max_event_bytes, feed, fleet_publisher }
    }

    /// Runs for ever: connects, reads, reconnects; publishes for the fleet. Owned by the gateway, which drops
    /// it.
    pub(crate) async fn run(mut self) {
        match self.fleet_publisher.take() {
            Some(publisher) => tokio::select! {
                () = self.receive() => {}
                () = publisher.run() => {}
            },
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) {
        let mut attempt = 0;
        let mut has_connected = false;
        loop {
            let opening =
                RedisConnection::open(&self.server, self.max_event_bytes, ConnectionKind::PubSub);
            match discarding_changes(&self.feed.hub, opening).await {
                Ok(connection) => {
                    tracing::info!(address = %self.server, "connected to Redis");
                    self.feed.metrics.source_connected(true);
                    if has_connected {
                        self.feed.metrics.source_reconnected();
                    }
                    has_connected = true;
                    let (error, was_restored) = self.serve(connection).await;
                    // The backoff is not reset by a server that completes the handshake and then
                    // fails.
                    if was_restored {
                        attempt = 0;
                    }
                    self.feed.lose(&error);
                }
                Err(error) => {
                    self.feed.failures.report(&error, "cannot connect to Redis; retrying")
                }
            }
            discarding_changes(&self.feed.hub, tokio::time::sleep(backoff(attempt))).await;
            attempt += 1;
        }
    }

    /// Reads until the connection fails, or the self-check finds that Redis has lost subscriptions.
    async fn serve(&mut self, mut connection: RedisConnection) -> (SourceError, bool) {
        let server = match self.identify(&mut connection).await {
            Ok(server) => server,
            Err(error) => return (error, false),
        };
        let state = Rc::clone(&self.feed.state);
        state.reset();
        let mut check = SelfCheck::new(self.server.clone(), state, self.feed.metrics.clone());
        tokio::select! {
            ended = PubSubSession::new(connection, &mut self.feed).run(server) => ended,
            error = check.run() => (error, true),
        }
    }

    /// Asks which server a new connection leads to; `None` for a gateway that is on its own.
    async fn identify(
        &self,
        connection: &mut RedisConnection,
    ) -> Result<Option<ServerIdentity>, SourceError> {
        if self.feed.fleet.is_none() {
            return Ok(None);
        }
        let identifying = tokio::time::timeout(CONNECT_TIMEOUT, identify(connection));
        let timed_out = SourceError::Timeout(CONNECT_TIMEOUT.as_secs());
        let server = discarding_changes(&self.feed.hub, identifying).await;
        server.unwrap_or(Err(timed_out)).map(Some)
    }
}

/// Waits, and meanwhile discards changes of what to follow: a new connection starts with everything that is
/// followed. Queueing them would take memory for each name requested while Redis is away.
async fn discarding_changes<T>(hub: &Hub, wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    loop {
        tokio::select! {
            done = &mut wait => return done,
            changes = hub.source_requests(SourceKind::PubSub) => drop(changes),
        }
    }
}
