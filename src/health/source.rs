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
    // What Redis refuses to the source itself, whichever channels clients ask for.
    refusal: Mutex<Option<Incident>>,
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
                *lock(&self.refusal) = None;
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
        self.current(&self.incident)
    }

    /// What Redis refuses to the source itself now: a failure that [`Self::refused`] has recorded.
    pub(super) fn refusal(&self) -> Option<Incident> {
        self.current(&self.refusal)
    }

    fn current(&self, incident: &Mutex<Option<Incident>>) -> Option<Incident> {
        let is_ready = self.is_ready();
        let incident = lock(incident).clone();
        incident.filter(|incident| !is_ready || incident.is_recent(SystemTime::now()))
    }

    /// Records a failure.
    pub(super) fn failed(&self, kind: &'static str, error: &str) {
        lock(&self.outages).fail(kind, error);
        self.note(&self.incident, kind, error);
    }

    /// Records a failure of which no client chooses the channel.
    pub(super) fn refused(&self, kind: &'static str, error: &str) {
        self.failed(kind, error);
        self.note(&self.refusal, kind, error);
    }

    fn note(&self, incident: &Mutex<Option<Incident>>, kind: &'static str, error: &str) {
        let (now, is_ready) = (SystemTime::now(), self.is_ready());
        match &mut *lock(incident) {
            Some(incident) if !is_ready || incident.is_recent(now) => {
                incident.recur(kind, error, now)
            }
            ended => *ended = Some(Incident::new(kind, error, now)),
        }
    }
}
