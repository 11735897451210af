//! The connection task: reads the socket, lets [`Multiplexer`] process and write frames, and writes them
//! to the socket. Does not know streams.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ssegate_http2::output::Output;
use ssegate_http2::read_buffer;
use ssegate_http2::wake_queue::{ConnectionPart, PartWaker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::liveness::{Liveness, LivenessAction};
use super::multiplexer::Multiplexer;
use super::reason::{ProtocolViolation, Reason};
use super::shared::ConnectionShared;
use crate::server::upload_memory::UploadMemory;

/// High-water mark of the output, in octets. Above it nothing is read: frames such as PING and
/// SETTINGS would add their ACKs to it.
const OUTPUT_HIGH_WATER: usize = 64 << 10;
/// The payload of the PING that checks whether the backend is alive.
const LIVENESS_PING: &[u8; 8] = b"ssegate?";
/// How many times a poll reads and writes before it yields to other tasks.
const MAX_ROUNDS: usize = 16;

/// The connection task. The state of the streams is in [`Multiplexer`].
#[derive(Debug)]
pub(super) struct Driver<T> {
    socket: T,
    mux: Multiplexer,
    liveness: Liveness,
    task: Option<Waker>,
    // The beginning of an incomplete frame.
    input: Vec<u8>,
    is_readable: bool,
    // A write has failed, but frames sent before may still be readable.
    has_write_failed: bool,
    is_closed: bool,
    reader: Waker,
    writer: Waker,
    callers: Vec<std::sync::Arc<PartWaker>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(super) fn new(
        socket: T,
        shared: Rc<ConnectionShared>,
        max_header: usize,
        memory: UploadMemory,
    ) -> Self {
        Self {
            socket,
            reader: shared.wakes.waker(ConnectionPart::Reader),
            writer: shared.wakes.waker(ConnectionPart::Writer),
            mux: Multiplexer::new(shared, max_header, memory),
            liveness: Liveness::new(),
            task: None,
            input: Vec::new(),
            is_readable: true,
            has_write_failed: false,
            is_closed: false,
            callers: Vec::new(),
        }
    }

    /// Reads, sends and writes until nothing is left to do. Ready with the reason when the
    /// connection has ended.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        for _ in 0..MAX_ROUNDS {
            self.take_wakes();
            if self.may_read()
                && let Err(reason) = self.read()
            {
                // Send what is buffered, such as a GOAWAY, before closing.
                self.write();
                return Poll::Ready(reason);
            }
            self.mux.send_queued();
            self.mux.serve_scheduled();
            self.write();
            self.mux.update_upload_credit();
            if self.mux.shared.take_ping() && self.liveness.probe() {
                self.mux.put_ping(LIVENESS_PING, false);
                continue;
            }
            if let Poll::Ready(due) = self.liveness.poll(self.is_busy(), cx) {
                match due {
                    LivenessAction::Ping => self.mux.put_ping(LIVENESS_PING, false),
                    LivenessAction::Close => {
                        return Poll::Ready(Reason::ConnectionLost(
                            "no PING ACK from the backend".into(),
                        ));
                    }
                }
                continue;
            }
            if self.mux.cancel_lingering(cx) {
                continue;
            }
            if let Some(reason) = self.mux.goaway.take_if(|_| self.mux.streams.is_empty()) {
                return Poll::Ready(reason);
            }
            if !self.has_work() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether data is expected from the backend.
    fn is_busy(&self) -> bool {
        !self.mux.streams.is_empty()
            || !self.mux.shared.has_settings()
            || self.mux.shared.is_silent()
            || self.has_write_failed
    }

    fn has_work(&self) -> bool {
        self.may_read()
            || self.mux.may_send()
                && (self.mux.shared.has_queued() || !self.mux.scheduled.is_empty())
    }

    fn take_wakes(&mut self) {
        self.mux.shared.wakes.take(&mut self.callers);
        for caller in self.callers.drain(..) {
            match caller.part() {
                ConnectionPart::Reader => self.is_readable = true,
                ConnectionPart::Writer => self.mux.is_write_blocked = false,
                ConnectionPart::Stream(id) | ConnectionPart::Reset(id) => {
                    self.mux.schedule(id);
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.is_readable && self.mux.output.len() < OUTPUT_HIGH_WATER
    }

    fn read(&mut self) -> Result<(), Reason> {
        let mut buffer = read_buffer::take();
        let (filled, end) = match self.fill(&mut buffer) {
            Ok(filled) => (filled, Ok(())),
            Err((filled, reason)) => (filled, Err(reason)),
        };
        let received = if filled > self.input.len() {
            self.liveness.record_arrival();
            self.mux.shared.record_arrival();
            self.receive_all(&buffer[..filled])
        } else {
            Ok(())
        };
        read_buffer::give_back(buffer);
        received.and(end)
    }

    /// Fills `buffer` after the rest of the last read. Returns the length; an error also has the
    /// reason why nothing more will arrive.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, (usize, Reason)> {
        let mut filled = self.input.len();
        buffer[..filled].copy_from_slice(&self.input);
        let mut cx = Context::from_waker(&self.reader);
        while filled < buffer.len() {
            let mut read = ReadBuf::new(&mut buffer[filled..]);
            match Pin::new(&mut self.socket).poll_read(&mut cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    let closed = Reason::ConnectionLost("closed by the backend".into());
                    return Err((filled, closed));
                }
                Poll::Ready(Ok(())) => filled += read.filled().len(),
                Poll::Ready(Err(error)) => return Err((filled, connection_lost(&error))),
                Poll::Pending => {
                    self.is_readable = false;
                    break;
                }
            }
        }
        Ok(filled)
    }

    /// Processes all complete frames, and keeps the beginning of the next.
    fn receive_all(&mut self, octets: &[u8]) -> Result<(), Reason> {
        if !self.mux.shared.has_settings() && octets.starts_with(b"HTTP/1.") {
            return Err(Reason::Http1);
        }
        let mut rest = octets;
        loop {
            match self.mux.receive(rest) {
                Ok(Some(length)) => rest = &rest[length..],
                Ok(None) => break,
                Err((length, ProtocolViolation::Stream(id, code, reason))) => {
                    rest = &rest[length..];
                    self.mux.reset(id, code, reason);
                }
                Err((_, ProtocolViolation::Connection(code, what))) => {
                    self.mux.put_goaway(code, what);
                    return Err(Reason::Protocol(what));
                }
            }
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn write(&mut self) {
        if self.mux.is_write_blocked || self.has_write_failed {
            return;
        }
        let before = self.mux.output.len();
        let mut cx = Context::from_waker(&self.writer);
        match self.mux.output.poll_write(&mut self.socket, &mut cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Pending => self.mux.is_write_blocked = true,
            // Keep reading: the backend may have sent responses or a GOAWAY before it closed. The
            // read side then ends the connection.
            Poll::Ready(Err(_)) => {
                (self.has_write_failed, self.mux.is_write_blocked) = (true, true)
            }
        }
        self.mux.written += (before - self.mux.output.len()) as u64;
        if self.has_write_failed {
            self.mux.output = Output::default();
        }
    }
}

impl<T> Driver<T> {
    /// Ends the connection, and fails its streams.
    fn close(&mut self, reason: &Reason) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        tracing::debug!(%reason, "an HTTP/2 connection to a backend has ended");
        self.mux.close(reason);
    }
}

/// Fails the streams if the task panics, or is aborted with the last handle.
impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.close(&Reason::Task);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            this.mux.shared.wakes.set_task(cx.waker());
            this.task = Some(cx.waker().clone());
        }
        this.mux.output.begin();
        let ended = this.run(cx);
        this.mux.output.end();
        ended.map(|reason| this.close(&reason))
    }
}

fn connection_lost(error: &io::Error) -> Reason {
    Reason::ConnectionLost(error.to_string().into())
}
