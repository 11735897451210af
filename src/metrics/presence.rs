//! The metrics of presence and its webhooks.

use super::{Metrics, int};

impl Metrics {
    /// Sets the members of this gateway that are known.
    pub fn presence_members(&self, members: usize) {
        self.0.presence_members.set(int(members));
    }

    /// So many members were left out.
    pub fn presence_refused(&self, reason: &str, members: usize) {
        self.0.presence_refused.with_label_values(&[reason]).inc_by(members as u64);
    }

    /// A webhook was delivered, given up, or will be retried.
    pub fn webhook(&self, result: &str) {
        self.0.webhooks.with_label_values(&[result]).inc();
    }

    /// Sets the webhooks that wait.
    pub fn webhooks_waiting(&self, waiting: usize) {
        self.0.webhooks_waiting.set(int(waiting));
    }
}
