//! Notifications to systemd (sd_notify(3)). Does nothing without `$NOTIFY_SOCKET`.

use sd_notify::NotifyState;

/// The gateway serves, or a reload is complete.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload has begun (`Type=notify-reload`).
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_no_clock) => notify(&[NotifyState::Reloading]),
    }
}

/// The shutdown has begun.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
