//! The metrics of presence.

use super::{Metrics, int};

impl Metrics {
    /// Sets the listeners of this gateway that are known.
    pub fn presence_members(&self, members: usize) {
        self.0.presence_members.set(int(members));
    }

    /// So many listeners are not known.
    pub fn presence_refused(&self, reason: &str, listeners: usize) {
        self.0.presence_refused.with_label_values(&[reason]).inc_by(listeners as u64);
    }
}
