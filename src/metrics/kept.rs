//! The metrics of kept streams.

use std::time::Duration;

use super::{Metrics, int};

impl Metrics {
    /// A kept stream has gone from one state to another; `None`: there is none.
    pub fn kept_state(&self, from: Option<&str>, to: Option<&str>) {
        if let Some(from) = from {
            self.0.kept_streams.with_label_values(&[from]).dec();
        }
        if let Some(to) = to {
            self.0.kept_streams.with_label_values(&[to]).inc();
        }
    }

    /// What took so many bytes takes so many now.
    pub fn kept_bytes(&self, before: usize, now: usize) {
        self.0.kept_bytes.add(int(now) - int(before));
    }

    /// A client has come back to a kept stream.
    pub fn kept_resumed(&self, by: &str) {
        self.0.kept_resumed.with_label_values(&[by]).inc();
    }

    /// A kept stream was cancelled.
    pub fn kept_cancelled(&self, reason: &str) {
        self.0.kept_cancelled.with_label_values(&[reason]).inc();
    }

    /// A kept stream broke off, or a client needs events that are not there any more.
    pub fn kept_lost(&self, reason: &str) {
        self.0.kept_lost.with_label_values(&[reason]).inc();
    }

    /// An event stream on a route with `keep` was not kept.
    pub fn kept_passed(&self, reason: &str) {
        self.0.kept_passed.with_label_values(&[reason]).inc();
    }

    /// Adds to the number of copies of other gateways' streams; negative: there are fewer.
    pub fn kept_copies(&self, more: i64) {
        self.0.kept_copies.add(more);
    }

    /// Adds to the number of streams that other gateways cannot continue; negative: there are fewer.
    pub fn kept_unshared(&self, more: i64) {
        self.0.kept_unshared.add(more);
    }

    /// Redis could not be asked whether another gateway has a stream of the same name.
    pub fn kept_unclaimed(&self) {
        self.0.kept_unclaimed.inc();
    }

    /// A kept stream has a reader again after this time.
    pub fn kept_unread(&self, time: Duration) {
        self.0.kept_unread.observe(time.as_secs_f64());
    }
}
