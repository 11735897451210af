//! The connection task: reads and processes frames, lets streams send in turn, and writes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashMap;
use ssegate_http2::frame::DEFAULT_WINDOW;
use ssegate_http2::frame::PREFACE;
use ssegate_http2::hpack::{HpackDecoder, HpackEncoder};
use ssegate_http2::output::Output;
use ssegate_http2::read_buffer;
use ssegate_http2::wake_queue::{ConnectionPart, PartWaker};
use ssegate_http2::window_measurement::WindowMeasurement;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::header_block::HeaderBlock;
use super::lingering::Lingering;
use super::liveness::{Liveness, LivenessAction};
use super::reason::{LostRequest, ProtocolViolation, Reason};
use super::settings::{BackendSettings, put_initial_frames};
use super::shared::{ConnectionShared, QueuedRequest};
use super::stream::BackendStream;
use super::window::STREAM_WINDOW;
use crate::server::upload_memory::UploadMemory;

/// The output buffered before a write, in octets: one TLS record.
pub(super) const WRITE_SIZE: usize = 16 << 10;
/// High-water mark of the output, in octets. Above it nothing is read: frames such as PING and
/// SETTINGS would add their ACKs to it.
const OUTPUT_HIGH_WATER: usize = 64 << 10;
/// The payload of the PING that checks whether the backend is alive.
const LIVENESS_PING: &[u8; 8] = b"ssegate?";
/// How many times a poll reads and writes before it yields to other tasks.
const MAX_ROUNDS: usize = 16;

/// The connection task, with the state of the connection that is not in [`ConnectionShared`].
#[derive(Debug)]
pub(super) struct Driver<T> {
    socket: T,
    pub(super) shared: Rc<ConnectionShared>,
    pub(super) streams: FxHashMap<u32, BackendStream>,
    /// The number of streams whose request has not been sent to its end.
    pub(super) uploading: usize,
    /// Streams that were woken, in order.
    pub(super) scheduled: VecDeque<u32>,
    /// Streams that wait for the connection window.
    pub(super) window_blocked: Vec<u32>,
    pub(super) output: Output,
    pub(super) encoder: HpackEncoder,
    pub(super) decoder: HpackDecoder,
    pub(super) peer: BackendSettings,
    /// The connection's flow-control window for sending, in octets.
    pub(super) send_window: i64,
    /// Octets received that no WINDOW_UPDATE of the connection has returned yet.
    pub(super) uncredited: usize,
    /// The incomplete header block.
    pub(super) block: Option<Box<HeaderBlock>>,
    pub(super) max_header: usize,
    /// The memory from which stream windows grow.
    pub(super) memory: UploadMemory,
    /// Measures whether the window of a stream limits its throughput.
    pub(super) measurement: WindowMeasurement,
    /// The last stream ID of the GOAWAY frames received.
    pub(super) last_stream: u32,
    /// Set by a GOAWAY: the connection ends with this reason when its last stream has ended.
    pub(super) goaway: Option<Reason>,
    /// Streams without a reader that wait for END_STREAM.
    pub(super) lingering: Lingering,
    liveness: Liveness,
    /// Octets written to the socket so far.
    written: u64,
    task: Option<Waker>,
    // The beginning of an incomplete frame.
    input: Vec<u8>,
    is_readable: bool,
    is_write_blocked: bool,
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
        let mut output = Output::default();
        output.buffer().extend_from_slice(PREFACE);
        put_initial_frames(output.buffer(), STREAM_WINDOW, max_header);
        Self {
            socket,
            streams: FxHashMap::default(),
            uploading: 0,
            scheduled: VecDeque::new(),
            window_blocked: Vec::new(),
            output,
            encoder: HpackEncoder::default(),
            decoder: HpackDecoder::default(),
            peer: BackendSettings::default(),
            send_window: i64::from(DEFAULT_WINDOW),
            uncredited: 0,
            block: None,
            max_header,
            memory,
            measurement: WindowMeasurement::default(),
            last_stream: u32::MAX,
            goaway: None,
            lingering: Lingering::default(),
            liveness: Liveness::new(),
            written: 0,
            task: None,
            input: Vec::new(),
            is_readable: true,
            is_write_blocked: false,
            has_write_failed: false,
            is_closed: false,
            reader: shared.wakes.waker(ConnectionPart::Reader),
            writer: shared.wakes.waker(ConnectionPart::Writer),
            callers: Vec::new(),
            shared,
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
            self.send_queued();
            self.serve_scheduled();
            self.write();
            self.update_upload_credit();
            if self.shared.take_ping() && self.liveness.probe() {
                self.put_ping(LIVENESS_PING, false);
                continue;
            }
            if let Poll::Ready(due) = self.liveness.poll(self.is_busy(), cx) {
                match due {
                    LivenessAction::Ping => self.put_ping(LIVENESS_PING, false),
                    LivenessAction::Close => {
                        return Poll::Ready(Reason::ConnectionLost(
                            "no PING ACK from the backend".into(),
                        ));
                    }
                }
                continue;
            }
            if self.cancel_lingering(cx) {
                continue;
            }
            if let Some(reason) = self.goaway.take_if(|_| self.streams.is_empty()) {
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
        !self.streams.is_empty()
            || !self.shared.has_settings()
            || self.shared.is_silent()
            || self.has_write_failed
    }

    fn has_work(&self) -> bool {
        self.may_read()
            || self.may_send() && (self.shared.has_queued() || !self.scheduled.is_empty())
    }

    fn take_wakes(&mut self) {
        self.shared.wakes.take(&mut self.callers);
        for caller in self.callers.drain(..) {
            match caller.part() {
                ConnectionPart::Reader => self.is_readable = true,
                ConnectionPart::Writer => self.is_write_blocked = false,
                ConnectionPart::Stream(id) | ConnectionPart::Reset(id) => {
                    schedule(&mut self.streams, &mut self.scheduled, id)
                }
            }
        }
    }

    /// Queues a stream to be polled.
    pub(super) fn schedule(&mut self, id: u32) {
        schedule(&mut self.streams, &mut self.scheduled, id);
    }

    /// Wakes the streams that wait for the connection window.
    pub(super) fn wake_window_blocked(&mut self) {
        for id in std::mem::take(&mut self.window_blocked) {
            self.schedule(id);
        }
    }

    fn may_read(&self) -> bool {
        self.is_readable && self.output.len() < OUTPUT_HIGH_WATER
    }

    /// Whether the output takes more frames.
    pub(super) fn may_send(&self) -> bool {
        !self.is_write_blocked && self.output.len() < WRITE_SIZE
    }

    fn read(&mut self) -> Result<(), Reason> {
        let mut buffer = read_buffer::take();
        let (filled, end) = match self.fill(&mut buffer) {
            Ok(filled) => (filled, Ok(())),
            Err((filled, reason)) => (filled, Err(reason)),
        };
        let received = if filled > self.input.len() {
            self.liveness.record_arrival();
            self.shared.record_arrival();
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
        if !self.shared.has_settings() && octets.starts_with(b"HTTP/1.") {
            return Err(Reason::Http1);
        }
        let mut rest = octets;
        loop {
            match self.receive(rest) {
                Ok(Some(length)) => rest = &rest[length..],
                Ok(None) => break,
                Err((length, ProtocolViolation::Stream(id, code, reason))) => {
                    rest = &rest[length..];
                    self.reset(id, code, reason);
                }
                Err((_, ProtocolViolation::Connection(code, what))) => {
                    self.put_goaway(code, what);
                    return Err(Reason::Protocol(what));
                }
            }
        }
        self.input = rest.to_vec();
        Ok(())
    }

    /// Serves the woken streams while the output takes more.
    fn serve_scheduled(&mut self) {
        while self.may_send()
            && let Some(id) = self.scheduled.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_scheduled = false;
                self.serve_stream(id);
            }
        }
    }

    fn write(&mut self) {
        if self.is_write_blocked || self.has_write_failed {
            return;
        }
        let before = self.output.len();
        let mut cx = Context::from_waker(&self.writer);
        match self.output.poll_write(&mut self.socket, &mut cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Pending => self.is_write_blocked = true,
            // Keep reading: the backend may have sent responses or a GOAWAY before it closed. The
            // read side then ends the connection.
            Poll::Ready(Err(_)) => (self.has_write_failed, self.is_write_blocked) = (true, true),
        }
        self.written += (before - self.output.len()) as u64;
        if self.has_write_failed {
            self.output = Output::default();
        }
    }

    /// The offset of the next frame in the octets of the whole connection.
    pub(super) fn position(&self) -> u64 {
        self.written + self.output.len() as u64
    }

    fn update_upload_credit(&self) {
        // Most requests have no body: skip the sum.
        let window_demand = if self.uploading == 0 {
            0
        } else {
            self.streams.values().map(BackendStream::window_demand).sum()
        };
        self.shared.update_upload_credit(self.send_window, window_demand);
    }

    /// Removes a stream that has ended.
    pub(super) fn remove(&mut self, id: u32) -> Option<BackendStream> {
        let stream = self.streams.remove(&id)?;
        if stream.is_uploading() {
            self.uploading -= 1;
            // The window that it would have used may be enough for others.
            self.wake_window_blocked();
        }
        self.lingering.remove(id);
        self.shared.stream_ended();
        Some(stream)
    }
}

impl<T> Driver<T> {
    /// Ends the connection, and fails its streams. A request of which nothing was written is
    /// returned as unprocessed.
    fn close(&mut self, reason: &Reason) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        tracing::debug!(%reason, "an HTTP/2 connection to a backend has ended");
        self.shared.close(reason);
        for (_, stream) in self.streams.drain() {
            let is_unprocessed = stream.begins_at >= self.written;
            stream.fail(reason.clone(), is_unprocessed);
            self.shared.stream_ended();
        }
        self.return_queued(reason);
    }

    /// Returns the queued requests as unprocessed.
    pub(super) fn return_queued(&self, reason: &Reason) {
        while let Some(QueuedRequest { request, sender, .. }) = self.shared.take_queued() {
            sender.fail_request(LostRequest {
                reason: reason.clone(),
                is_unprocessed: true,
                request,
            });
            self.shared.stream_ended();
        }
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
            this.shared.wakes.set_task(cx.waker());
            this.task = Some(cx.waker().clone());
        }
        this.output.begin();
        let ended = this.run(cx);
        this.output.end();
        ended.map(|reason| this.close(&reason))
    }
}

/// Queues a stream to be polled, unless it is queued already.
fn schedule(streams: &mut FxHashMap<u32, BackendStream>, scheduled: &mut VecDeque<u32>, id: u32) {
    if let Some(stream) = streams.get_mut(&id)
        && !std::mem::replace(&mut stream.is_scheduled, true)
    {
        scheduled.push_back(id);
    }
}

fn connection_lost(error: &io::Error) -> Reason {
    Reason::ConnectionLost(error.to_string().into())
}
