//! The handle through which requests publish, and what crosses over to the thread of the source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::divided::DividedOutcome;
use super::publication::{IdempotencyKey, JobResult, NotPublished, Publication};
use crate::route::ServerList;

/// Requests that wait for the source's thread; a further one waits until there is room.
const MAX_WAITING_JOBS: usize = 1024;
/// Bytes of all messages that are being received or published.
const MAX_BYTES: usize = 64 << 20;
/// How long a request waits for room. Usually there is room at once; a longer wait means that nothing moves.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How long a request waits for its result. The publishers time out earlier, with a more exact error.
const MAX_DURATION: Duration = Duration::from_secs(15);

/// Publishes messages. A cheap handle for any thread.
#[derive(Clone, Debug)]
pub struct Publisher {
    // One sender for each server.
    jobs: Arc<[mpsc::Sender<PublicationJob>]>,
    servers: ServerList,
    memory: Arc<Semaphore>,
    max_event_bytes: usize,
}

/// The publications of one request, for the task that makes them.
#[derive(Debug)]
pub struct PublicationJob {
    /// What to publish, in order; at least one.
    pub publications: Vec<Publication>,
    /// Makes the publications only once.
    pub key: Option<IdempotencyKey>,
    done: oneshot::Sender<JobResult>,
    // Released with the job.
    _memory: Arc<Reservation>,
}

/// A share of the memory for messages that are on their way. It grows with what has arrived, so that a slow
/// client holds no more than it has sent.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Publisher {
    /// A publisher, and the receiving end of its jobs. A message above `max_event_bytes` would be dropped by
    /// the gateways that receive it.
    #[cfg(test)]
    pub fn new(max_event_bytes: usize) -> (Self, mpsc::Receiver<PublicationJob>) {
        let (publisher, mut waiting) = Self::for_servers(max_event_bytes, ServerList::default());
        (publisher, waiting.remove(0))
    }

    /// The same for several servers, with a receiving end for each.
    pub fn for_servers(
        max_event_bytes: usize,
        servers: ServerList,
    ) -> (Self, Vec<mpsc::Receiver<PublicationJob>>) {
        let ends = servers.names().iter().map(|_| mpsc::channel(MAX_WAITING_JOBS));
        let (jobs, waiting): (Vec<_>, Vec<_>) = ends.unzip();
        let memory = Arc::new(Semaphore::new(MAX_BYTES));
        (Self { jobs: jobs.into(), servers, memory, max_event_bytes }, waiting)
    }

    /// The servers among which publications are divided.
    pub fn servers(&self) -> &ServerList {
        &self.servers
    }

    /// The largest message that subscribers get, in bytes.
    pub fn max_event_bytes(&self) -> usize {
        self.max_event_bytes
    }

    /// An empty share of the memory.
    pub fn reservation(&self) -> Reservation {
        Reservation { memory: Arc::clone(&self.memory), held: None }
    }

    /// Makes the publications of a request at the first server, in order; with `key` at most once. `memory` covers them.
    ///
    /// # Errors
    /// See [`NotPublished`]: some of its variants are certain that nothing was published.
    pub async fn publish(
        &self,
        publications: Vec<Publication>,
        key: Option<IdempotencyKey>,
        memory: Reservation,
    ) -> JobResult {
        self.publish_at(0, publications, key, Arc::new(memory)).await
    }

    /// Makes the publications of a request, each at the server whose index is in `places`, in order; with `key` at most
    /// once. The servers are published to at the same time. `memory` covers all publications.
    ///
    /// # Errors
    /// As [`Self::publish`]. An error that is certain that nothing was published holds for all servers.
    pub async fn publish_among(
        &self,
        (publications, places): (Vec<Publication>, &[usize]),
        key: Option<IdempotencyKey>,
        memory: Reservation,
    ) -> JobResult {
        let memory = Arc::new(memory);
        let first = places.first().copied().unwrap_or_default();
        if places.iter().all(|place| *place == first) {
            return self.publish_at(first, publications, key, memory).await;
        }
        let mut outcome = DividedOutcome::new(publications.len());
        let mut parts: BTreeMap<usize, (Vec<usize>, Vec<Publication>)> = BTreeMap::new();
        for (index, (publication, place)) in publications.into_iter().zip(places).enumerate() {
            let (indexes, part) = parts.entry(*place).or_default();
            indexes.push(index);
            part.push(publication);
        }
        // All at the same time: a server whose queue is full does not hold up the others.
        let mut sends = JoinSet::new();
        for (server, (indexes, part)) in parts {
            let (this, key, memory) = (self.clone(), key.clone(), Arc::clone(&memory));
            sends.spawn(async move { (indexes, this.send(server, part, key, memory).await) });
        }
        let mut running = Vec::new();
        for (indexes, sent) in sends.join_all().await {
            match sent {
                Ok(result) => running.push((indexes, result)),
                Err(why) => outcome.fail(why),
            }
        }
        let deadline = Instant::now() + MAX_DURATION;
        for (indexes, result) in running {
            outcome.take(&indexes, known(timeout_at(deadline, result).await));
        }
        outcome.result()
    }

    async fn publish_at(
        &self,
        server: usize,
        publications: Vec<Publication>,
        key: Option<IdempotencyKey>,
        memory: Arc<Reservation>,
    ) -> JobResult {
        let result = self.send(server, publications, key, memory).await?;
        known(timeout(MAX_DURATION, result).await)
    }

    /// Hands a job to the task of a server.
    async fn send(
        &self,
        server: usize,
        publications: Vec<Publication>,
        key: Option<IdempotencyKey>,
        memory: Arc<Reservation>,
    ) -> Result<oneshot::Receiver<JobResult>, NotPublished> {
        let (done, result) = oneshot::channel();
        let job = PublicationJob { publications, key, done, _memory: memory };
        match timeout(MAX_WAIT, self.jobs[server].send(job)).await {
            Ok(Ok(())) => Ok(result),
            Ok(Err(_closed)) => Err(NotPublished::Stopping),
            Err(_elapsed) => Err(NotPublished::Busy),
        }
    }
}

/// The result of a job, as far as it is known.
fn known(result: Result<Result<JobResult, RecvError>, Elapsed>) -> JobResult {
    match result {
        Ok(Ok(result)) => result,
        // The task has ended with the job in hand, or is stuck: it may have sent it.
        Ok(Err(_dropped)) => Err(NotPublished::Lost),
        Err(_elapsed) => Err(NotPublished::TimedOut),
    }
}

impl PublicationJob {
    /// Hands over the result.
    pub fn complete(self, result: JobResult) {
        // An error means that the client has left.
        self.done.send(result).unwrap_or_default();
    }
}

impl Reservation {
    /// Reserves `bytes` more.
    ///
    /// # Errors
    /// All the memory is in use.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NotPublished> {
        let permits = u32::try_from(bytes).map_err(|_huge| NotPublished::Busy)?;
        let more = Arc::clone(&self.memory).try_acquire_many_owned(permits);
        let more = more.map_err(|_none_left| NotPublished::Busy)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use bytes::Bytes;
    use ssegate_hub::ChannelName;

    use super::{MAX_BYTES, MAX_WAITING_JOBS, Publisher};
    use crate::source::publishing::{NotPublished, Publication, PublicationKind};

    fn message() -> Vec<Publication> {
        let channel = ChannelName::new("news").expect("a name");
        vec![Publication { channel, kind: PublicationKind::Message(Bytes::from_static(b"x")) }]
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_taken_is_known_not_to_be_published() {
        let (publisher, mut jobs) = Publisher::new(1 << 20);
        let publish = || publisher.publish(message(), None, publisher.reservation());
        let taken = async {
            drop(jobs.recv().await.expect("a job"));
        };
        let (result, ()) = tokio::join!(publish(), taken);
        assert_eq!(result, Err(NotPublished::Lost), "it was taken, and its result is unknown");
        let stuck = async {
            let _job = jobs.recv().await.expect("a job");
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = publish() => result,
            () = stuck => unreachable!("it waits"),
        };
        assert_eq!(result, Err(NotPublished::TimedOut));
        let mut full = Vec::new();
        for _ in 0..MAX_WAITING_JOBS {
            let mut job = Box::pin(publish());
            let mut context = Context::from_waker(Waker::noop());
            assert!(job.as_mut().poll(&mut context).is_pending());
            full.push(job);
        }
        assert_eq!(publish().await, Err(NotPublished::Busy));
        drop((full, jobs));
        assert_eq!(publish().await, Err(NotPublished::Stopping));
    }

    #[test]
    fn the_memory_of_messages_on_their_way_is_bounded() {
        let (publisher, _jobs) = Publisher::new(1 << 20);
        let (mut one, mut other) = (publisher.reservation(), publisher.reservation());
        assert_eq!(one.grow(MAX_BYTES - 10), Ok(()));
        assert_eq!(one.grow(8), Ok(()));
        assert_eq!(other.grow(3), Err(NotPublished::Busy));
        assert_eq!(other.grow(2), Ok(()));
        drop(one);
        assert_eq!(other.grow(3), Ok(()));
    }
}
