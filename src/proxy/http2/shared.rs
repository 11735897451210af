//! The state that the connection task shares with the handles.
//!
//! Counts streams against MAX_CONCURRENT_STREAMS, and request bodies against the connection window,
//! so that the pool sends a request only where it does not stall.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::Request;
use http_body::Body as _;
use ssegate_http2::frame::MAX_31_BITS;
use ssegate_http2::wake_queue::{ConnectionPart, WakeQueue};
use tokio::time::Instant;

use super::reason::{LostRequest, Reason};
use super::reset_bucket::ResetBucket;
use super::response::{ResponseFuture, ResponseSender, channel};
use super::settings::BackendSettings;
use crate::proxy::capacity::CapacityNotify;
use crate::proxy::upload::Upload;

/// The maximum number of streams on one connection, even if the backend allows more: the minimum
/// that RFC 9113, section 6.5.2, recommends to servers.
const MAX_STREAMS: usize = 100;
/// No stream is opened beyond this identifier; they end at 2^31 - 1 (RFC 9113, section 5.1.1).
const LAST_STREAM: u32 = (1 << 31) - 1_000;
/// The waker for the connection as a whole: stream 0.
const CONNECTION: u32 = 0;

/// The shared state of one connection.
#[derive(Debug)]
pub(super) struct ConnectionShared {
    pub(super) wakes: Arc<WakeQueue>,
    // Wakes the requests that wait in the pool.
    capacity: Rc<CapacityNotify>,
    queue: RefCell<VecDeque<QueuedRequest>>,
    phase: RefCell<BackendConnectionPhase>,
    next_stream: Cell<u32>,
    // Streams that have not ended, including queued ones.
    streams: Cell<usize>,
    // The current limit, which drops after a refused stream, and the limit that the backend
    // announced.
    max_streams: Cell<usize>,
    announced: Cell<usize>,
    resets: RefCell<ResetBucket>,
    // The connection takes no further requests, although the backend has not sent a GOAWAY.
    is_retired: Cell<bool>,
    // The number of reads that returned data.
    arrivals: Cell<u64>,
    // A request has timed out, and nothing has arrived since it was sent.
    is_silent: Cell<bool>,
    // A PING is to be sent, to check whether the backend is alive.
    wants_ping: Cell<bool>,
    upload_credit: UploadCredit,
    // The last stream ID of a GOAWAY(NO_ERROR) received while the connection was in use. An idle
    // connection is closed because it is idle, which says nothing about a request limit.
    last_stream: Cell<Option<u32>>,
    opened_waker: RefCell<Option<Waker>>,
    task: Waker,
    stream_window: u32,
}

/// The life cycle of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BackendConnectionPhase {
    /// Waiting for the backend's SETTINGS.
    Opening,
    Open,
    /// A GOAWAY was received: no new streams, the open ones continue.
    GoingAway(Reason),
    Closed(Reason),
}

/// Accounts for the connection window that unfinished request bodies may use up. A backend that
/// does not read one of them does not return its credit, which leaves less for the others: nothing
/// at all, if the connection window is no larger than a stream window.
#[derive(Debug, Default)]
struct UploadCredit {
    // Octets of the connection window that the unfinished bodies cannot use up.
    available: Cell<i64>,
    // The largest connection window seen, and the initial stream window, in octets.
    largest_window: Cell<i64>,
    initial_window: Cell<i64>,
}

/// A request that the task has not started to send.
#[derive(Debug)]
pub(super) struct QueuedRequest {
    pub(super) stream: u32,
    pub(super) request: Request<Upload>,
    pub(super) sender: ResponseSender,
    pub(super) waker: Waker,
}

impl ConnectionShared {
    /// The state of a connection that is being opened. `capacity` is notified whenever a stream
    /// ends or upload credit grows.
    pub(super) fn new(capacity: Rc<CapacityNotify>, stream_window: u32) -> Self {
        let wakes = Arc::new(WakeQueue::default());
        Self {
            task: wakes.waker(ConnectionPart::Stream(CONNECTION)),
            wakes,
            capacity,
            queue: RefCell::default(),
            phase: RefCell::new(BackendConnectionPhase::Opening),
            next_stream: Cell::new(1),
            streams: Cell::new(0),
            max_streams: Cell::new(0),
            announced: Cell::new(0),
            resets: RefCell::default(),
            is_retired: Cell::new(false),
            arrivals: Cell::new(0),
            is_silent: Cell::new(false),
            wants_ping: Cell::new(false),
            upload_credit: UploadCredit::default(),
            last_stream: Cell::new(None),
            opened_waker: RefCell::default(),
            stream_window,
        }
    }

    /// Ready when the backend has sent its SETTINGS and allows a stream.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<Result<(), Reason>> {
        match &*self.phase.borrow() {
            BackendConnectionPhase::Open if self.max_streams.get() > 0 => {
                return Poll::Ready(Ok(()));
            }
            BackendConnectionPhase::Opening | BackendConnectionPhase::Open => {}
            BackendConnectionPhase::GoingAway(reason) | BackendConnectionPhase::Closed(reason) => {
                return Poll::Ready(Err(reason.clone()));
            }
        }
        *self.opened_waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Queues a request for a new stream.
    pub(super) fn send(&self, request: Request<Upload>) -> ResponseFuture {
        let stream = self.next_stream.get();
        let waker = self.wakes.waker(ConnectionPart::Stream(stream));
        let (sender, response) = channel(waker.clone(), self.stream_window);
        if let BackendConnectionPhase::GoingAway(reason) | BackendConnectionPhase::Closed(reason) =
            &*self.phase.borrow()
        {
            sender.fail_request(LostRequest {
                reason: reason.clone(),
                is_unprocessed: true,
                request,
            });
            return response;
        }
        self.next_stream.set(stream + 2);
        self.streams.set(self.streams.get() + 1);
        self.upload_credit.add(request.body());
        self.queue.borrow_mut().push_back(QueuedRequest { stream, request, sender, waker });
        self.task.wake_by_ref();
        response
    }

    /// The number of further requests that can be sent now.
    pub(super) fn available_streams(&self) -> usize {
        let is_open = *self.phase.borrow() == BackendConnectionPhase::Open;
        if is_open && !self.is_retired() && !self.is_silent() {
            self.max_streams.get().saturating_sub(self.streams.get())
        } else {
            0
        }
    }

    /// Whether a body of this length (`None`: unknown) can be sent even if the backend reads no
    /// other.
    pub(super) fn takes_upload(&self, length: Option<u64>) -> bool {
        self.upload_credit.available.get() >= self.upload_credit.need(length)
    }

    /// The number of open and queued streams.
    pub(super) fn open_streams(&self) -> usize {
        self.streams.get()
    }

    /// The announced limit of concurrent streams, at most [`MAX_STREAMS`].
    pub(super) fn max_streams(&self) -> usize {
        self.announced.get()
    }

    /// The number of streams opened so far.
    pub(super) fn opened_streams(&self) -> u32 {
        (self.next_stream.get() - 1) / 2
    }

    /// The number of streams after which the backend sent GOAWAY(NO_ERROR), if it did while the
    /// connection was in use.
    pub(super) fn goaway_after(&self) -> Option<u32> {
        self.last_stream.get().map(|last| last.div_ceil(2))
    }

    /// Whether it takes no further requests, ever.
    pub(super) fn is_unusable(&self) -> bool {
        matches!(
            &*self.phase.borrow(),
            BackendConnectionPhase::GoingAway(_) | BackendConnectionPhase::Closed(_)
        ) || self.is_retired()
    }

    /// The number of reads that returned data so far.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.get()
    }

    /// Reports that a request has timed out, which was sent after this many arrivals. If nothing
    /// has arrived since, the connection takes no requests until something does, and a PING is sent
    /// at once: the peer may have vanished without a FIN, while other connections still work.
    pub(super) fn request_timed_out(&self, arrivals: u64) {
        if self.arrivals.get() == arrivals {
            self.is_silent.set(true);
            self.wants_ping.set(true);
            self.task.wake_by_ref();
        }
    }

    /// Whether a request has timed out and nothing has arrived since it was sent.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.get()
    }

    fn is_retired(&self) -> bool {
        self.is_retired.get() || self.next_stream.get() > LAST_STREAM
    }
}

/// For the connection task.
impl ConnectionShared {
    pub(super) fn has_settings(&self) -> bool {
        !matches!(&*self.phase.borrow(), BackendConnectionPhase::Opening)
    }

    /// Applies the backend's SETTINGS.
    pub(super) fn apply_settings(&self, peer: &BackendSettings) {
        let most = peer.max_streams.min(MAX_STREAMS);
        self.max_streams.set(most);
        self.announced.set(most);
        self.upload_credit.initial_window.set(i64::from(peer.initial_window));
        if *self.phase.borrow() == BackendConnectionPhase::Opening {
            *self.phase.borrow_mut() = BackendConnectionPhase::Open;
        }
        self.wake_opened();
        self.capacity.notify_all();
    }

    /// Records that data has arrived.
    pub(super) fn record_arrival(&self) {
        self.arrivals.set(self.arrivals.get() + 1);
        if self.is_silent.replace(false) {
            self.wants_ping.set(false);
            self.capacity.notify_all();
        }
    }

    /// Returns whether a PING is to be sent now, once.
    pub(super) fn take_ping(&self) -> bool {
        self.wants_ping.take()
    }

    /// Takes the next request to send.
    pub(super) fn take_queued(&self) -> Option<QueuedRequest> {
        self.queue.borrow_mut().pop_front()
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Whether this stream is not idle (RFC 9113, section 5.1): it has been opened or queued.
    pub(super) fn has_opened(&self, stream: u32) -> bool {
        stream % 2 == 1 && stream < self.next_stream.get()
    }

    /// Records that a stream has ended.
    pub(super) fn stream_ended(&self) {
        self.streams.set(self.streams.get() - 1);
        // After a refused stream the limit recovers by one per ended stream.
        self.max_streams.set((self.max_streams.get() + 1).min(self.announced.get()));
        self.capacity.notify_one();
    }

    /// The backend has refused a stream: lowers the limit to the streams that are open now.
    pub(super) fn stream_refused(&self) {
        self.max_streams.set(self.streams.get().clamp(1, self.announced.get().max(1)));
    }

    /// Sends no further requests here: the backend has sent ENHANCE_YOUR_CALM, or will soon.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
    }

    /// Records that a request was cancelled with RST_STREAM.
    pub(super) fn record_reset(&self) {
        if self.resets.borrow_mut().add(Instant::now()) {
            self.retire();
        }
    }

    /// Recomputes the upload credit. `window` is the connection window, `window_demand` the part of
    /// it that the open streams may use up, in octets.
    pub(super) fn update_upload_credit(&self, window: i64, window_demand: i64) {
        let UploadCredit { available, largest_window, .. } = &self.upload_credit;
        largest_window.set(largest_window.get().max(window));
        let before = available.replace(window - window_demand);
        self.queue.borrow().iter().for_each(|queued| self.upload_credit.add(queued.request.body()));
        if available.get() > before {
            self.capacity.notify_one();
        }
    }

    /// A GOAWAY was received. `last_stream` is its last stream ID if it is NO_ERROR.
    pub(super) fn receive_goaway(&self, reason: &Reason, last_stream: Option<u32>) {
        let last_stream = last_stream.filter(|&last| last < MAX_31_BITS);
        self.last_stream.set(last_stream.filter(|&last| self.has_open_up_to(last)));
        if matches!(
            &*self.phase.borrow(),
            BackendConnectionPhase::Opening | BackendConnectionPhase::Open
        ) {
            *self.phase.borrow_mut() = BackendConnectionPhase::GoingAway(reason.clone());
        }
        self.wake_opened();
    }

    /// Whether a stream up to this one is still open.
    fn has_open_up_to(&self, last: u32) -> bool {
        let above = self.opened_streams().saturating_sub(last.div_ceil(2));
        self.streams.get() > above as usize
    }

    /// Records that the connection has ended.
    pub(super) fn close(&self, reason: &Reason) {
        *self.phase.borrow_mut() = BackendConnectionPhase::Closed(reason.clone());
        self.wake_opened();
        self.capacity.notify_all();
    }

    fn wake_opened(&self) {
        if let Some(waker) = self.opened_waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl UploadCredit {
    fn add(&self, upload: &Upload) {
        if !upload.is_end_stream() {
            let need = self.need(upload.size_hint().exact());
            self.available.set(self.available.get() - need);
        }
    }

    /// What a body of this length may use of the connection window before the backend must return
    /// credit. Half of the window is not counted: servers may delay WINDOW_UPDATE that long.
    fn need(&self, length: Option<u64>) -> i64 {
        let length = length.and_then(|length| i64::try_from(length).ok()).unwrap_or(i64::MAX);
        length.min(self.initial_window.get()).min(self.largest_window.get() / 2 + 1)
    }
}
