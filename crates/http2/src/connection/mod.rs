//! A client's connection: the loop, what it polls, and in which order.
//!
//! One task has the whole connection. [`reading`] cuts what comes into frames; [`receive`] processes them,
//! with [`requests`] for header blocks and [`data`] for DATA. [`respond`] continues the responses, with
//! [`bulk`] for those that are large. [`growth`] grows receive windows, [`deadlines`] ends streams that make
//! no progress, [`shutdown`] ends the connection.

mod bulk;
mod data;
mod deadlines;
mod growth;
mod reading;
mod receive;
mod requests;
mod respond;
mod shutdown;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use self::bulk::BulkQueue;
use self::data::PartialDataFrame;
use self::requests::PartialHeaderBlock;
use self::shutdown::{CLOSE_TIMEOUT, SHUTDOWN_PING, ShutdownPhase};
use crate::budget::FrameBudget;
use crate::consumed::ConsumedOctets;
use crate::error::ErrorCode;
use crate::frame::MAX_31_BITS;
use crate::hpack::HpackDecoder;
use crate::output::WRITE_BATCH;
use crate::receive_window::ReceiveWindow;
use crate::resets::ResetLimits;
use crate::sender::FrameSender;
use crate::server::Http2Server;
use crate::settings;
use crate::stream::{ClosedBy, ClosedStreams, Precedence, Stream, Streams};
use crate::wake_queue::{ConnectionPart, PartWaker, WakeQueue};
use crate::window_measurement::WindowMeasurement;

/// While this many octets wait for the socket, frames that may need a response are not processed: a
/// client that sends PINGs and does not read cannot make us queue their ACKs without bound.
const MAX_PENDING_OUTPUT: usize = 64 << 10;
const KEEP_ALIVE_PING: &[u8; 8] = b"is there";
/// How often one poll reads and writes before it yields to other tasks.
const MAX_ROUNDS: usize = 16;

/// A client's connection, over a `transport` on which the client speaks HTTP/2: agreed on in TLS (ALPN
/// `h2`), or by prior knowledge (RFC 9113, section 3.3).
///
/// Its owner [polls](Self::poll) it until it ends. To drop it closes it at once.
pub struct Connection<S: Http2Server, T> {
    server: S,
    streams: Streams<S>,
    closed_streams: ClosedStreams,
    /// The highest stream identifier that the client has opened.
    last_stream: u32,
    sender: FrameSender,
    decoder: HpackDecoder,
    /// The header block whose END_HEADERS has not come.
    partial_block: Option<Box<PartialHeaderBlock>>,
    /// The DATA frame whose end has not come.
    partial_data: Option<PartialDataFrame>,
    /// The receive window of the connection.
    receive_window: ReceiveWindow,
    /// Octets that readers have consumed and that are not credited to the client yet.
    consumed: Arc<ConsumedOctets>,
    /// Measures whether the window of a stream limits its client.
    measurement: WindowMeasurement,
    budget: FrameBudget,
    resets: ResetLimits,
    phase: ShutdownPhase,
    /// Streams with something to do, in the order in which they were woken.
    ready: VecDeque<u32>,
    /// Streams that send in bulk: served after all others.
    bulk: BulkQueue,
    to_reset: Vec<u32>,
    /// Whether SETTINGS_INITIAL_WINDOW_SIZE has changed the send window of every stream.
    has_new_windows: bool,
    /// Streams with something to send once the socket is writable.
    write_blocked: Vec<u32>,
    /// Streams with something to send once the send window of the connection opens, or once the
    /// client has read what is in flight.
    window_blocked: Vec<u32>,
    wake_queue: Arc<WakeQueue>,
    transport: T,
    task: Option<Waker>,
    read_waker: Waker,
    write_waker: Waker,
    woken: Vec<Arc<PartWaker>>,
    /// Octets read and not processed: an incomplete frame, or frames that are held back.
    input: Vec<u8>,
    /// Whether frames in `input` are held back until the socket has taken the output.
    has_held_frames: bool,
    has_preface: bool,
    /// Whether the client's first SETTINGS frame has come.
    has_settings: bool,
    is_readable: bool,
    // The socket is not writable.
    is_blocked: bool,
    // Set while there are streams whose response is sent and whose request has not ended.
    linger_timer: Option<Pin<Box<Sleep>>>,
}

impl<S: Http2Server, T> Connection<S, T> {
    /// Creates a connection from which nothing has been read, not even the preface. `server` belongs to this
    /// connection alone.
    pub fn new(transport: T, server: S) -> Self {
        let wake_queue = Arc::new(WakeQueue::default());
        let own_window = settings::connection_window(server.settings());
        Self {
            streams: Streams::None,
            closed_streams: ClosedStreams::default(),
            last_stream: 0,
            sender: FrameSender::new(server.settings()),
            decoder: HpackDecoder::default(),
            partial_block: None,
            partial_data: None,
            receive_window: ReceiveWindow::new(own_window),
            consumed: Arc::default(),
            measurement: WindowMeasurement::default(),
            budget: FrameBudget::new(Instant::now()),
            resets: ResetLimits::default(),
            phase: ShutdownPhase::Open,
            ready: VecDeque::new(),
            bulk: BulkQueue::default(),
            to_reset: Vec::new(),
            has_new_windows: false,
            write_blocked: Vec::new(),
            window_blocked: Vec::new(),
            transport,
            read_waker: wake_queue.waker(ConnectionPart::Reader),
            write_waker: wake_queue.waker(ConnectionPart::Writer),
            wake_queue,
            woken: Vec::new(),
            task: None,
            input: Vec::new(),
            has_held_frames: false,
            has_preface: false,
            has_settings: false,
            is_readable: true,
            is_blocked: false,
            linger_timer: None,
            server,
        }
    }

    /// The server that it was created with.
    pub fn server(&self) -> &S {
        &self.server
    }
}

impl<S: Http2Server, T: AsyncRead + AsyncWrite + Unpin> Connection<S, T> {
    /// Serves the connection until it ends.
    ///
    /// For a server that needs no control between polls. [`Http2Server::is_draining`] and
    /// [`Http2Server::keep_alive`] are checked whenever its task is woken.
    ///
    /// # Errors
    /// Reading from or writing to the transport failed.
    pub async fn run(mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll(true, context)).await
    }

    /// Polls the connection once. Ready when it has ended.
    ///
    /// `is_notified`: whether [`Http2Server::is_draining`] and [`Http2Server::keep_alive`] have to be
    /// checked. A wake for an event does not need that.
    ///
    /// # Errors
    /// Reading from or writing to the transport failed.
    pub fn poll(&mut self, is_notified: bool, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            self.wake_queue.set_task(context.waker());
            self.task = Some(context.waker().clone());
        }
        self.sender.output.begin();
        if is_notified {
            self.handle_notices();
        }
        let ended = self.poll_rounds(context);
        self.sender.output.end();
        ended
    }

    fn poll_rounds(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MAX_ROUNDS {
            self.take_wakes();
            if self.may_read() && self.read()?.is_eof() {
                // A client that has only shut down its sending side still reads the reason.
                self.write()?;
                return Poll::Ready(Ok(()));
            }
            if self.sender.output.len() >= WRITE_BATCH {
                self.write()?; // a batch of ACKs would leave no room for the streams
            }
            self.serve();
            self.poll_lingering(context);
            self.write()?;
            if self.poll_closing(context)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            let has_work = !self.ready.is_empty() || !self.bulk.is_empty();
            if !self.may_read() && (!has_work || self.is_blocked) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Http2Server, T: AsyncWrite + Unpin> Connection<S, T> {
    fn write(&mut self) -> io::Result<()> {
        if !self.is_blocked {
            if !self.sender.output.is_empty() {
                self.server.writing();
            }
            let mut context = Context::from_waker(&self.write_waker);
            let written = self.sender.output.poll_write(&mut self.transport, &mut context)?;
            self.is_blocked = written.is_pending();
        }
        Ok(())
    }
}

impl<S: Http2Server, T> Connection<S, T> {
    /// Handles what was requested from outside: graceful shutdown, a keep-alive PING, a sweep.
    fn handle_notices(&mut self) {
        if self.server.is_draining() && matches!(self.phase, ShutdownPhase::Open) {
            self.sender.goaway(MAX_31_BITS, ErrorCode::NO_ERROR, "");
            self.sender.ping(SHUTDOWN_PING, false);
            self.phase = ShutdownPhase::GoingAway(Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
        }
        if self.server.keep_alive().take_ping(Instant::now) {
            self.sender.ping(KEEP_ALIVE_PING, false);
        }
        if self.server.keep_alive().take_sweep() {
            self.reset_stalled();
        }
    }

    /// Collects the parts that were woken.
    fn take_wakes(&mut self) {
        self.wake_queue.take(&mut self.woken);
        for waker in self.woken.drain(..) {
            match waker.part() {
                ConnectionPart::Reader => self.is_readable = true,
                ConnectionPart::Writer => {
                    self.is_blocked = false;
                    self.ready.extend(self.write_blocked.drain(..));
                }
                ConnectionPart::Stream(id) => self.ready.push_back(id),
                ConnectionPart::Reset(id) => self.to_reset.push(id),
            }
        }
        while let Some(id) = self.to_reset.pop() {
            if self.streams.contains(id) {
                self.reset(id, ErrorCode::CANCEL);
            }
        }
        // A stream that is alone on its connection wakes the task directly, without a queued wake.
        self.ready.extend(self.streams.only_stream());
    }

    fn may_read(&self) -> bool {
        let is_done = matches!(self.phase, ShutdownPhase::Closing { left: 0, .. });
        let has_input = self.is_readable || self.has_held_frames;
        has_input && self.sender.output.len() < MAX_PENDING_OUTPUT && !is_done
    }

    fn serve(&mut self) {
        if std::mem::take(&mut self.has_new_windows) {
            let streams = self.streams.iter_mut();
            let blocked = streams.filter(|(_, stream)| stream.blocked_since.is_some());
            self.ready.extend(blocked.map(|(id, _)| id));
        }
        while self.sender.output.len() < WRITE_BATCH
            && let Some(id) = self.ready.pop_front()
        {
            self.serve_stream(id);
        }
        // Only once there is room to write: whatever is framed now goes out before every later
        // event.
        while !self.is_blocked
            && self.sender.output.len() < self.bulk.batch()
            && let Some(id) = self.bulk.pop()
        {
            self.respond(id);
        }
        self.mark_bulk();
    }

    /// Resets a stream.
    fn reset(&mut self, id: u32, code: ErrorCode) {
        self.sender.reset(id, code);
        self.remove(id, ClosedBy::ServerReset);
    }

    /// Removes a stream, and returns its unread octets to the connection's window.
    fn remove(&mut self, id: u32, closed_by: ClosedBy) -> Option<Box<Stream<S>>> {
        let mut stream = self.streams.remove(id);
        if let Some(stream) = &mut stream {
            if stream.precedence == Precedence::Events && self.bulk.event_stream_ended() {
                self.ready.extend(self.window_blocked.drain(..)); // bulk is unlimited again
            }
            self.receive_window.shrink(stream.receiver.grown());
            self.credit_dropped(stream.receiver.detach());
        }
        self.closed_streams.note(id, closed_by);
        stream
    }

    /// Credits octets that are dropped without reaching a reader.
    fn credit_dropped(&mut self, octets: usize) {
        self.receive_window.read(octets);
        self.update_receive_window();
    }

    /// Credits what readers have consumed on all streams, and sends a WINDOW_UPDATE for the
    /// connection if that is worth a frame.
    fn update_receive_window(&mut self) {
        // The smaller the window, the fewer octets have to be consumed before a reader wakes this
        // task.
        let read = self.consumed.take(self.receive_window.available() / 4);
        self.receive_window.read(read);
        if let Some(more) = self.receive_window.update(&self.server) {
            self.sender.window_update(0, more);
        }
    }
}

impl<S: Http2Server, T> Drop for Connection<S, T> {
    fn drop(&mut self) {
        self.receive_window.give_back(&self.server);
    }
}

impl<S: Http2Server, T> fmt::Debug for Connection<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Connection");
        text.field("streams", &self.streams.len()).field("phase", &self.phase);
        text.finish_non_exhaustive()
    }
}
