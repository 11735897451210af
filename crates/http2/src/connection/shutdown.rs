//! The end of a connection or a stream: graceful shutdown, connection errors, stream errors.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};

use super::Connection;
use crate::abuse::AbuseReason;
use crate::error::ErrorCode;
use crate::server::Http2Server;
use crate::stream::{ResponseStage, Streams};

/// How long the end of a connection waits for the client: for the ACK of a PING, and for its close.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How much is still read from a client after the last frame to it, so that it gets to read that
/// frame. Not more: a client that floods us would cost as much as before.
const MAX_DISCARDED: usize = 256 << 10;

/// The phase of a connection.
#[derive(Debug)]
pub(super) enum ShutdownPhase {
    /// New streams are accepted.
    Open,
    /// The first GOAWAY is sent. New streams are still accepted until the client has seen it.
    GoingAway(Pin<Box<Sleep>>),
    /// The final GOAWAY is sent, or the client sent one. Open streams are completed.
    Draining,
    /// All frames are sent. Up to `left` octets are still read, and dropped.
    Closing { deadline: Pin<Box<Sleep>>, is_shut: bool, left: usize },
}

/// Sent between the two GOAWAYs: its ACK proves that the client has seen the first (section 6.8).
pub(super) const SHUTDOWN_PING: &[u8; 8] = b"finished";

impl<S: Http2Server, T: AsyncWrite + Unpin> Connection<S, T> {
    /// Advances the end of the connection, if it has begun.
    pub(super) fn poll_closing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let ShutdownPhase::GoingAway(deadline) = &mut self.phase
            && deadline.as_mut().poll(context).is_ready()
        {
            self.send_final_goaway();
            self.write()?;
        }
        if matches!(self.phase, ShutdownPhase::Draining) && self.streams.is_empty() {
            self.close();
        }
        let ShutdownPhase::Closing { deadline, is_shut, .. } = &mut self.phase else {
            return Poll::Pending;
        };
        if !*is_shut && !self.is_blocked {
            let mut writer = Context::from_waker(&self.write_waker);
            match Pin::new(&mut self.transport).poll_shutdown(&mut writer) {
                // Closing a socket with unread octets sends RST, which can discard our last frames
                // before the client has read them. So the rest is read, and dropped.
                Poll::Ready(_closed_or_gone) => *is_shut = true,
                Poll::Pending => self.is_blocked = true,
            }
        }
        deadline.as_mut().poll(context).map(Ok)
    }
}

impl<S: Http2Server, T> Connection<S, T> {
    /// Sends the final GOAWAY: the client has seen the first.
    pub(super) fn send_final_goaway(&mut self) {
        self.sender.goaway(self.last_stream, ErrorCode::NO_ERROR, "");
        self.phase = ShutdownPhase::Draining;
    }

    fn close(&mut self) {
        let deadline = Box::pin(tokio::time::sleep(CLOSE_TIMEOUT));
        self.phase = ShutdownPhase::Closing { deadline, is_shut: false, left: MAX_DISCARDED };
    }

    /// Ends the connection with a connection error (section 5.4.1).
    pub(super) fn connection_error(&mut self, code: ErrorCode, what: &'static str) {
        self.server.connection_error(code, what);
        self.streams = Streams::None;
        self.sender.goaway(self.last_stream, code, what);
        self.close();
    }

    /// Ends the connection of a client that does too much of what is allowed.
    pub(super) fn cut_off(&mut self, reason: AbuseReason) {
        self.server.abused(reason);
        self.connection_error(ErrorCode::ENHANCE_YOUR_CALM, reason.as_str());
    }

    /// Resets a stream for a stream error (section 5.4.2).
    pub(super) fn stream_error(&mut self, id: u32, code: ErrorCode) {
        match self.count_stream_error(id) {
            Ok(()) => self.reset(id, code),
            Err(reason) => self.cut_off(reason),
        }
    }

    /// Counts an error on a stream. If the request has no response yet, a handler and perhaps a
    /// backend worked in vain: [`ResetLimits`](crate::resets::ResetLimits) counts that. Any other
    /// error costs no more than a frame without effect.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn count_stream_error(&mut self, id: u32) -> Result<(), AbuseReason> {
        let stream = self.streams.get_mut(id);
        let is_unanswered =
            stream.is_some_and(|it| matches!(it.stage, ResponseStage::Handling { .. }));
        let (may, reason) = if is_unanswered {
            (self.resets.allows_stream_error(Instant::now()), AbuseReason::Faults)
        } else {
            (self.budget.spend(Instant::now), AbuseReason::Flood)
        };
        if may { Ok(()) } else { Err(reason) }
    }
}
