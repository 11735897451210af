//! Requests that have a name, and wait for their response.
//!
//! There is no stream yet, but the backend works already: what stops or replaces a stream of that name concerns them, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::owner::OwnerTag;

/// Those that wait. A cheap handle, for all threads. Its lock is short, and no other is taken in it.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingRequests(Arc<Mutex<WaitingPlaces>>);

#[derive(Debug, Default)]
struct WaitingPlaces {
    by_name: HashMap<OwnerTag, Vec<WaitingPlace>>,
    // Tells them apart.
    count: u64,
}

#[derive(Debug)]
struct WaitingPlace {
    number: u64,
    path: Box<str>,
    cancelled: CancellationToken,
}

/// One that waits, until this is dropped.
#[derive(Debug)]
pub(in crate::service) struct WaitingRequest {
    all: WaitingRequests,
    name: OwnerTag,
    path: Box<str>,
    number: u64,
    cancelled: CancellationToken,
    // What other gateways know of it.
    claim: Option<NameClaim>,
}

/// What other gateways know of a request that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct NameClaim {
    id: Box<str>,
    // Told that the stream has begun; dropped: it will not.
    begins: oneshot::Sender<()>,
}

impl NameClaim {
    /// `begins` is told once the stream has begun, and dropped if it will not.
    pub(super) fn new(id: Box<str>, begins: oneshot::Sender<()>) -> Self {
        Self { id, begins }
    }

    /// The stream begins: it keeps the name from now on.
    pub(super) fn take(self) -> Box<str> {
        self.begins.send(()).ok();
        self.id
    }
}

impl WaitingRequests {
    fn lock(&self) -> MutexGuard<'_, WaitingPlaces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more of this name, to this path.
    pub(super) fn add(&self, name: OwnerTag, path: &str) -> WaitingRequest {
        let mut places = self.lock();
        places.count += 1;
        let (number, cancelled) = (places.count, CancellationToken::new());
        let place = WaitingPlace { number, path: path.into(), cancelled: cancelled.clone() };
        places.by_name.entry(name).or_default().push(place);
        let path = path.into();
        WaitingRequest { all: self.clone(), name, path, number, cancelled, claim: None }
    }

    /// Whether one of this name waits.
    pub(super) fn has(&self, name: &OwnerTag) -> bool {
        self.lock().by_name.contains_key(name)
    }

    /// Cancels those of this name; with `path`, those to it. Returns how many there were.
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

    /// Where it was sent.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Other gateways know of it from now on.
    pub(super) fn set_claim(&mut self, claim: NameClaim) {
        self.claim = Some(claim);
    }

    /// The id under which other gateways know of it: its stream begins.
    pub(super) fn take_id(&mut self) -> Option<Box<str>> {
        self.claim.take().map(NameClaim::take)
    }

    /// Tells whether it is cancelled, and when it is.
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
