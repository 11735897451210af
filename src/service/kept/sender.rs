//! Writes what a stream's pump has appended to Redis, so that every gateway can serve it.
//!
//! A task beside the pump, which it never delays. It reads the log like any reader, and sends new bytes every 50 ms, or
//! as soon as there are 4 KiB. With each write Redis checks the token in the same step: a gateway that was taken for
//! dead, so that readers elsewhere got a loss, must not continue.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};

use super::claim::{NAME_LEASE, NAME_RENEWAL, claim_name, index_tag};
use super::log::LogReader;
use super::log_part::LogPart;
use super::registry::KeptStreams;
use super::sending::SendRule;
use super::stop_word::stop_reason;
use super::stream::{CancelReason, KeptStream, LostReason, state_word};
use super::stream_id::new_id;
use crate::hex::hex;
use crate::metrics::Metrics;
use crate::source::kept::{
    AppendOutcome, AppendRecord, BeginRecord, IndexStep, KeptAway, KeptStore, KeptWatch, PumpRecord,
};

/// This many bytes are sent without waiting for more.
const ENOUGH: u64 = 4 << 10;
/// How long fewer bytes wait for more.
const BATCH: Duration = Duration::from_millis(50);
/// How long appending waits for the indexes: they may be at another node, which may be slow or away.
const INDEX_PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait before indexes that did not reply in time are tried again.
const INDEX_RETRY: Duration = Duration::from_secs(2);
/// The most bytes of one write.
const MAX_PART: usize = 64 << 10;

/// Writes a stream that this gateway pumps to Redis.
pub(in crate::service) struct KeptSender {
    stream: Arc<KeptStream>,
    store: KeptStore,
    watch: KeptWatch,
    rule: SendRule,
    reader: LogReader,
    token: Box<str>,
    streams: KeptStreams,
    // The indexes of its name, if it has one, and of its request.
    indexes: Vec<String>,
    // Whether it has claimed its name; and when the claim is renewed.
    is_claimed: bool,
    index_at: Instant,
    unshared: UnsharedStream,
    ended_at: Option<Instant>,
}

/// Counts a stream whose state other gateways do not have.
struct UnsharedStream(Metrics, bool);

impl UnsharedStream {
    fn set(&mut self, is_unshared: bool) {
        if std::mem::replace(&mut self.1, is_unshared) != is_unshared {
            self.0.kept_unshared(if is_unshared { 1 } else { -1 });
        }
    }
}

impl Drop for UnsharedStream {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl KeptSender {
    /// Creates the sender of a stream that has begun. `is_claimed`: its name is claimed already.
    pub(in crate::service) fn new(
        stream: Arc<KeptStream>,
        (store, streams): (&KeptStore, &KeptStreams),
        is_claimed: bool,
    ) -> Self {
        let name = stream.name.as_ref().map(index_tag);
        let request = streams.request_index(&stream.settings, &stream.request);
        Self {
            watch: store.watch(&stream.id),
            rule: SendRule::new(Instant::now()),
            reader: stream.log.open_second(),
            token: new_id(),
            indexes: name.into_iter().chain([request]).collect(),
            is_claimed: is_claimed || stream.name.is_none(),
            index_at: Instant::now(),
            unshared: UnsharedStream(streams.metrics().clone(), false),
            ended_at: None,
            store: store.clone(),
            streams: streams.clone(),
            stream,
        }
    }

    /// Sends until the stream has ended, and Redis has all of it.
    pub(in crate::service) async fn run(mut self) {
        loop {
            let outcome = match self.rule.epoch() {
                None => self.begin().await,
                Some(_) => {
                    self.wait().await;
                    self.append().await
                }
            };
            self.note_end();
            match outcome {
                Ok(false) => {}
                Ok(true) => return self.index(true).await,
                Err(KeptAway::Away | KeptAway::Emptied | KeptAway::Refused) => {
                    self.rule.failed(Instant::now());
                    self.unshared.set(true);
                    sleep_until(self.rule.retry_at()).await;
                }
            }
            self.note_end();
            let is_stopping = self.streams.stopping().is_cancelled();
            if self.ended_at.is_some_and(|at| self.rule.gives_up(at, is_stopping, Instant::now())) {
                return;
            }
            self.index(false).await;
        }
    }

    fn note_end(&mut self) {
        if self.ended_at.is_none() && self.stream.is_ended() {
            self.ended_at = Some(Instant::now());
        }
    }

    async fn begin(&mut self) -> Result<bool, KeptAway> {
        let epoch = new_id().into_string();
        let record = BeginRecord {
            of: self.record(&epoch),
            began: self.stream.began_at,
            about: Bytes::from(self.stream.about().to_text()),
            digest: self.digest(),
        };
        match self.store.begin(&record).await? {
            AppendOutcome::Done { stop, .. } => {
                let is_failing = self.rule.is_failing();
                self.rule.begun(epoch, Instant::now());
                if !is_failing {
                    self.unshared.set(false);
                }
                self.stop(stop.as_deref());
                Ok(false)
            }
            AppendOutcome::Fenced | AppendOutcome::Gone => {
                self.stream.lose(LostReason::Fenced);
                Ok(true)
            }
        }
    }

    fn record<'a>(&'a self, epoch: &'a str) -> PumpRecord<'a> {
        let after_end = self.stream.settings.after_end;
        PumpRecord { id: &self.stream.id, token: &self.token, epoch, after_end }
    }

    fn digest(&self) -> String {
        self.stream.request.body.get().map(|digest| hex(digest)).unwrap_or_default()
    }

    /// Waits until there is something to send.
    async fn wait(&self) {
        if self.rule.has_pending() || self.rule.is_failing() {
            return;
        }
        let filled = async {
            self.filled(1).await;
            // Bytes that arrive in the meantime are sent together.
            drop(timeout(BATCH, self.filled(ENOUGH)).await);
        };
        tokio::select! {
            () = filled => {}
            // A notification may be forged: the next reply of Redis has what it announces.
            () = self.watch.news() => {}
            () = sleep_until(self.rule.renew_at()) => {}
        }
    }

    async fn filled(&self, enough: u64) {
        let poll = |cx: &mut Context<'_>| self.stream.log.poll_more(&self.reader, cx, enough);
        poll_fn(poll).await;
    }

    fn stop(&self, word: Option<&str>) {
        if let Some(why) = word.and_then(|word| stop_reason(word, &self.stream.request.path)) {
            self.stream.cancel(why);
        }
    }

    /// Returns whether Redis has all of a stream that has ended, or nobody needs it.
    async fn append(&mut self) -> Result<bool, KeptAway> {
        let stream = &self.stream;
        // Read before the part: if the log has ended by then, no bytes follow the part that reaches `stop`.
        let extent = stream.log.extent();
        let part: LogPart = self.rule.next_part(|cursor| stream.log.part(cursor, MAX_PART)).clone();
        let numbers = self.rule.numbers(extent.start);
        let end = extent.end.filter(|_| part.after().offset >= extent.stop);
        let has_entry = !part.bytes.is_empty();
        let record = AppendRecord {
            of: self.record(self.rule.epoch().unwrap_or_default()),
            seq: numbers.seq,
            keep_from: numbers.keep_from,
            state: state_word(end),
            digest: self.digest(),
            is_numbered: stream.numbers_events(),
            last: part.after().events,
            entry: has_entry.then(|| (part.place(), part.bytes.clone())),
        };
        match self.store.append(&record).await? {
            AppendOutcome::Done { stop, followers, fault } => {
                let offset = self.rule.sent(extent.start, Instant::now());
                stream.log.advance(&mut self.reader, offset);
                self.unshared.set(false);
                if let Some(fault) = fault {
                    // Other gateways find it out without a notification, a second later.
                    tracing::debug!(fault, "other gateways could not be notified of a kept stream");
                }
                self.stream.set_read_elsewhere(followers > 0);
                self.stop(stop.as_deref());
                Ok(end.is_some())
            }
            AppendOutcome::Fenced => {
                self.stream.lose(LostReason::Fenced);
                Ok(true)
            }
            AppendOutcome::Gone => {
                tracing::debug!("Redis has lost a kept stream; writing it again from its start");
                self.rule.gone(Instant::now());
                stream.log.advance(&mut self.reader, 0);
                self.index_at = Instant::now();
                Ok(false)
            }
        }
    }

    /// Writes the stream to its indexes, or that it has ended.
    async fn index(&mut self, has_ended: bool) {
        let is_due = Instant::now() >= self.index_at;
        if self.rule.epoch().is_none() || self.rule.is_failing() || !(is_due || has_ended) {
            return;
        }
        let is_told = match has_ended {
            true => self.tell_indexes(IndexStep::End(self.stream.settings.after_end)).await,
            // The lease, and the bytes that readers elsewhere wait for, come first.
            false => {
                let telling = self.tell_indexes(IndexStep::Keep(NAME_LEASE));
                timeout(INDEX_PATIENCE, telling).await.unwrap_or(false)
            }
        };
        self.index_at = Instant::now() + if is_told { NAME_RENEWAL } else { INDEX_RETRY };
    }

    /// Returns whether all indexes have the step. It is idempotent.
    async fn tell_indexes(&mut self, step: IndexStep) -> bool {
        let stream = (&*self.stream.id, self.stream.began_at);
        if !self.is_claimed
            && let Some(name) = self.indexes.first()
        {
            let same_key = self.stream.settings.same_key;
            let claimed = claim_name(&self.store, name, stream, same_key).await;
            self.is_claimed = claimed.is_ok();
            if claimed == Ok(false) {
                self.stream.cancel(CancelReason::Replaced);
                return true;
            }
        }
        for tag in &self.indexes {
            if self.store.index(tag, stream, step).await.is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for KeptSender {
    fn drop(&mut self) {
        self.stream.log.close(&self.reader);
        self.stream.set_read_elsewhere(false);
    }
}
