//! Requests with a name that wait for their response.
//!
//! There is no stream yet, but the backend is already working: stopping or replacing a stream of that name applies to
//! them, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::owner::OwnerTag;

/// The waiting requests. A cheap handle, for all threads. Its lock is short, and no other is taken within it.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingRequests(Arc<Mutex<WaitingPlaces>>);

#[derive(Debug, Default)]
struct WaitingPlaces {
    by_name: HashMap<OwnerTag, Vec<WaitingPlace>>,
    // Numbers the requests, to tell them apart.
    count: u64,
}

#[derive(Debug)]
struct WaitingPlace {
    number: u64,
    path: Box<str>,
    cancelled: CancellationToken,
}

/// A request that waits, until this is dropped.
#[derive(Debug)]
pub(in crate::service) struct WaitingRequest {
    all: WaitingRequests,
    name: OwnerTag,
    path: Box<str>,
    number: u64,
    cancelled: CancellationToken,
    // Its claim at Redis.
    claim: Option<NameClaim>,
}

/// The claim of a waiting request at Redis, until this is dropped.
#[derive(Debug)]
pub(super) struct NameClaim {
    id: Box<str>,
    // Sent when the stream begins; dropped: it will not begin.
    begins: oneshot::Sender<()>,
}

impl NameClaim {
    /// `begins` is sent to once the stream has begun, and dropped if it will not.
    pub(super) fn new(id: Box<str>, begins: oneshot::Sender<()>) -> Self {
        Self { id, begins }
    }

    /// Records that the stream begins, which keeps the name from now on. Returns its id.
    pub(super) fn take(self) -> Box<str> {
        self.begins.send(()).ok();
        self.id
    }
}

impl WaitingRequests {
    fn lock(&self) -> MutexGuard<'_, WaitingPlaces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request of this name, to this path.
    pub(super) fn add(&self, name: OwnerTag, path: &str) -> WaitingRequest {
        let mut places = self.lock();
        places.count += 1;
        let (number, cancelled) = (places.count, CancellationToken::new());
        let place = WaitingPlace { number, path: path.into(), cancelled: cancelled.clone() };
        places.by_name.entry(name).or_default().push(place);
        let path = path.into();
        WaitingRequest { all: self.clone(), name, path, number, cancelled, claim: None }
    }

    /// Whether a request of this name waits.
    pub(super) fn has(&self, name: &OwnerTag) -> bool {
        self.lock().by_name.contains_key(name)
    }

    /// Cancels the requests of this name; with `path`, only those to it. Returns how many there were.
    pub(super) fn cancel(&self, name: &OwnerTag, path: Option<&str>) -> usize {
        let places = self.lock();
        let of_name = places.by_name.get(name).into_iter().flatten();
        let wanted = of_name.filter(|place| path.is_none_or(|path| path == &*place.path));
        let waiting = wanted.filter(|place| !place.cancelled.is_cancelled());
        let tokens: Vec<_> = waiting.map(|place| place.cancelled.clone()).collect();
        drop(places);
        tokens.iter().for_each(CancellationToken::cancel);
        tokens.len()
    }
}

impl WaitingRequest {
    /// Its name, with its owner and method.
    pub(super) fn name(&self) -> OwnerTag {
        self.name
    }

    /// The path of the request.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Sets its claim at Redis.
    pub(super) fn set_claim(&mut self, claim: NameClaim) {
        self.claim = Some(claim);
    }

    /// Takes the id of its claim: its stream begins.
    pub(super) fn take_id(&mut self) -> Option<Box<str>> {
        self.claim.take().map(NameClaim::take)
    }

    /// A token that is cancelled with the request.
    pub(in crate::service) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(places) = all.by_name.get_mut(&self.name) {
            places.retain(|place| place.number != self.number);
            if places.is_empty() {
                all.by_name.remove(&self.name);
            }
        }
    }
}
