//! The subscription to Redis, and its life: it never ends.
//!
//! Connects, subscribes to everything that the hub wants, reads; and when the connection breaks, or
//! says nothing, does so again, for ever. The hub is told what is confirmed and what is lost.

use std::rc::Rc;

use redis::ConnectionInfo;

use super::check::{Belief, SelfCheck};
use super::connection::{Connection, Purpose};
use super::error::SourceError;
use super::life::{Reporter, wait_before};
use super::session::Session;
use super::socket::Tls;
use crate::health::Health;
use crate::hub::{Hub, SourceKind};
use crate::metrics::Metrics;
use crate::source::intake::Intake;

/// Listens to Redis on behalf of the hub.
#[derive(Debug)]
pub(crate) struct Subscriber {
    info: ConnectionInfo,
    tls: Tls,
    max_event_bytes: usize,
    pub(super) hub: Hub,
    pub(super) intake: Intake,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) belief: Rc<Belief>,
    reporter: Reporter,
}

impl Subscriber {
    pub(crate) fn new(
        info: ConnectionInfo,
        max_event_bytes: usize,
        hub: Hub,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        let intake = Intake::new(hub.clone(), metrics.clone());
        let tls = Tls::new(info.addr());
        let note = (health.clone(), Health::source_failed as _);
        let reporter = Reporter::new(&info, metrics.clone(), note);
        let belief = Rc::new(Belief::new());
        Self { info, tls, max_event_bytes, hub, intake, health, metrics, belief, reporter }
    }

    /// Runs for ever: connects, listens, connects again. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let mut attempt = 0;
        let mut has_connected = false;
        loop {
            let opening =
                Connection::open(&self.info, &self.tls, self.max_event_bytes, Purpose::Listen);
            match without_wishes(&self.hub, opening).await {
                Ok(connection) => {
                    tracing::info!(address = %self.info.addr(), "connected to Redis");
                    self.metrics.source_connected(true);
                    if has_connected {
                        self.metrics.source_reconnected();
                    }
                    has_connected = true;
                    let (error, was_restored) = self.listen(connection).await;
                    // One that greets and then fails at once is not to be hammered.
                    if was_restored {
                        attempt = 0;
                    }
                    self.lost(&error);
                }
                Err(error) => self.report(&error, "cannot reach Redis"),
            }
            without_wishes(&self.hub, tokio::time::sleep(wait_before(attempt))).await;
            attempt += 1;
        }
    }

    /// Listens until the connection fails, or until it turns out that Redis has forgotten us.
    async fn listen(&mut self, connection: Connection) -> (SourceError, bool) {
        let (info, tls, belief) = (self.info.clone(), self.tls.clone(), Rc::clone(&self.belief));
        belief.begin_anew();
        let mut check = SelfCheck::new(info, tls, belief, self.metrics.clone());
        tokio::select! {
            ended = Session::new(connection, self).run() => ended,
            error = check.run() => (error, true),
        }
    }

    fn lost(&mut self, error: &SourceError) {
        self.intake.flush();
        self.hub.lose();
        self.health.set_source_ready(false);
        self.metrics.source_connected(false);
        self.report(error, "lost Redis");
    }

    pub(super) fn report(&mut self, error: &SourceError, what: &'static str) {
        self.reporter.report(error, what);
    }
}

/// Waits, and lets wishes pass meanwhile: a new connection begins with everything that is followed.
/// Kept, they would be one for each name that anybody asks for while Redis is away.
async fn without_wishes<T>(hub: &Hub, wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    loop {
        tokio::select! {
            done = &mut wait => return done,
            passed = hub.source_requests(SourceKind::PubSub) => drop(passed),
        }
    }
}
