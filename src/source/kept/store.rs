//! The handle through which the gateway's threads read and write kept streams in Redis.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ssegate_resp::Value;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::emptied::{EmptiedRedis, SinceNote};
use super::record::{
    AppendOutcome, AppendRecord, BeginRecord, IndexOutcome, IndexStep, ReadRecord, StoredRecord,
    index_key, stream_keys,
};
use super::scripts::{APPEND, BEGIN, INDEX, READ, SINCE, STOP, STOPPED};
use super::watch::{KeptWatch, KeptWatches};
use crate::source::redis::script::RedisScript;

/// Calls that wait for the thread of the source; a further one waits until there is room.
const MAX_WAITING: usize = 1024;
/// Reads of entries in flight, at most.
const MAX_READS: usize = 16;
/// The time limit of a call, longer than the reply timeout of Redis.
const MAX_TIME: Duration = Duration::from_secs(8);

/// A note that is lost together with everything else, in a Cluster with everything at its node.
const SINCE_KEY: &str = "ssegate:kept:{all}:since";
/// How long the note is kept after the last check.
const SINCE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the note is checked, also if nothing is missing.
const SINCE_LOOK: Duration = Duration::from_secs(5);

/// Why the content of Redis is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptAway {
    /// Redis cannot be reached, or does not reply. It may have executed the call.
    #[error("Redis, where streams are kept for all gateways, cannot be reached now")]
    Away,
    /// Redis has lost everything a moment ago: a stream that is missing may come back.
    #[error("Redis has lost what was kept there; the gateways that have it are writing it again")]
    Emptied,
    /// Redis refuses it.
    #[error("Redis refuses what streams need that are kept for all gateways")]
    Refused,
}

/// The result of a call.
type KeptReply = Result<Value, KeptAway>;

/// A store, and the receiver of its calls, for the task that makes them.
pub(crate) type KeptLink = (KeptStore, mpsc::Receiver<KeptCall>);

/// One call of a script, for the task that makes it.
#[derive(Debug)]
pub(crate) struct KeptCall {
    pub(crate) script: &'static RedisScript,
    /// The keys, all of one slot.
    pub(crate) keys: Vec<String>,
    pub(crate) arguments: Vec<Bytes>,
    /// Whether the last argument of the script is whether an expired lease ends a stream.
    pub(crate) asks_patience: bool,
    reply: oneshot::Sender<KeptReply>,
}

impl KeptCall {
    /// Completes the call with its result.
    pub(crate) fn complete(self, reply: KeptReply) {
        // An error means that the caller has left.
        drop(self.reply.send(reply));
    }
}

/// The kept streams that all gateways share. A cheap handle for any thread.
#[derive(Clone, Debug)]
pub struct KeptStore {
    calls: mpsc::Sender<KeptCall>,
    watches: KeptWatches,
    // Limits reads of entries, whose replies may be long: other calls do not wait behind many of them, and replies
    // take bounded memory.
    reads: Arc<Semaphore>,
    gateway: Arc<str>,
    emptied: Arc<Mutex<EmptiedRedis>>,
    // Notified of each call.
    called: Arc<Notify>,
}

impl KeptStore {
    /// Creates a store, and the receiver of its calls.
    pub(crate) fn new() -> KeptLink {
        let (calls, received) = mpsc::channel(MAX_WAITING);
        let gateway: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let reads = Arc::new(Semaphore::new(MAX_READS));
        let watches = KeptWatches::default();
        let (gateway, emptied, called) = (gateway.into(), Arc::default(), Arc::default());
        (Self { calls, watches, reads, gateway, emptied, called }, received)
    }

    /// The channel on which other gateways notify this one.
    pub(crate) fn channel(&self) -> String {
        format!("ssegate:kept:{}", self.gateway)
    }

    /// Waits until a stream is watched, of which other gateways may publish news. Cancel safe.
    pub(crate) async fn used(&self) {
        self.watches.used().await;
    }

    /// Handles a message that another gateway has published.
    pub(crate) fn receive(&self, message: &[u8]) {
        self.watches.receive(message);
    }

    /// Wakes all watches: messages may have been missed.
    pub(crate) fn wake_all(&self) {
        self.watches.wake_all();
    }

    /// Watches a stream, or a request that waits for one.
    pub fn watch(&self, id: &str) -> KeptWatch {
        self.watches.watch(id)
    }

    fn emptied(&self) -> MutexGuard<'_, EmptiedRedis> {
        self.emptied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether Redis has lost everything a moment ago: what is not found may still come back.
    ///
    /// # Errors
    /// See [`KeptAway`].
    pub async fn was_emptied(&self) -> Result<bool, KeptAway> {
        let kept = SINCE_KEPT.as_millis().to_string().into();
        let reply = self.call(&SINCE, vec![SINCE_KEY.to_owned()], vec![kept], false).await?;
        let note = SinceNote::parse(&reply).ok_or(KeptAway::Refused)?;
        let mut emptied = self.emptied();
        let had = emptied.losses();
        let may_come_back = emptied.found(note);
        if emptied.losses() > had {
            tracing::warn!(
                "Redis has lost what was kept there (FLUSHALL, or a restart without persistence); what is kept here is \
                 written again"
            );
        }
        Ok(may_come_back)
    }

    /// How many times Redis has lost everything since this gateway was started, as far as it knows.
    pub fn losses(&self) -> u64 {
        self.emptied().losses()
    }

    /// Checks periodically whether Redis has lost everything, from the first call on.
    pub(crate) async fn look_for_losses(&self) {
        self.called.notified().await;
        loop {
            // If Redis is away, a later check finds it out.
            self.was_emptied().await.ok();
            sleep(SINCE_LOOK).await;
        }
    }

    /// Begins a stream.
    ///
    /// # Errors
    /// See [`KeptAway`]: it may have begun.
    pub async fn begin(&self, record: &BeginRecord<'_>) -> Result<AppendOutcome, KeptAway> {
        let (keys, arguments) = (stream_keys(record.of.id), record.arguments(&self.gateway));
        let reply = self.call(&BEGIN, keys.into(), arguments, false).await?;
        AppendOutcome::parse(&reply).ok_or(KeptAway::Refused)
    }

    /// Appends to a stream, or renews the lease of its pump.
    ///
    /// # Errors
    /// See [`KeptAway`]: it may have been appended. Appending the same again has no further effect.
    pub async fn append(&self, record: &AppendRecord<'_>) -> Result<AppendOutcome, KeptAway> {
        let (keys, arguments) = (stream_keys(record.of.id), record.arguments());
        let reply = self.call(&APPEND, keys.into(), arguments, false).await?;
        AppendOutcome::parse(&reply).ok_or(KeptAway::Refused)
    }

    /// Reads a stream; `None`: Redis does not have it.
    ///
    /// # Errors
    /// See [`KeptAway`].
    pub async fn read(&self, record: &ReadRecord<'_>) -> Result<Option<StoredRecord>, KeptAway> {
        let (keys, arguments) = (stream_keys(record.id), record.arguments(&self.gateway));
        let reading = async {
            let _permit = match record.count {
                0 => None,
                _ => Some(self.reads.acquire().await.map_err(|_closed| KeptAway::Away)?),
            };
            self.call(&READ, keys.into(), arguments, true).await
        };
        let reply = timeout(MAX_TIME, reading).await.unwrap_or(Err(KeptAway::Away))?;
        StoredRecord::parse(&reply).ok_or(KeptAway::Refused)
    }

    /// Cancels a stream at whichever gateway it runs, or a request at `gateway` that has no stream yet.
    ///
    /// # Errors
    /// See [`KeptAway`]: it may be cancelled.
    pub async fn stop(&self, id: &str, why: &str, gateway: &str) -> Result<(), KeptAway> {
        let [hash, _] = stream_keys(id);
        let arguments = [id, why, gateway].map(|word| Bytes::copy_from_slice(word.as_bytes()));
        self.call(&STOP, vec![hash], arguments.into(), false).await.map(drop)
    }

    /// Returns why a stream, or a request that waits for one, is to stop; `None`: it is not.
    ///
    /// # Errors
    /// See [`KeptAway`].
    pub async fn stopped(&self, id: &str) -> Result<Option<String>, KeptAway> {
        let [hash, _] = stream_keys(id);
        let reply = self.call(&STOPPED, vec![hash], Vec::new(), false).await?;
        let why = reply.as_bytes().ok_or(KeptAway::Refused)?;
        Ok(Some(String::from_utf8_lossy(why).into_owned()).filter(|why| !why.is_empty()))
    }

    /// Changes or reads the index of a name, for a `stream`: its id, and when it began.
    ///
    /// # Errors
    /// See [`KeptAway`]: it may be changed.
    pub async fn index(
        &self,
        tag: &str,
        stream: (&str, u64),
        step: IndexStep,
    ) -> Result<IndexOutcome, KeptAway> {
        let arguments = step.arguments(stream, &self.gateway);
        let reply = self.call(&INDEX, vec![index_key(tag)], arguments, false).await?;
        IndexOutcome::parse(&reply).ok_or(KeptAway::Refused)
    }

    async fn call(
        &self,
        script: &'static RedisScript,
        keys: Vec<String>,
        arguments: Vec<Bytes>,
        asks_patience: bool,
    ) -> KeptReply {
        self.called.notify_one();
        let (reply, replied) = oneshot::channel();
        let call = KeptCall { script, keys, arguments, asks_patience, reply };
        let calling = async {
            // The task of the source ends with the process.
            self.calls.send(call).await.map_err(|_ended| KeptAway::Away)?;
            replied.await.map_err(|_ended| KeptAway::Away)?
        };
        timeout(MAX_TIME, calling).await.unwrap_or(Err(KeptAway::Away))
    }
}
