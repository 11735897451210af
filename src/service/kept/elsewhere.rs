//! Streams that other gateways pump, for clients of this gateway.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::about::{KeptAbout, KeptRequest};
use super::claim::index_tag;
use super::copier::KeptCopier;
use super::copies::{CopyState, KeptCopies, KeptCopy};
use super::copy_freshness::CopyFreshness;
use super::copying::stored_end;
use super::log::Position;
use super::owner::OwnerTag;
use super::registry::KeptStreams;
use super::sender::KeptSender;
use super::stop_word::deleted_word;
use super::stream::{CancelReason, KeptHome, KeptStream};
use super::stream_id::{is_stream_id, new_id};
use crate::route::{KeepSettings, KeepStore};
use crate::source::kept::{
    IndexEntry, IndexOutcome, IndexStep, KeptAway, KeptLink, KeptStore, ReadRecord,
};

/// The waits before each further lookup of a stream that Redis does not have yet: its client may be faster.
const NOT_YET: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];
/// How long to wait for an event that a client has, and Redis does not have yet. Longer than a pump may be silent, plus
/// a lookup: then it is known whether the event exists.
const MAX_BEHIND: Duration = Duration::from_millis(3500);
/// The same for an id of the backend, which may belong to another stream.
const MAX_BEHIND_OWN: Duration = Duration::from_millis(300);
/// Streams of one name that are looked up: first running ones, then the newest.
const MAX_LOOKED_AT: usize = 20;

impl KeptStreams {
    /// Returns the link for the task that makes the calls of the store, if there is a Redis. Only the first time.
    pub(crate) fn link(&self) -> Option<KeptLink> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The store, if the route shares its streams with other gateways.
    pub(in crate::service) fn store(&self, keep: &KeepSettings) -> Option<&KeptStore> {
        self.0.store.as_ref().filter(|_| keep.store != KeepStore::Memory)
    }

    /// The store, for any route.
    pub(super) fn any_store(&self) -> Option<&KeptStore> {
        self.0.store.as_ref()
    }

    pub(super) fn copies(&self) -> &KeptCopies {
        &self.0.copies
    }

    /// Completes when all running streams are broken off.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Looks up the description of a stream that another gateway pumps: it cannot be read yet. `settings` returns the
    /// settings of its route, by its [`scope`](crate::route::Route::scope). `None`: there is no such stream.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub(in crate::service) async fn look(
        &self,
        id: &str,
        settings: impl Fn(&str) -> Option<Arc<KeepSettings>>,
    ) -> Result<Option<Arc<KeptStream>>, KeptAway> {
        let Some(store) = self.any_store().filter(|_| is_stream_id(id)) else { return Ok(None) };
        if let Some(copy) = self.copies().get(id) {
            return Ok(Some(copy.stream));
        }
        let (count, follows, wants_about) = (0, false, true);
        let record = ReadRecord { id, epoch: "", after: 0, count, follows, wants_about };
        let Some(stored) = store.read(&record).await? else { return Ok(None) };
        let about = KeptAbout::parse(&stored.about, &stored.digest);
        let found = about.and_then(|about| Some((settings(&about.request.scope)?, about)));
        let Some((settings, about)) = found.filter(|(keep, _)| self.store(keep).is_some()) else {
            return Ok(None);
        };
        let stream = self.stream_elsewhere((id, about), &settings, stored.began);
        stream.log.set_last(stored.last);
        if let Some(is_numbered) = stored.is_numbered {
            stream.set_numbered(is_numbered);
        }
        if let Some(end) = stored_end(&stored.state) {
            stream.log.end(end);
        }
        Ok(Some(stream))
    }

    /// Looks up a stream whose client may be faster than Redis.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub(in crate::service) async fn look_again(
        &self,
        id: &str,
        settings: impl Fn(&str) -> Option<Arc<KeepSettings>>,
    ) -> Result<Option<Arc<KeptStream>>, KeptAway> {
        let mut found = self.look(id, &settings).await?;
        for pause in NOT_YET {
            if found.is_some() || !is_stream_id(id) {
                break;
            }
            sleep(pause).await;
            found = self.look(id, &settings).await?;
        }
        if found.is_none() && is_stream_id(id) {
            self.expect_all().await?;
        }
        Ok(found)
    }

    /// Checks that a stream that was not found does not exist anywhere.
    ///
    /// # Errors
    /// Redis cannot be asked, or lost everything a moment ago: other gateways are writing their streams again.
    pub(in crate::service) async fn expect_all(&self) -> Result<(), KeptAway> {
        let Some(store) = self.any_store() else { return Ok(()) };
        match store.was_emptied().await? {
            true => Err(KeptAway::Emptied),
            false => Ok(()),
        }
    }

    /// Writes streams that have ended here to Redis again, if Redis has lost everything since the last call. The sender
    /// of a running stream writes it again itself. The tasks are added to `pumps`.
    pub(in crate::service) fn write_again(&self, pumps: &TaskTracker) {
        let Some(losses) = self.any_store().map(KeptStore::losses) else { return };
        if self.0.rewritten.fetch_max(losses, Ordering::Relaxed) >= losses {
            return;
        }
        for stream in self.ended() {
            if let Some(store) = self.store(&stream.settings) {
                // In the index of its name it is recorded as ended.
                let sender = KeptSender::new(Arc::clone(&stream), (store, self), true);
                drop(pumps.spawn_local(sender.run()));
            }
        }
    }

    /// Takes as long as [`look_again`](Self::look_again) for a stream that does not exist, with the same errors:
    /// neither the time nor an outage of Redis reveals that there is a stream of another owner.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub(in crate::service) async fn look_away(&self) -> Result<(), KeptAway> {
        self.look_again(&new_id(), |_| None).await.map(drop)
    }

    fn stream_elsewhere(
        &self,
        (id, about): (&str, KeptAbout),
        settings: &Arc<KeepSettings>,
        began: u64,
    ) -> Arc<KeptStream> {
        let grant = self.grant(&about.request.scope);
        let home = (KeptHome::Elsewhere, began);
        let parts = (grant, self.metrics().clone());
        Arc::new(KeptStream::new(id.into(), about, Arc::clone(settings), home, parts))
    }

    /// Returns a stream that can be read here from a position on. A stream of another gateway is copied first: this
    /// waits until the copy has what Redis has, and the event of the position if it comes soon. `None`: the stream does
    /// not exist any more. `patience` is as for [`bound`](Self::bound).
    ///
    /// # Errors
    /// Redis cannot be asked; or it does not have the position, and may have it later.
    pub(in crate::service) async fn readable(
        &self,
        (stream, position): (&Arc<KeptStream>, &Position),
        patience: Duration,
    ) -> Result<Option<Arc<KeptStream>>, KeptAway> {
        let store = self.store(&stream.settings).filter(|_| stream.home == KeptHome::Elsewhere);
        let Some(store) = store else { return Ok(Some(Arc::clone(stream))) };
        let make = || self.copy(stream, store, patience);
        let asked = Instant::now();
        let mut copy = self.copies().get_or(&stream.id, make);
        let loaded = copy.state.wait_for(|state| *state != CopyState::Loading).await;
        match loaded.map(|state| *state) {
            Ok(CopyState::Loaded) => {
                let most = match position {
                    Position::AfterOwn(_) => MAX_BEHIND_OWN,
                    Position::Start | Position::After(_) => MAX_BEHIND,
                };
                let found = timeout(most, copy.stream.reaches(position)).await;
                match found.is_ok() || copy.freshness().refutes(position, asked) {
                    true => Ok(Some(copy.stream)),
                    false => Err(KeptAway::Away),
                }
            }
            Ok(CopyState::Gone) => Ok(None),
            Ok(CopyState::Failed(away)) => Err(away),
            Ok(CopyState::Loading) | Err(_) => Err(KeptAway::Away),
        }
    }

    fn copy(&self, known: &KeptStream, store: &KeptStore, patience: Duration) -> KeptCopy {
        let about = (&*known.id, known.about());
        let stream = self.stream_elsewhere(about, &known.settings, known.began_at);
        let (sender, state) = watch::channel(CopyState::Loading);
        let freshness = Arc::<Mutex<CopyFreshness>>::default();
        let outputs = (sender, Arc::clone(&freshness));
        let copier = KeptCopier::new(Arc::clone(&stream), (store, self), outputs, patience);
        drop(tokio::task::spawn_local(copier.run()));
        KeptCopy { stream, state, freshness }
    }

    /// Cancels a stream, here or at another gateway.
    ///
    /// # Errors
    /// It runs at another gateway, and Redis cannot be asked.
    pub(in crate::service) async fn cancel(
        &self,
        stream: &KeptStream,
        why: CancelReason,
    ) -> Result<(), KeptAway> {
        match self.store(&stream.settings).filter(|_| stream.home == KeptHome::Elsewhere) {
            Some(store) => store.stop(&stream.id, why.as_str(), "").await,
            None => {
                stream.cancel(why);
                Ok(())
            }
        }
    }

    /// Cancels all streams of a name at other gateways, and the requests that wait for theirs; with `path`, only those
    /// requested at it.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub(in crate::service) async fn cancel_named_elsewhere(
        &self,
        (keep, name): (&Arc<KeepSettings>, &OwnerTag),
        path: Option<&str>,
    ) -> Result<(), KeptAway> {
        let Some(store) = self.store(keep) else { return Ok(()) };
        for entry in self.indexed(store, &index_tag(name)).await? {
            if !entry.runs {
                continue;
            }
            // This gateway knows only the name of a request that waits: the gateway of the request compares the path.
            let known = self.look(&entry.id, |_| Some(Arc::clone(keep))).await?;
            let is_other =
                known.is_some_and(|it| path.is_some_and(|path| *it.request.path != *path));
            if !is_other {
                store.stop(&entry.id, &deleted_word(path), &entry.gateway).await?;
            }
        }
        Ok(())
    }

    /// The streams of a name, or of a request, at other gateways.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub(in crate::service) async fn elsewhere(
        &self,
        (keep, tag): (&Arc<KeepSettings>, &str),
    ) -> Result<Vec<Arc<KeptStream>>, KeptAway> {
        let Some(store) = self.store(keep) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let entries = self.indexed(store, tag).await?.into_iter();
        let others = entries.filter(|entry| self.get(&entry.id).is_none());
        for entry in others.take(MAX_LOOKED_AT) {
            found.extend(self.look(&entry.id, |_| Some(Arc::clone(keep))).await?);
        }
        Ok(found)
    }

    /// The streams of an index: running ones before those that have ended, and the newest first.
    async fn indexed(&self, store: &KeptStore, tag: &str) -> Result<Vec<IndexEntry>, KeptAway> {
        let IndexOutcome::Others(mut entries) = store.index(tag, ("", 0), IndexStep::List).await?
        else {
            return Ok(Vec::new());
        };
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.runs, entry.began)));
        Ok(entries)
    }

    /// The index of all streams that are the response to this request, regardless of its body.
    pub(in crate::service) fn request_index(
        &self,
        keep: &KeepSettings,
        request: &KeptRequest,
    ) -> String {
        let KeptRequest { owner, method, path, query, .. } = request;
        let parts = [
            &b"request"[..],
            owner.as_bytes(),
            method.as_str().as_bytes(),
            path.as_bytes(),
            query.as_bytes(),
        ];
        index_tag(&self.key_of(keep).tag(parts))
    }

    /// The index of a name.
    pub(in crate::service) fn name_index(&self, name: &OwnerTag) -> String {
        index_tag(name)
    }
}
