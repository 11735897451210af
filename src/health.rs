//! Whether this gateway can do its work: what `/readyz` asks.
//!
//! Facts set by the stages that know them. Upstreams are not among them: a backend that fails must
//! not take the gateway, and every open stream, out of rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The facts: a cheap handle that can go to every thread.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    is_source_ready: AtomicBool,
    is_log_source_away: AtomicBool,
    is_draining: AtomicBool,
}

impl Health {
    /// The source is connected, and everything that is to be followed is.
    pub fn set_source_ready(&self, is_ready: bool) {
        self.0.is_source_ready.store(is_ready, Ordering::Relaxed);
    }

    /// The source of logs, where any are configured, is connected and reads what it is to read.
    pub fn set_log_source_ready(&self, is_ready: bool) {
        self.0.is_log_source_away.store(!is_ready, Ordering::Relaxed);
    }

    /// The gateway has begun to stop. There is no way back.
    pub fn set_draining(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the sources deliver.
    pub fn is_source_ready(&self) -> bool {
        self.0.is_source_ready.load(Ordering::Relaxed)
            && !self.0.is_log_source_away.load(Ordering::Relaxed)
    }

    /// Whether the gateway is stopping.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }
}
