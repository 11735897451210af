//! What the task of a connection shares with those who send requests on it.
//!
//! It counts the streams against what the backend allows, and the uploads against the window of the
//! connection, so that a request is sent where nothing holds it up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::Request;
use http_body::Body as _;
use tokio::time::Instant;

use super::reason::{Lost, Reason};
use super::resets::Resets;
use super::response::{Exchange, Feed, channel};
use super::settings::PeerSettings;
use crate::proxy::room::Room;
use crate::proxy::upload::Upload;
use crate::server::http2::frame::MAX_31_BITS;
use crate::server::http2::wake_queue::{ConnectionPart, WakeQueue};

/// Streams on one connection, whatever the backend allows: what RFC 9113, section 6.5.2, wants every
/// server to take.
const MAX_STREAMS: usize = 100;
/// Behind this number a connection opens no stream: they end at 2^31 (RFC 9113, section 5.1.1).
const LAST_STREAM: u32 = (1 << 31) - 1_000;
/// The connection itself, among the streams that can be woken.
const CONNECTION: u32 = 0;

/// The state of one connection, as its users see it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) wakes: Arc<WakeQueue>,
    // Notified when a request that waits may find room, here or elsewhere.
    room: Rc<Room>,
    queue: RefCell<VecDeque<Queued>>,
    phase: RefCell<Phase>,
    next_stream: Cell<u32>,
    // Streams that have not ended, queued ones included.
    streams: Cell<usize>,
    // How many there may be now, and how many the backend has announced.
    max_streams: Cell<usize>,
    announced: Cell<usize>,
    resets: RefCell<Resets>,
    // It takes no more requests, though the backend has not said so.
    is_worn_out: Cell<bool>,
    // How often something has arrived.
    arrivals: Cell<u64>,
    // A request has timed out on it, and nothing has arrived since that was sent.
    is_silent: Cell<bool>,
    // A PING is to be sent to find out.
    wants_ping: Cell<bool>,
    uploads: Uploads,
    // The last stream of an orderly GOAWAY that came while the connection was in use: an idle one is
    // ended because it is idle, which says nothing of how many requests it takes.
    last_stream: Cell<Option<u32>>,
    opening: RefCell<Option<Waker>>,
    task: Waker,
    stream_window: u32,
}

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The backend has not sent its SETTINGS.
    Opening,
    Open,
    /// The backend takes no more requests; its streams go on.
    Leaving(Reason),
    Closed(Reason),
}

/// The bodies of requests that have not been sent to their end, and what is left for them of the
/// connection's window. A backend that does not read one of them does not credit it, and the others
/// have that much less: the whole window, perhaps, of a backend that grants a connection as much as a
/// stream.
#[derive(Debug, Default)]
struct Uploads {
    // Octets of the window that none of them can take.
    credit: Cell<i64>,
    // The largest window that the connection had, and the first of each stream, in octets.
    largest_window: Cell<i64>,
    initial_window: Cell<i64>,
}

/// A request that the task has not begun to send.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) stream: u32,
    pub(super) request: Request<Upload>,
    pub(super) feed: Feed,
    pub(super) waker: Waker,
}

impl Link {
    /// A connection that opens. `room` grows whenever one of its streams ends, or an upload on it goes on.
    pub(super) fn new(room: Rc<Room>, stream_window: u32) -> Self {
        let wakes = Arc::new(WakeQueue::default());
        Self {
            task: wakes.waker(ConnectionPart::Stream(CONNECTION)),
            wakes,
            room,
            queue: RefCell::default(),
            phase: RefCell::new(Phase::Opening),
            next_stream: Cell::new(1),
            streams: Cell::new(0),
            max_streams: Cell::new(0),
            announced: Cell::new(0),
            resets: RefCell::default(),
            is_worn_out: Cell::new(false),
            arrivals: Cell::new(0),
            is_silent: Cell::new(false),
            wants_ping: Cell::new(false),
            uploads: Uploads::default(),
            last_stream: Cell::new(None),
            opening: RefCell::default(),
            stream_window,
        }
    }

    /// Waits until the backend has sent its SETTINGS, and takes a stream.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<Result<(), Reason>> {
        match &*self.phase.borrow() {
            Phase::Open if self.max_streams.get() > 0 => return Poll::Ready(Ok(())),
            Phase::Opening | Phase::Open => {}
            Phase::Leaving(reason) | Phase::Closed(reason) => {
                return Poll::Ready(Err(reason.clone()));
            }
        }
        *self.opening.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Queues a request, as a stream of its own.
    pub(super) fn send(&self, request: Request<Upload>) -> Exchange {
        let stream = self.next_stream.get();
        let waker = self.wakes.waker(ConnectionPart::Stream(stream));
        let (feed, exchange) = channel(waker.clone(), self.stream_window);
        if let Phase::Leaving(reason) | Phase::Closed(reason) = &*self.phase.borrow() {
            feed.lose(Lost { reason: reason.clone(), is_unprocessed: true, request });
            return exchange;
        }
        self.next_stream.set(stream + 2);
        self.streams.set(self.streams.get() + 1);
        self.uploads.add(request.body());
        self.queue.borrow_mut().push_back(Queued { stream, request, feed, waker });
        self.task.wake_by_ref();
        exchange
    }

    /// How many requests can be sent now.
    pub(super) fn room(&self) -> usize {
        let is_open = *self.phase.borrow() == Phase::Open;
        if is_open && !self.is_worn_out() && !self.is_silent() {
            self.max_streams.get().saturating_sub(self.streams.get())
        } else {
            0
        }
    }

    /// Whether a body of this length, `None` where it is not known, can be sent even if the backend
    /// reads no other.
    pub(super) fn takes_upload(&self, length: Option<u64>) -> bool {
        self.uploads.credit.get() >= self.uploads.need(length)
    }

    /// Streams that have not ended.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Streams that the backend takes at the same time, as far as we use them.
    pub(super) fn max_streams(&self) -> usize {
        self.announced.get()
    }

    /// Streams that were opened so far.
    pub(super) fn opened(&self) -> u32 {
        (self.next_stream.get() - 1) / 2
    }

    /// After how many streams the backend has ended it in an orderly way while it was in use.
    pub(super) fn ended_after(&self) -> Option<u32> {
        self.last_stream.get().map(|last| last.div_ceil(2))
    }

    /// Whether it will take no more requests, whatever ends.
    pub(super) fn is_over(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Leaving(_) | Phase::Closed(_)) || self.is_worn_out()
    }

    /// How often something has arrived.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.get()
    }

    /// A request has timed out that was sent after this many arrivals. If nothing has arrived since,
    /// the connection is given no more requests until something does, and the backend is sent a PING
    /// at once: it may be gone without a word, and other connections to it may be fine.
    pub(super) fn timed_out(&self, arrivals: u64) {
        if self.arrivals.get() == arrivals {
            self.is_silent.set(true);
            self.wants_ping.set(true);
            self.task.wake_by_ref();
        }
    }

    /// Whether a request has timed out, and nothing has arrived since.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.get()
    }

    fn is_worn_out(&self) -> bool {
        self.is_worn_out.get() || self.next_stream.get() > LAST_STREAM
    }
}

/// What the task does.
impl Link {
    pub(super) fn is_open(&self) -> bool {
        !matches!(&*self.phase.borrow(), Phase::Opening)
    }

    /// The backend has announced its settings.
    pub(super) fn configured(&self, peer: &PeerSettings) {
        let most = peer.max_streams.min(MAX_STREAMS);
        self.max_streams.set(most);
        self.announced.set(most);
        self.uploads.initial_window.set(i64::from(peer.initial_window));
        if *self.phase.borrow() == Phase::Opening {
            *self.phase.borrow_mut() = Phase::Open;
        }
        self.wake_opening();
        self.room.changed();
    }

    /// Something has arrived.
    pub(super) fn arrived(&self) {
        self.arrivals.set(self.arrivals.get() + 1);
        if self.is_silent.replace(false) {
            self.wants_ping.set(false);
            self.room.changed();
        }
    }

    /// Whether a PING is to be sent now.
    pub(super) fn take_ping(&self) -> bool {
        self.wants_ping.take()
    }

    /// The next request to send.
    pub(super) fn take_queued(&self) -> Option<Queued> {
        self.queue.borrow_mut().pop_front()
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Whether the backend knows, or may know, a stream of this number.
    pub(super) fn has_opened(&self, stream: u32) -> bool {
        stream % 2 == 1 && stream < self.next_stream.get()
    }

    /// A stream has ended.
    pub(super) fn ended(&self) {
        self.streams.set(self.streams.get() - 1);
        // One more at a time, after the backend has refused one.
        self.max_streams.set((self.max_streams.get() + 1).min(self.announced.get()));
        self.room.grew();
    }

    /// The backend has refused a stream, which has ended: it takes no more than it has.
    pub(super) fn refused(&self) {
        self.max_streams.set(self.streams.get().clamp(1, self.announced.get().max(1)));
    }

    /// The backend asks for calm, or will soon: no further request is sent here.
    pub(super) fn wear_out(&self) {
        self.is_worn_out.set(true);
    }

    /// A request was taken back.
    pub(super) fn reset(&self) {
        if self.resets.borrow_mut().are_too_many(Instant::now()) {
            self.wear_out();
        }
    }

    /// `window` is that of the connection now, and `draw` what the uploads that have begun can take of
    /// it, in octets.
    pub(super) fn update_uploads(&self, window: i64, draw: i64) {
        let Uploads { credit, largest_window, .. } = &self.uploads;
        largest_window.set(largest_window.get().max(window));
        let before = credit.replace(window - draw);
        self.queue.borrow().iter().for_each(|queued| self.uploads.add(queued.request.body()));
        if credit.get() > before {
            self.room.grew();
        }
    }

    /// The backend takes no more requests. `last_stream` is the last one that it processes, where it
    /// ends the connection in an orderly way.
    pub(super) fn leave(&self, reason: &Reason, last_stream: Option<u32>) {
        let last_stream = last_stream.filter(|&last| last < MAX_31_BITS);
        self.last_stream.set(last_stream.filter(|&last| self.is_busy_up_to(last)));
        if matches!(&*self.phase.borrow(), Phase::Opening | Phase::Open) {
            *self.phase.borrow_mut() = Phase::Leaving(reason.clone());
        }
        self.wake_opening();
    }

    /// Whether a stream has not ended that the backend processes, if this is the last one.
    fn is_busy_up_to(&self, last: u32) -> bool {
        let behind = self.opened().saturating_sub(last.div_ceil(2));
        self.streams.get() > behind as usize
    }

    /// The connection has ended.
    pub(super) fn close(&self, reason: &Reason) {
        *self.phase.borrow_mut() = Phase::Closed(reason.clone());
        self.wake_opening();
        self.room.changed();
    }

    fn wake_opening(&self) {
        if let Some(opening) = self.opening.borrow_mut().take() {
            opening.wake();
        }
    }
}

impl Uploads {
    fn add(&self, upload: &Upload) {
        if !upload.is_end_stream() {
            let need = self.need(upload.size_hint().exact());
            self.credit.set(self.credit.get() - need);
        }
    }

    /// What a body of this length takes of the connection's window until its backend must have
    /// credited some of it. Half of the window is left out of it: that much may be credited late.
    fn need(&self, length: Option<u64>) -> i64 {
        let length = length.and_then(|length| i64::try_from(length).ok()).unwrap_or(i64::MAX);
        length.min(self.initial_window.get()).min(self.largest_window.get() / 2 + 1)
    }
}
