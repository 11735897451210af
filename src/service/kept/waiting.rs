//! Requests that have a name, and wait for their response.
//!
//! There is no stream yet, but the backend works already: what stops or replaces a stream of that name concerns them, too.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::owner::OwnerTag;
use super::registry::KeptStreams;

/// Those that wait, by name.
#[derive(Debug, Default)]
pub(super) struct WaitingRequests {
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
    streams: KeptStreams,
    name: OwnerTag,
    number: u64,
    cancelled: CancellationToken,
}

impl WaitingRequests {
    /// One more of this name, to this path.
    pub(super) fn add(
        &mut self,
        streams: &KeptStreams,
        name: OwnerTag,
        path: &str,
    ) -> WaitingRequest {
        self.count += 1;
        let (number, cancelled) = (self.count, CancellationToken::new());
        let place = WaitingPlace { number, path: path.into(), cancelled: cancelled.clone() };
        self.by_name.entry(name).or_default().push(place);
        WaitingRequest { streams: streams.clone(), name, number, cancelled }
    }

    /// Whether one of this name waits.
    pub(super) fn has(&self, name: &OwnerTag) -> bool {
        self.by_name.contains_key(name)
    }

    /// Cancels those of this name; with `path`, those to it. Returns how many there were.
    pub(super) fn cancel(&self, name: &OwnerTag, path: Option<&str>) -> usize {
        let of_name = self.by_name.get(name).into_iter().flatten();
        let wanted = of_name.filter(|place| path.is_none_or(|path| path == &*place.path));
        let running = wanted.filter(|place| !place.cancelled.is_cancelled());
        running.map(|place| place.cancelled.cancel()).count()
    }

    pub(super) fn remove(&mut self, name: &OwnerTag, number: u64) {
        let Some(places) = self.by_name.get_mut(name) else { return };
        places.retain(|place| place.number != number);
        if places.is_empty() {
            self.by_name.remove(name);
        }
    }
}

impl WaitingRequest {
    /// Tells whether it is cancelled, and when it is.
    pub(in crate::service) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        self.streams.forget_waiting(&self.name, self.number);
    }
}
