//! One connection: sends jobs as they come, without waiting for replies, and completes them as replies arrive.

use std::collections::VecDeque;
use std::time::Duration;

use ssegate_resp::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::command;
use crate::source::publishing::{
    JobResult, NotPublished, PublicationJob, PublicationOutcome, Receipt,
};
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::SourceError;

/// How long Redis may take to reply. It replies in the order of the commands, so one that is late is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is unused for this long is closed. Services and balancers close idle connections after some
/// minutes, some without a FIN: what is published on such a connection would be lost.
const IDLE: Duration = Duration::from_secs(30);

/// A connection, and the jobs whose replies it waits for.
pub(super) struct PublishSession {
    connection: RedisConnection,
    pending: VecDeque<PendingJob>,
    // The number of bytes that were queued on this connection.
    queued_bytes: u64,
    has_published: bool,
    // When a job last arrived, or was completed.
    used: Instant,
}

/// How a connection ended.
pub(super) enum PublishingEnd {
    /// There was nothing to publish for a while, and nothing waits: one of the two sides has closed it.
    Idle,
    /// It failed. `has_published`: it had published something before.
    Failed { error: SourceError, has_published: bool },
}

struct PendingJob {
    job: PublicationJob,
    // The offset of its commands in the bytes that were queued.
    starts_at: u64,
    deadline: Instant,
    receipts: Vec<Receipt>,
}

impl PublishSession {
    /// A session that begins with `first`.
    pub(super) fn new(connection: RedisConnection, first: Option<PublicationJob>) -> Self {
        let pending = VecDeque::new();
        let (queued_bytes, has_published, used) = (0, false, Instant::now());
        let mut session = Self { connection, pending, queued_bytes, has_published, used };
        if let Some(first) = first {
            session.queue(first);
        }
        session
    }

    /// Publishes until the connection fails or is idle, and completes all jobs that it took.
    pub(super) async fn run(mut self, jobs: &mut mpsc::Receiver<PublicationJob>) -> PublishingEnd {
        let error = loop {
            let deadline = self.pending.front().map(|pending| pending.deadline);
            let at = deadline.unwrap_or(self.used + IDLE);
            tokio::select! {
                Some(job) = jobs.recv() => {
                    self.queue(job);
                    while let Ok(job) = jobs.try_recv() {
                        self.queue(job);
                    }
                }
                exchanged = self.connection.exchange() => {
                    if let Err(error) = exchanged.and_then(|()| self.take_replies()) {
                        break error;
                    }
                }
                () = tokio::time::sleep_until(at) => match deadline {
                    Some(_) => break SourceError::Timeout(REPLY_TIMEOUT.as_secs()),
                    None => return PublishingEnd::Idle,
                },
            }
        };
        if self.has_published && self.pending.is_empty() {
            return PublishingEnd::Idle;
        }
        self.fail(&error);
        PublishingEnd::Failed { error, has_published: self.has_published }
    }

    fn queue(&mut self, job: PublicationJob) {
        let starts_at = self.queued_bytes;
        let before = self.connection.unsent_bytes();
        match &job.key {
            Some(key) => self.connection.queue_bytes(&command::once(key, job.publications.iter())),
            None => {
                let words = job.publications.iter().map(command::words);
                words.for_each(|words| self.connection.queue_bytes(&words));
            }
        }
        self.queued_bytes += (self.connection.unsent_bytes() - before) as u64;
        self.used = Instant::now();
        let deadline = self.used + REPLY_TIMEOUT;
        self.pending.push_back(PendingJob { job, starts_at, deadline, receipts: Vec::new() });
    }

    /// Hands each reply to the job that it belongs to.
    ///
    /// # Errors
    /// A reply belongs to no job, so that replies cannot be matched to commands any more.
    fn take_replies(&mut self) -> Result<(), SourceError> {
        while let Some(value) = self.connection.next_value()? {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let Some(pending) = self.pending.front_mut() else {
                return Err(SourceError::Unexpected(format!("{value:?}")));
            };
            if let Some(result) = pending.take(&value)? {
                self.has_published = true;
                self.used = Instant::now();
                if let Some(done) = self.pending.pop_front() {
                    done.job.complete(result);
                }
            }
        }
        Ok(())
    }

    /// Completes all jobs with the error. If the commands of a job are still unsent, it is certain that nothing was
    /// published.
    fn fail(&mut self, error: &SourceError) {
        let sent = self.queued_bytes - self.connection.unsent_bytes() as u64;
        for PendingJob { job, starts_at, .. } in self.pending.drain(..) {
            job.complete(Err(match error {
                _ if starts_at >= sent => NotPublished::Away,
                SourceError::Timeout(_) => NotPublished::TimedOut,
                _ => NotPublished::Lost,
            }));
        }
    }
}

impl PendingJob {
    /// Takes the next reply. Returns the result once all replies have come.
    fn take(&mut self, reply: &Value) -> Result<Option<JobResult>, SourceError> {
        let count = self.job.publications.len();
        if self.job.key.is_some() {
            return command::outcome(reply, count).map(Some);
        }
        self.receipts.push(command::receipt(reply)?);
        let is_complete = self.receipts.len() == count;
        Ok(is_complete.then(|| {
            let receipts = std::mem::take(&mut self.receipts);
            Ok(PublicationOutcome { receipts, is_repeated: false })
        }))
    }
}
