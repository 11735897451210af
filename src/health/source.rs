//! The health of one source of events.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::incident::Incident;
use super::lock;
use super::outages::{Outage, Outages};

/// The health of one event source.
#[derive(Debug, Default)]
pub(super) struct SourceHealth {
    is_used: AtomicBool,
    is_ready: AtomicBool,
    incident: Mutex<Option<Incident>>,
    outages: Mutex<Outages>,
}

impl SourceHealth {
    /// Sets whether the source is ready. The first call marks the source as in use.
    // Loads before it stores: this runs with every batch of events.
    pub(super) fn set_ready(&self, is_ready: bool) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        if self.is_ready() != is_ready {
            let now = SystemTime::now();
            if is_ready {
                *lock(&self.incident) = None;
                lock(&self.outages).end(now);
            } else {
                lock(&self.outages).begin(now);
            }
            self.is_ready.store(is_ready, Ordering::Relaxed);
        }
    }

    /// Whether it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    /// Whether it is ready, or not in use.
    pub(super) fn passes(&self) -> bool {
        self.is_ready() || !self.is_used.load(Ordering::Relaxed)
    }

    /// Its last outages.
    pub(super) fn outages(&self) -> Vec<Outage> {
        lock(&self.outages).list()
    }

    /// The current problem. A source that is ready may have a recent one, such as a channel name
    /// that Redis rejects.
    pub(super) fn incident(&self) -> Option<Incident> {
        let is_ready = self.is_ready();
        let incident = lock(&self.incident).clone();
        incident.filter(|incident| !is_ready || incident.is_recent(SystemTime::now()))
    }

    /// Records a failure.
    pub(super) fn failed(&self, kind: &'static str, error: &str) {
        let now = SystemTime::now();
        lock(&self.outages).fail(kind, error);
        let is_ready = self.is_ready();
        match &mut *lock(&self.incident) {
            Some(incident) if !is_ready || incident.is_recent(now) => {
                incident.recur(kind, error, now)
            }
            ended => *ended = Some(Incident::new(kind, error, now)),
        }
    }
}
