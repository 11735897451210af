//! Notifications to systemd (sd_notify(3)). Does nothing without `$NOTIFY_SOCKET`.

use sd_notify::NotifyState;

/// The gateway serves, or a reload is complete.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload has begun (`Type=notify-reload`).
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_no_clock) => tell(&[NotifyState::Reloading]),
    }
}

/// The shutdown has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
