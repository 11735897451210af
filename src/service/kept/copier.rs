//! Follows a stream that another gateway pumps: reads it from Redis into a copy, from which clients are served as from
//! any log.
//!
//! It is notified of new entries, and checks each second without a notification. This also finds a stream whose gateway
//! has died: its readers then get the loss.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::copies::CopyState;
use super::copy_freshness::CopyFreshness;
use super::copying::{CopyRule, CopyStep, PAGE};
use super::log::StreamEnd;
use super::log_part::LogPart;
use super::registry::KeptStreams;
use super::stream::{KeptStream, LostReason};
use crate::source::kept::{KeptAway, KeptStore, KeptWatch, ReadRecord, StoredRecord};

/// How often to check for new entries without a notification.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait before the next read if Redis is away, or has lost the stream.
const RETRY: Duration = Duration::from_millis(500);
/// How long a copy waits for its turn to load what the stream has sent so far.
const MAX_QUEUED: Duration = Duration::from_secs(5);
/// How long a copy is kept that nobody reads.
const LINGER: Duration = Duration::from_secs(5);

/// Copies a stream.
pub(super) struct KeptCopier {
    stream: Arc<KeptStream>,
    streams: KeptStreams,
    store: KeptStore,
    watch: KeptWatch,
    rule: CopyRule,
    state: watch::Sender<CopyState>,
    freshness: Arc<Mutex<CopyFreshness>>,
    // Whether it has more than a page to read, or had.
    is_behind: bool,
    // How long it waits for a reader that does not read.
    patience: Duration,
}

impl KeptCopier {
    pub(super) fn new(
        stream: Arc<KeptStream>,
        (store, streams): (&KeptStore, &KeptStreams),
        (state, freshness): (watch::Sender<CopyState>, Arc<Mutex<CopyFreshness>>),
        patience: Duration,
    ) -> Self {
        let (store, streams, watch) = (store.clone(), streams.clone(), store.watch(&stream.id));
        streams.metrics().kept_copies(1);
        let (rule, is_behind) = (CopyRule::default(), true);
        Self { stream, streams, store, watch, rule, state, freshness, is_behind, patience }
    }

    /// Copies until the copy has no readers any more.
    pub(super) async fn run(mut self) {
        let mut used_at = Instant::now();
        loop {
            if self.stream.is_ended() {
                self.pause(LINGER, false).await;
            } else {
                self.make_room().await;
                match self.read().await {
                    Some(pause) => self.pause(pause, true).await,
                    None => tokio::task::yield_now().await,
                }
            }
            let is_loading = *self.state.borrow() == CopyState::Loading;
            if self.stream.has_readers() || is_loading {
                used_at = Instant::now();
            } else if used_at.elapsed() >= LINGER && self.streams.copies().retire(&self.stream) {
                return;
            }
        }
    }

    async fn pause(&self, pause: Duration, heeds_news: bool) {
        tokio::select! {
            () = self.watch.news(), if heeds_news => {}
            // A reader has come or gone.
            () = self.stream.changed() => {}
            () = sleep(pause) => {}
        }
    }

    /// Waits for a reader that would lose events.
    async fn make_room(&self) {
        while let Some(until) = self.streams.bound(&self.stream, self.patience) {
            tokio::select! {
                () = self.stream.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Reads the next entries. Returns how long to wait before the next read.
    async fn read(&mut self) -> Option<Duration> {
        let (epoch, after) = self.rule.known();
        let record = ReadRecord {
            id: &self.stream.id,
            epoch,
            after,
            count: PAGE,
            follows: self.stream.has_readers(),
            wants_about: false,
        };
        // A copy that keeps up reads little, and does not wait for those that load.
        let mut began = Instant::now();
        let reading = async {
            let permit = match self.is_behind {
                true => timeout(MAX_QUEUED, self.streams.copies().load()).await,
                false => Ok(None),
            };
            match permit {
                Ok(_permit) => {
                    began = Instant::now();
                    self.store.read(&record).await
                }
                Err(_elapsed) => Err(KeptAway::Away),
            }
        };
        let read = reading.await;
        if let Ok(Some(stored)) = &read {
            self.take(stored);
            let mut freshness = self.freshness.lock().unwrap_or_else(PoisonError::into_inner);
            freshness.read(began, stored.lease);
        }
        let step =
            self.rule.take(read.as_ref().map(Option::as_ref).map_err(|away| *away), Instant::now());
        self.is_behind = match step {
            CopyStep::More => true,
            CopyStep::Retry => self.is_behind,
            CopyStep::Wait | CopyStep::End(_) | CopyStep::GiveUp => false,
        };
        let is_loading = *self.state.borrow() == CopyState::Loading;
        match step {
            CopyStep::More => return None,
            CopyStep::Retry | CopyStep::GiveUp if is_loading => {
                let state = read.map_or_else(CopyState::Failed, |_none| CopyState::Gone);
                self.give_up(state);
            }
            CopyStep::GiveUp => self.give_up(CopyState::Failed(KeptAway::Away)),
            CopyStep::Retry => return Some(RETRY),
            CopyStep::Wait => {}
            // A loss before the first reader here is not a loss for a reader.
            CopyStep::End(StreamEnd::Lost) if !is_loading => {
                self.stream.lose(LostReason::Elsewhere);
            }
            CopyStep::End(end) => {
                self.stream.log.end(end);
            }
        }
        if is_loading {
            self.state.send_if_modified(|state| {
                let was_loading = *state == CopyState::Loading;
                if was_loading {
                    *state = CopyState::Loaded;
                }
                was_loading
            });
        }
        Some(LOOK)
    }

    fn take(&self, stored: &StoredRecord) {
        if let Some(is_numbered) = stored.is_numbered {
            self.stream.set_numbered(is_numbered);
        }
        for entry in &stored.parts {
            // A part that cannot be parsed counts as missing.
            let Some(part) = LogPart::parse(&entry.at, entry.bytes.clone()) else { continue };
            let is_missing = self.stream.log.take_part(&part);
            if is_missing && stored.is_numbered != Some(true) {
                self.stream.log.forget_ids();
            }
        }
    }

    /// Ends the copy. Later readers get a new one.
    fn give_up(&self, state: CopyState) {
        self.state.send_replace(state);
        self.streams.copies().remove(&self.stream);
        self.stream.lose(LostReason::Elsewhere);
    }
}

impl Drop for KeptCopier {
    fn drop(&mut self) {
        self.streams.copies().remove(&self.stream);
        self.streams.metrics().kept_copies(-1);
        // The thread ends.
        self.stream.log.end(StreamEnd::Lost);
    }
}
