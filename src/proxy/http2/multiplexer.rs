//! What the streams of one connection share: their table, the frames to be written, and the state of both
//! directions.
//!
//! `send`, `receive` and `measure` are its methods; none of them knows the socket, which [`Driver`] reads
//! and writes.
//!
//! [`Driver`]: super::driver::Driver

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use ssegate_http2::frame::DEFAULT_WINDOW;
use ssegate_http2::frame::PREFACE;
use ssegate_http2::hpack::{HpackDecoder, HpackEncoder};
use ssegate_http2::output::Output;
use ssegate_http2::window_measurement::WindowMeasurement;

use super::header_block::HeaderBlock;
use super::lingering::LingeringStreams;
use super::reason::{LostRequest, Reason};
use super::settings::{BackendSettings, put_initial_frames};
use super::shared::{ConnectionShared, QueuedRequest};
use super::stream::RequestStream;
use super::window::STREAM_WINDOW;
use crate::server::upload_memory::UploadMemory;

/// The output buffered before a write, in octets: one TLS record.
pub(super) const WRITE_SIZE: usize = 16 << 10;

/// The state of a connection that is neither its socket nor in [`ConnectionShared`].
#[derive(Debug)]
pub(super) struct Multiplexer {
    pub(super) shared: Rc<ConnectionShared>,
    pub(super) streams: FxHashMap<u32, RequestStream>,
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
    pub(super) lingering: LingeringStreams,
    /// Octets written to the socket so far.
    pub(super) written: u64,
    /// The socket takes nothing now.
    pub(super) is_write_blocked: bool,
}

impl Multiplexer {
    /// The state of a new connection, whose output begins with our preface and SETTINGS.
    pub(super) fn new(
        shared: Rc<ConnectionShared>,
        max_header: usize,
        memory: UploadMemory,
    ) -> Self {
        let mut output = Output::default();
        output.buffer().extend_from_slice(PREFACE);
        put_initial_frames(output.buffer(), STREAM_WINDOW, max_header);
        Self {
            shared,
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
            lingering: LingeringStreams::default(),
            written: 0,
            is_write_blocked: false,
        }
    }

    /// Queues a stream to be polled, unless it is queued already.
    pub(super) fn schedule(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.is_scheduled, true)
        {
            self.scheduled.push_back(id);
        }
    }

    /// Wakes the streams that wait for the connection window.
    pub(super) fn wake_window_blocked(&mut self) {
        for id in std::mem::take(&mut self.window_blocked) {
            self.schedule(id);
        }
    }

    /// Whether the output takes more frames.
    pub(super) fn may_send(&self) -> bool {
        !self.is_write_blocked && self.output.len() < WRITE_SIZE
    }

    /// The offset of the next frame in the octets of the whole connection.
    pub(super) fn position(&self) -> u64 {
        self.written + self.output.len() as u64
    }

    /// Tells the pool how much of the connection window is free for further uploads.
    pub(super) fn update_upload_credit(&self) {
        // Most requests have no body: skip the sum.
        let window_demand = if self.uploading == 0 {
            0
        } else {
            self.streams.values().map(RequestStream::window_demand).sum()
        };
        self.shared.update_upload_credit(self.send_window, window_demand);
    }

    /// Removes a stream that has ended.
    pub(super) fn remove(&mut self, id: u32) -> Option<RequestStream> {
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

    /// The connection has ended: fails the streams. A request of which nothing was written is returned as
    /// unprocessed.
    pub(super) fn close(&mut self, reason: &Reason) {
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
