//! The metrics of kept streams.

use std::time::Duration;

use super::{Metrics, int};

impl Metrics {
    /// A kept stream has changed from one state to another; `None`: before its beginning, or after
    /// its end.
    pub fn kept_state(&self, from: Option<&str>, to: Option<&str>) {
        if let Some(from) = from {
            self.0.kept_streams.with_label_values(&[from]).dec();
        }
        if let Some(to) = to {
            self.0.kept_streams.with_label_values(&[to]).inc();
        }
    }

    /// Replaces `before` bytes by `now` bytes in the memory of kept streams.
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

    /// A kept stream broke off, or a client needs events that are no longer kept.
    pub fn kept_lost(&self, reason: &str) {
        self.0.kept_lost.with_label_values(&[reason]).inc();
    }

    /// An event stream on a route with `keep` was not kept.
    pub fn kept_passed(&self, reason: &str) {
        self.0.kept_passed.with_label_values(&[reason]).inc();
    }

    /// Adds to the number of copies of other gateways' streams, or subtracts if negative.
    pub fn kept_copies(&self, more: i64) {
        self.0.kept_copies.add(more);
    }

    /// Adds to the number of streams that other gateways cannot continue, or subtracts if negative.
    pub fn kept_unshared(&self, more: i64) {
        self.0.kept_unshared.add(more);
    }

    /// A request to Redis failed that asks whether another gateway has a stream of the same name.
    pub fn kept_unclaimed(&self) {
        self.0.kept_unclaimed.inc();
    }

    /// A kept stream has a reader again, after this time without one.
    pub fn kept_unread(&self, time: Duration) {
        self.0.kept_unread.observe(time.as_secs_f64());
    }
}
