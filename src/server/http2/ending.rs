//! How a connection ends: in good order, for a fault of the client's, or for too much of something.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep};

use super::connection::Connection;
use super::error::Code;
use super::stream::{Stage, Streams};
use crate::server::connection::{CutReason, Handler};

/// The end of a connection waits so long for the other side: to answer, and to close.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// So much is read from a client whose connection ends, so that it hears why. One that floods us is not
/// read any longer: it would cost as much as before.
const MAX_THROWN_AWAY: usize = 256 << 10;

/// How far the end of a connection has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Requests are taken.
    Open,
    /// Nothing new is begun. Until the client has heard of it, what it has begun meanwhile is taken.
    Finishing(Pin<Box<Sleep>>),
    /// Nothing is taken behind the last stream.
    Finished,
    /// What is written is the last, and what is read is thrown away: so many octets more.
    Closing { deadline: Pin<Box<Sleep>>, is_shut: bool, left: usize },
}

/// Who is asked to answer before the last GOAWAY: then it has heard of the first (section 6.8).
pub(super) const FINISH_PING: &[u8; 8] = b"finished";

impl<H: Handler> Connection<H> {
    /// Goes on with the end of the connection, if it has begun.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Phase::Finishing(deadline) = &mut self.phase
            && deadline.as_mut().poll(context).is_ready()
        {
            self.finished();
            self.write()?;
        }
        if matches!(self.phase, Phase::Finished) && self.streams.is_empty() {
            self.close();
        }
        let Phase::Closing { deadline, is_shut, .. } = &mut self.phase else {
            return Poll::Pending;
        };
        if !*is_shut && !self.is_blocked {
            let mut writer = Context::from_waker(&self.writer);
            match Pin::new(&mut self.transport).poll_shutdown(&mut writer) {
                // Who closes before all has been read takes back what was written last: what the
                // client still sends is read, and thrown away.
                Poll::Ready(_closed_or_gone) => *is_shut = true,
                Poll::Pending => self.is_blocked = true,
            }
        }
        deadline.as_mut().poll(context).map(Ok)
    }

    /// The client has heard that nothing new is begun.
    pub(super) fn finished(&mut self) {
        self.sender.goaway(self.last_stream, Code::NO_ERROR, "");
        self.phase = Phase::Finished;
    }

    fn close(&mut self) {
        let deadline = Box::pin(tokio::time::sleep(GRACE));
        self.phase = Phase::Closing { deadline, is_shut: false, left: MAX_THROWN_AWAY };
    }

    /// Ends the connection for a fault of the client's.
    pub(super) fn fail(&mut self, code: Code, what: &'static str) {
        tracing::debug!(peer = %self.state.peer(), code = code.0, what, "HTTP/2 connection ended");
        self.streams = Streams::None;
        self.sender.goaway(self.last_stream, code, what);
        self.close();
    }

    /// Ends the connection for what is allowed, but was too much.
    pub(super) fn cut_off(&mut self, reason: CutReason) {
        self.shard.metrics().connection_cut(reason.as_str());
        self.fail(Code::ENHANCE_YOUR_CALM, reason.as_str());
    }

    /// Ends a stream for a fault of the client's.
    pub(super) fn fault(&mut self, id: u32, code: Code) {
        match self.bear(id) {
            Ok(()) => self.reset(id, code),
            Err(reason) => self.cut_off(reason),
        }
    }

    /// Counts a fault on this stream. Where it has a request that is not answered yet, that is given up;
    /// anywhere else a fault costs us no more than a frame that asks for nothing.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn bear(&mut self, id: u32) -> Result<(), CutReason> {
        let stream = self.streams.get_mut(id);
        let is_unanswered = stream.is_some_and(|it| matches!(it.stage, Stage::Handling { .. }));
        let (may, reason) = if is_unanswered {
            (self.resets.may_fail(Instant::now()), CutReason::Faults)
        } else {
            (self.budget.spend(Instant::now), CutReason::Flood)
        };
        if may { Ok(()) } else { Err(reason) }
    }
}
