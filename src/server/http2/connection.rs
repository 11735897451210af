//! One connection: who has something to do, and in which order it is done.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::budget::Budget;
use super::bulk::Bulk;
use super::credit::Credit;
use super::data::Payload;
use super::ending::{FINISH_PING, GRACE, Phase};
use super::error::Code;
use super::frame::MAX_31_BITS;
use super::growth::Measurement;
use super::hpack::Decoder;
use super::reads::Reads;
use super::requests::Block;
use super::resets::Resets;
use super::send::Sender;
use super::settings;
use super::stream::{Ended, How, Precedence, Stream, Streams};
use super::wakes::{Caller, Part, Wakes};
use crate::server::connection::{ConnectionState, CutReason, Handler, Notice};
use crate::server::shard_server::ShardServer;
use crate::server::transport::{Progress, Transport};

/// So much is written at once: one TLS record.
pub(super) const TOGETHER: usize = 16 << 10;
/// While so much waits for the socket, no frame is taken that would have to be answered.
pub(super) const MAX_UNSENT: usize = 64 << 10;
const PROBE_PING: &[u8; 8] = b"is there";
/// So often a connection reads and writes before others have their turn.
const MAX_ROUNDS: usize = 16;
/// How often streams whose responses have been sent before their requests ended are looked at.
const ANSWERED_ROUND: Duration = Duration::from_millis(500);

/// A connection. Its owner polls it until it ends.
pub(in crate::server) struct Connection<H: Handler> {
    pub(super) shard: ShardServer<H>,
    pub(super) state: Rc<ConnectionState>,
    // That of the state: an event needs no more of it.
    pub(super) progress: Arc<Progress>,
    pub(super) streams: Streams<H::Body>,
    pub(super) ended: Ended,
    /// The newest stream that the client has opened.
    pub(super) last_stream: u32,
    pub(super) sender: Sender,
    pub(super) decoder: Decoder,
    /// The header block that is not complete.
    pub(super) block: Option<Box<Block>>,
    /// A DATA frame whose end has not come.
    pub(super) payload: Option<Payload>,
    /// What the client may send on all streams.
    pub(super) credit: Credit,
    /// What has been read of it, and not been credited.
    pub(super) reads: Arc<Reads>,
    /// Whether the window of a stream limits its client.
    pub(super) measurement: Measurement,
    pub(super) budget: Budget,
    pub(super) resets: Resets,
    pub(super) phase: Phase,
    /// Streams that have something to do, in their order.
    pub(super) ready: VecDeque<u32>,
    /// Those that send in bulk: they come behind all others.
    pub(super) bulk: Bulk,
    cut: Vec<u32>,
    /// Whether the client has changed the windows of all streams.
    pub(super) has_new_windows: bool,
    /// Streams that have something to send when the socket takes it.
    pub(super) waiting: Vec<u32>,
    /// Streams that have something to send when the window of the connection opens, or when what is on
    /// its way has been read.
    pub(super) starved: Vec<u32>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) transport: Transport,
    pub(super) task: Option<Waker>,
    pub(super) reader: Waker,
    pub(super) writer: Waker,
    callers: Vec<Arc<Caller>>,
    /// What was read and not taken: a frame whose end has not come, or frames that are held back.
    pub(super) input: Vec<u8>,
    /// Frames wait in `input` until the socket has taken what waits for it.
    pub(super) holds_frames: bool,
    pub(super) is_greeted: bool,
    /// Whether the client has sent its SETTINGS.
    pub(super) has_settings: bool,
    pub(super) is_readable: bool,
    // The socket takes nothing more.
    pub(super) is_blocked: bool,
    // While there are streams whose responses have been sent, and whose requests have not ended.
    answered: Option<Pin<Box<Sleep>>>,
}

impl<H: Handler> Connection<H> {
    pub(in crate::server) fn new(
        transport: Transport,
        shard: &ShardServer<H>,
        state: &Rc<ConnectionState>,
    ) -> Self {
        let wakes = Arc::new(Wakes::default());
        let own_window = settings::connection_window(&shard.settings().http2);
        Self {
            shard: shard.clone(),
            state: Rc::clone(state),
            progress: Arc::clone(&state.progress),
            streams: Streams::None,
            ended: Ended::default(),
            last_stream: 0,
            sender: Sender::new(&shard.settings().http2),
            decoder: Decoder::default(),
            block: None,
            payload: None,
            credit: Credit::new(own_window, shard.upload_memory().clone()),
            reads: Arc::default(),
            measurement: Measurement::default(),
            budget: Budget::new(Instant::now()),
            resets: Resets::default(),
            phase: Phase::Open,
            ready: VecDeque::new(),
            bulk: Bulk::default(),
            cut: Vec::new(),
            has_new_windows: false,
            waiting: Vec::new(),
            starved: Vec::new(),
            transport,
            reader: wakes.caller(Part::Reader),
            writer: wakes.caller(Part::Writer),
            wakes,
            callers: Vec::new(),
            task: None,
            input: Vec::new(),
            holds_frames: false,
            is_greeted: false,
            has_settings: false,
            is_readable: true,
            is_blocked: false,
            answered: None,
        }
    }

    /// Whether it was called since this was asked last (see [`Progress`]).
    pub(in crate::server) fn take_call(&self) -> bool {
        self.progress.take_call()
    }

    /// Does what there is to do; where it `is_called`, what it is told too. Ends with the connection.
    ///
    /// # Errors
    /// The socket failed.
    pub(in crate::server) fn poll(
        &mut self,
        is_called: bool,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            self.wakes.set_task(context.waker());
            self.task = Some(context.waker().clone());
        }
        self.sender.output.begin();
        if is_called {
            self.heed();
        }
        let ended = self.take_turn(context);
        self.sender.output.end();
        ended
    }

    fn take_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MAX_ROUNDS {
            self.listen();
            if self.may_read() && self.read()?.is_ended() {
                // It may still hear why, where it has only said its last.
                self.write()?;
                return Poll::Ready(Ok(()));
            }
            if self.sender.output.len() >= TOGETHER {
                self.write()?; // what is answered at once keeps no stream from its turn
            }
            self.serve();
            self.poll_answered(context);
            self.write()?;
            if self.poll_end(context)?.is_ready() {
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

    /// Hears what is said from outside.
    fn heed(&mut self) {
        // The other notice ends this task.
        if self.state.notice() == Some(Notice::Finish) && matches!(self.phase, Phase::Open) {
            self.sender.goaway(MAX_31_BITS, Code::NO_ERROR, "");
            self.sender.ping(FINISH_PING, false);
            self.phase = Phase::Finishing(Box::pin(tokio::time::sleep(GRACE)));
        }
        if self.state.keep_alive.take_probe(Instant::now) {
            self.sender.ping(PROBE_PING, false);
        }
        if self.state.keep_alive.take_sweep() {
            self.sweep();
        }
    }

    /// Resets the streams that have waited too long for their window.
    fn sweep(&mut self) {
        let (now, timeout) = (Instant::now(), self.shard.settings().write_timeout);
        self.end_silent_marker(now);
        let mut stalled = Vec::new();
        for (id, stream) in self.streams.iter_mut() {
            match stream.blocked_since {
                Some(since) if now >= since + timeout => stalled.push(id),
                Some(_) => self.state.keep_alive.note_blocked(),
                None => {}
            }
        }
        for id in stalled {
            self.shard.metrics().stream_reset(CutReason::Stalled.as_str());
            self.reset(id, Code::CANCEL);
        }
    }

    /// Resets the streams that have been answered, and whose requests do not end.
    fn poll_answered(&mut self, context: &mut Context<'_>) {
        let Some(timer) = &mut self.answered else { return };
        if timer.as_mut().poll(context).is_pending() {
            return;
        }
        let (now, at_most) = (Instant::now(), self.shard.settings().lingering_close);
        let is_open = matches!(self.phase, Phase::Open);
        let (mut over, mut is_waiting) = (Vec::new(), false);
        for (id, stream) in self.streams.iter_mut() {
            match stream.stage.is_waited_out(now, at_most) {
                Some(is_over) if is_over || !is_open => over.push(id),
                Some(_) => is_waiting = true,
                None => {}
            }
        }
        for id in over {
            self.shard.metrics().stream_reset(CutReason::Lingering.as_str());
            self.reset(id, Code::NO_ERROR);
        }
        self.answered = None;
        if is_waiting {
            self.wait_for_answered();
            context.waker().wake_by_ref();
        }
    }

    /// Begins to look after the streams that have been answered.
    pub(super) fn wait_for_answered(&mut self) {
        self.answered.get_or_insert_with(|| Box::pin(tokio::time::sleep(ANSWERED_ROUND)));
    }

    /// Finds out who called.
    fn listen(&mut self) {
        self.wakes.take(&mut self.callers);
        for caller in self.callers.drain(..) {
            match caller.part() {
                Part::Reader => self.is_readable = true,
                Part::Writer => {
                    self.is_blocked = false;
                    self.ready.extend(self.waiting.drain(..));
                }
                Part::Stream(id) => self.ready.push_back(id),
                Part::Cut(id) => self.cut.push(id),
            }
        }
        while let Some(id) = self.cut.pop() {
            if self.streams.contains(id) {
                self.reset(id, Code::CANCEL);
            }
        }
        // That one wakes the task without a word.
        self.ready.extend(self.streams.alone());
    }

    fn may_read(&self) -> bool {
        let has_enough = matches!(self.phase, Phase::Closing { left: 0, .. });
        let may_come = self.is_readable || self.holds_frames;
        may_come && self.sender.output.len() < MAX_UNSENT && !has_enough
    }

    fn serve(&mut self) {
        if std::mem::take(&mut self.has_new_windows) {
            let streams = self.streams.iter_mut();
            let blocked = streams.filter(|(_, stream)| stream.blocked_since.is_some());
            self.ready.extend(blocked.map(|(id, _)| id));
        }
        while self.sender.output.len() < TOGETHER
            && let Some(id) = self.ready.pop_front()
        {
            self.serve_stream(id);
        }
        // Not before there is room for it: what comes meanwhile would have to wait behind it.
        while !self.is_blocked
            && self.sender.output.len() < self.bulk.at_once()
            && let Some(id) = self.bulk.pop()
        {
            self.respond(id);
        }
        self.mark_bulk();
    }

    pub(super) fn write(&mut self) -> io::Result<()> {
        if !self.is_blocked {
            if self.sender.output.len() > 0 {
                self.progress.wrote(self.shard.time_of_round());
            }
            let mut context = Context::from_waker(&self.writer);
            let written = self.sender.output.poll_write(&mut self.transport, &mut context)?;
            self.is_blocked = written.is_pending();
        }
        Ok(())
    }

    /// Ends a stream.
    pub(super) fn reset(&mut self, id: u32, code: Code) {
        self.sender.reset(id, code);
        self.remove(id, How::ResetByUs);
    }

    /// Forgets a stream.
    pub(super) fn remove(&mut self, id: u32, how: How) -> Option<Box<Stream<H::Body>>> {
        let mut stream = self.streams.remove(id);
        if let Some(stream) = &mut stream {
            if stream.precedence == Precedence::Events && self.bulk.event_stream_ended() {
                self.ready.extend(self.starved.drain(..)); // they need no room any more
            }
            self.credit.shrink(stream.receiving.grown());
            self.give_back(stream.receiving.detach());
        }
        self.ended.note(id, how);
        stream
    }

    /// What is thrown away, and was never a stream's to read, may come again.
    pub(super) fn give_back(&mut self, octets: usize) {
        self.credit.read(octets);
        self.update_credit();
    }

    /// Credits what has been read of all streams, and tells the client what it may send on them, if that
    /// is worth it.
    pub(super) fn update_credit(&mut self) {
        // The less the client may send, the less has to be read before the task is woken for it.
        let read = self.reads.take(self.credit.window() / 4);
        self.credit.read(read);
        if let Some(more) = self.credit.update() {
            self.sender.window_update(0, more);
        }
    }
}
