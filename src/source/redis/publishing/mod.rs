//! The connection that publishes for requests over HTTP: opened when it is needed, closed when it is idle for a while.
//!
//! [`command`] builds the commands and parses the replies, and [`session`] is one connection; in a Cluster there is one
//! to each node ([`cluster`]). A client library would not report what was sent before a connection was lost. That is
//! the difference between "publish it again" and "it may have been published".

mod cluster;
mod command;
mod session;

use tokio::sync::mpsc;

use self::cluster::ClusterPublisher;
use self::session::{PublishSession, PublishingEnd};
use super::cluster_commands::ClusterCommands;
use super::connection::{ConnectionKind, RedisConnection};
use super::retry::{FailureLog, backoff};
use super::server::RedisServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::publishing::{NotPublished, PublicationJob};

/// The largest reply: the kept result of a request with the maximum number of messages.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// Logged when a node is back.
const IS_BACK: &str = "connected again to a node to publish";

/// Publishes to Redis on behalf of requests.
#[derive(Debug)]
pub(crate) struct RedisPublisher {
    server: RedisServer,
    jobs: mpsc::Receiver<PublicationJob>,
    failures: FailureLog,
}

impl RedisPublisher {
    pub(crate) fn new(
        server: RedisServer,
        jobs: mpsc::Receiver<PublicationJob>,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        // The gateway is ready without it: streams do not need it.
        let failures = FailureLog::new(&server, metrics, (health, |_, _, _| {}));
        Self { server, jobs, failures }
    }

    /// Runs for ever: connects with the first job, publishes, reconnects. Owned by the gateway, which drops
    /// it.
    pub(crate) async fn run(mut self) {
        if let Some(cluster) = self.server.cluster() {
            let at = (&self.server, cluster);
            let commands = ClusterCommands::new(at, MAX_REPLY_BYTES, Some(IS_BACK));
            return ClusterPublisher::new(commands, self.jobs, self.failures).run().await;
        }
        let mut attempt = 0;
        // A connection that is opened again after it was idle is not logged.
        let mut is_told = false;
        loop {
            // A gateway that does not publish has no connection for it.
            let mut first = match attempt {
                0 => self.jobs.recv().await,
                _ => None,
            };
            let kind = ConnectionKind::Command;
            // Jobs wait meanwhile, at most as long as connecting may take.
            let opened = RedisConnection::open(&self.server, MAX_REPLY_BYTES, kind).await;
            let error = match opened {
                Ok(connection) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(address = %self.server, "connected to Redis to publish");
                    }
                    let session = PublishSession::new(connection, first.take());
                    match session.run(&mut self.jobs).await {
                        PublishingEnd::Idle => {
                            attempt = 0;
                            continue;
                        }
                        PublishingEnd::Failed { error, has_published } => {
                            if has_published {
                                attempt = 0;
                            }
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            is_told = false;
            self.failures.report(&error, "cannot publish to Redis; reconnecting");
            self.refuse(first.take());
            self.refuse_for(attempt).await;
            attempt += 1;
        }
    }

    /// Refuses the jobs that wait: nothing of them was sent.
    fn refuse(&mut self, first: Option<PublicationJob>) {
        let waiting = std::iter::from_fn(|| self.jobs.try_recv().ok());
        first.into_iter().chain(waiting).for_each(|job| job.complete(Err(NotPublished::Away)));
    }

    /// Refuses jobs at once until the next attempt: waiting is up to the clients.
    async fn refuse_for(&mut self, attempt: u32) {
        let wait = tokio::time::sleep(backoff(attempt));
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return,
                Some(job) = self.jobs.recv() => job.complete(Err(NotPublished::Away)),
            }
        }
    }
}
