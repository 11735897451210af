//! Streams that make no progress: those that wait for their send window, and those whose request does not
//! end after the response.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use super::shutdown::ShutdownPhase;
use crate::abuse::ResetReason;
use crate::error::ErrorCode;
use crate::server::Http2Server;

/// How often the streams are checked whose response is sent and whose request has not ended.
const LINGER_CHECK_INTERVAL: Duration = Duration::from_millis(500);

impl<S: Http2Server, T> Connection<S, T> {
    /// Resets the streams that have waited for their send window longer than `write_timeout`.
    pub(super) fn reset_stalled(&mut self) {
        let (now, timeout) = (Instant::now(), self.server.write_timeout());
        self.check_marker_timeout(now);
        let mut stalled = Vec::new();
        for (id, stream) in self.streams.iter_mut() {
            match stream.blocked_since {
                Some(since) if now >= since + timeout => stalled.push(id),
                Some(_) => self.server.keep_alive().note_blocked(),
                None => {}
            }
        }
        for id in stalled {
            self.server.stream_reset(ResetReason::Stalled);
            self.reset(id, ErrorCode::CANCEL);
        }
    }

    /// Resets the streams whose response is sent and whose request does not end.
    pub(super) fn poll_lingering(&mut self, context: &mut Context<'_>) {
        let Some(timer) = &mut self.linger_timer else { return };
        if timer.as_mut().poll(context).is_pending() {
            return;
        }
        let (now, at_most) = (Instant::now(), self.server.lingering_close());
        let is_open = matches!(self.phase, ShutdownPhase::Open);
        let (mut expired, mut is_waiting) = (Vec::new(), false);
        for (id, stream) in self.streams.iter_mut() {
            match stream.stage.has_linger_expired(now, at_most) {
                Some(is_expired) if is_expired || !is_open => expired.push(id),
                Some(_) => is_waiting = true,
                None => {}
            }
        }
        for id in expired {
            self.server.stream_reset(ResetReason::Lingering);
            self.reset(id, ErrorCode::NO_ERROR);
        }
        self.linger_timer = None;
        if is_waiting {
            self.start_linger_timer();
            context.waker().wake_by_ref();
        }
    }

    /// Starts the timer of [`poll_lingering`](Self::poll_lingering), unless it is running.
    pub(super) fn start_linger_timer(&mut self) {
        self.linger_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_CHECK_INTERVAL)));
    }
}
