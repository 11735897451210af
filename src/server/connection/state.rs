//! The state of a connection that its task, its requests and its shard share.
//!
//! Enforces the deadlines that hyper does not know, and carries the notices by which a shard ends
//! the task.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::server::ConnectionSettings;
use crate::server::clients::{ClientLimits, Clients, ConnectionGuard, ExceededLimit};
use crate::server::http2::{Found, KeepAlive};
use crate::server::socket_state::SocketState;
use crate::server::stream_abort;

/// In a graceful shutdown: how long a connected client may still take to send its first request,
/// which then gets its response.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// In a shortage of file descriptors: how long a connection must have been idle to be closed.
const SHORTAGE_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    /// HTTP/1.1, or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl HttpProtocol {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }
}

/// Why the gateway closed a connection before its client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// HTTP/2: too many stream errors in a short time, each of which aborted a request.
    Faults,
    /// No complete request within `first_request_timeout`.
    FirstRequest,
    /// HTTP/2: too many frames that carry nothing, such as PING, SETTINGS or empty DATA.
    Flood,
    /// HTTP/2: a header block with too many CONTINUATION frames, bytes or fields.
    Headers,
    /// HTTP/1.1: a header not complete within `header_read_timeout`. HTTP/2: a header block, or a
    /// frame other than DATA, not complete within `header_timeout`.
    HeaderTimeout,
    /// HTTP/2: no ACK of a PING within `keep_alive_timeout`.
    KeepAlive,
    /// HTTP/1.1: the client was still sending its request `lingering_close` after the response.
    Lingering,
    /// HTTP/1.1: its response had to be aborted, for which only closing the connection is left.
    Stream,
    /// HTTP/2: the client reset too many streams right after it opened them (rapid reset).
    Resets,
    /// Idle during a shortage of file descriptors.
    Shortage,
    /// Nothing could be written for `write_timeout`.
    Stalled,
    /// The gateway stopped and its drain timeout passed.
    Stopped,
    /// A TLS error after the handshake, such as too many key updates.
    Tls,
}

impl CutReason {
    pub(in crate::server) fn as_str(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::FirstRequest => "first_request_timeout",
            Self::Flood => "flood",
            Self::Headers => "headers",
            Self::HeaderTimeout => "header_timeout",
            Self::KeepAlive => "keep_alive_timeout",
            Self::Lingering => "lingering_close",
            Self::Resets => "resets",
            Self::Stream => "stream",
            Self::Shortage => "file_descriptors",
            Self::Stalled => "write_timeout",
            Self::Stopped => "stopped",
            Self::Tls => "tls",
        }
    }
}

/// The state of a connection, shared by its task, its requests and its shard's deadline checks.
#[derive(Debug)]
pub struct ConnectionState {
    pub(in crate::server) peer: SocketAddr,
    // The peer's address, or the one that the PROXY header names.
    client: Cell<IpAddr>,
    client_text: OnceCell<Box<str>>,
    is_trusted_proxy: Cell<bool>,
    // Counts it against its client's limits, if there are any.
    client_guard: RefCell<Option<ConnectionGuard>>,
    after_http: RefCell<Option<AfterHttp>>,
    is_tls: bool,
    pub(super) protocol: Cell<Option<HttpProtocol>>,
    accepted: Instant,
    has_had_request: Cell<bool>,
    running_requests: Cell<usize>,
    idle_since: Cell<Instant>,
    pub(in crate::server) keep_alive: KeepAlive,
    // A shutdown began before its first request: finishes after that request, or at this time.
    drain_due: Cell<Option<Instant>>,
    pub(in crate::server) socket: Arc<SocketState>,
    notice: Cell<Option<Notice>>,
    waker: RefCell<Option<Waker>>,
}

/// The future that uses the connection after an upgrade.
struct AfterHttp(Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for AfterHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterHttp")
    }
}

/// A request to the task of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Notice {
    /// Finish requests in progress, accept no new ones, then close.
    Drain,
    /// Close now.
    Cut(CutReason),
}

impl ConnectionState {
    /// Creates the state of a connection that was accepted at `now`.
    pub(in crate::server) fn new(peer: SocketAddr, is_tls: bool, now: Instant) -> Self {
        Self {
            peer,
            client: Cell::new(peer.ip().to_canonical()),
            client_text: OnceCell::new(),
            is_trusted_proxy: Cell::new(false),
            client_guard: RefCell::default(),
            after_http: RefCell::new(None),
            is_tls,
            protocol: Cell::new(None),
            accepted: now,
            has_had_request: Cell::new(false),
            running_requests: Cell::new(0),
            idle_since: Cell::new(now),
            keep_alive: KeepAlive::new(now),
            drain_due: Cell::new(None),
            socket: Arc::new(SocketState::new(now)),
            notice: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// The client's address: the peer's or, behind a load balancer with the PROXY protocol, the one
    /// its header names. IPv4-mapped IPv6 addresses are converted to IPv4.
    pub fn client(&self) -> IpAddr {
        self.client.get()
    }

    /// [`client`](Self::client) as text. Cached, so only for use after the PROXY header was read.
    pub fn client_text(&self) -> &str {
        self.client_text.get_or_init(|| self.client().to_string().into())
    }

    /// Sets the future that runs after HTTP has ended, for an upgrade. The connection's task owns
    /// it, and drops it when the connection is cut.
    pub fn run_after_http(&self, what: impl Future<Output = ()> + 'static) {
        *self.after_http.borrow_mut() = Some(AfterHttp(Box::pin(what)));
    }

    pub(super) async fn after_http(&self) {
        let after_http = self.after_http.take();
        if let Some(AfterHttp(what)) = after_http {
            what.await;
        }
    }

    /// Counts the connection against the limits of its client.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub(super) fn admit(
        &self,
        clients: &Clients,
        limits: &ClientLimits,
    ) -> Result<(), ExceededLimit> {
        // A proxy's connection carries many clients; only its requests tell which.
        if self.is_trusted_proxy() {
            return Ok(());
        }
        *self.client_guard.borrow_mut() =
            clients.admit_connection(self.client(), limits, Instant::now())?;
        Ok(())
    }

    /// Closes it if it is idle, to free a file descriptor. Returns whether it is.
    pub(in crate::server) fn close_if_idle(&self, now: Instant) -> bool {
        let since = if self.has_had_request.get() { self.idle_since.get() } else { self.accepted };
        let is_idle = self.running_requests.get() == 0 && now >= since + SHORTAGE_IDLE_TIMEOUT;
        if is_idle && !self.is_cut() {
            self.cut(CutReason::Shortage);
        }
        is_idle
    }

    /// Whether [`client`](Self::client) is a trusted proxy, whose forwarding headers count.
    pub fn is_trusted_proxy(&self) -> bool {
        self.is_trusted_proxy.get()
    }

    pub(super) fn set_client(&self, client: SocketAddr) {
        self.client.set(client.ip().to_canonical());
    }

    pub(super) fn update_trust(&self, settings: &ConnectionSettings) {
        self.is_trusted_proxy.set(settings.trusts(self.client.get()));
    }

    /// Whether the client connected over TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The protocol; HTTP/1 until it is known.
    pub fn protocol(&self) -> HttpProtocol {
        self.protocol.get().unwrap_or(HttpProtocol::Http1)
    }

    /// Whether the connection was cut for `write_timeout`.
    pub fn is_stalled(&self) -> bool {
        self.notice.get() == Some(Notice::Cut(CutReason::Stalled))
    }

    /// Takes the request to write something, if there is one: the client has closed its sending
    /// side, and only a write shows whether it is gone.
    pub fn take_probe_request(&self) -> bool {
        self.socket.probe.take()
    }

    /// Returns a function that aborts the request being handled, whatever it waits for: over HTTP/2
    /// it resets the stream, over HTTP/1.1 it closes the connection.
    pub fn current_request_abort(self: &Rc<Self>) -> Box<dyn Fn()> {
        if let Some(stream) = stream_abort::current() {
            return Box::new(move || stream.abort());
        }
        let connection = Rc::clone(self);
        Box::new(move || connection.cut(CutReason::Stream))
    }

    fn is_cut(&self) -> bool {
        matches!(self.notice.get(), Some(Notice::Cut(_)))
    }

    /// Starts a graceful shutdown. A client that has not sent its first request may still do so,
    /// for [`FIRST_REQUEST_GRACE`].
    pub(in crate::server) fn drain(&self, now: Instant) {
        if self.has_had_request.get() {
            self.drain_now();
        } else if self.drain_due.get().is_none() {
            self.drain_due.set(Some(now + FIRST_REQUEST_GRACE));
        }
    }

    fn drain_now(&self) {
        if self.notice.get().is_none() {
            self.notify(Notice::Drain);
        }
    }

    pub(in crate::server) fn cut(&self, reason: CutReason) {
        if !self.is_cut() {
            self.socket.options.reset_when_closed();
            self.notify(Notice::Cut(reason));
        }
    }

    /// Enforces the deadlines that hyper does not know. Returns when to check again.
    pub(in crate::server) fn enforce(
        &self,
        now: Instant,
        settings: &ConnectionSettings,
    ) -> Instant {
        // A deadline that starts after `now` cannot pass before this.
        let mut next = now + settings.least_timeout();
        if !self.has_had_request.get() {
            let due = self.accepted + settings.first_request_timeout;
            let drain_due = self.drain_due.get();
            if now >= due {
                self.cut(CutReason::FirstRequest);
            } else if drain_due.is_some_and(|due| now >= due) {
                self.drain_now();
            }
            return next.min(due).min(drain_due.unwrap_or(due));
        }
        if let Some(since) = self.socket.writes.blocked_since() {
            next = next.min(since + settings.write_timeout);
            if now >= since + settings.write_timeout {
                self.cut(CutReason::Stalled);
                return next;
            }
        }
        if self.protocol.get() == Some(HttpProtocol::Http2) {
            if self.running_requests.get() == 0 {
                let due = self.idle_since.get() + settings.idle_timeout;
                next = next.min(due);
                if now >= due {
                    self.drain(now);
                }
            }
            // While the socket is full, HTTP/2 stops reading, so a frame cannot be completed.
            let unfinished = self.keep_alive.unfinished_until(&settings.http2);
            if let Some(due) = unfinished.filter(|_| self.socket.writes.blocked_since().is_none()) {
                next = next.min(due);
                if now >= due {
                    self.cut(CutReason::HeaderTimeout);
                    return next;
                }
            }
            let (found, due) =
                self.keep_alive.round(now, self.socket.writes.last_write(), &settings.http2);
            next = next.min(due);
            match found {
                Found::Well => {}
                Found::Work => self.wake(),
                Found::Dead => self.cut(CutReason::KeepAlive),
            }
        }
        next
    }

    fn notify(&self, notice: Notice) {
        self.notice.set(Some(notice));
        self.wake();
    }

    fn wake(&self) {
        self.socket.attention.raise();
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until the notice differs from `known`.
    pub(super) async fn notice_after(&self, known: Option<Notice>) -> Option<Notice> {
        std::future::poll_fn(|cx| self.poll_notice_after(known, cx)).await
    }

    /// A body of at least `least` bytes is about to be sent: enlarges the send buffer for a large
    /// one.
    pub(in crate::server) fn expect_body(&self, least: u64, settings: &ConnectionSettings) {
        self.socket.options.expect_body(least, settings.send_buffer);
    }

    pub(in crate::server) fn notice(&self) -> Option<Notice> {
        self.notice.get()
    }

    /// Waits until the connection is cut; `known` is the last notice seen.
    pub(super) fn poll_cut(&self, known: &mut Option<Notice>, cx: &Context<'_>) -> Poll<CutReason> {
        loop {
            match ready!(self.poll_notice_after(*known, cx)) {
                Some(Notice::Cut(reason)) => return Poll::Ready(reason),
                other => *known = other,
            }
        }
    }

    pub(super) fn poll_notice_after(
        &self,
        known: Option<Notice>,
        cx: &Context<'_>,
    ) -> Poll<Option<Notice>> {
        let notice = self.notice.get();
        if notice != known {
            return Poll::Ready(notice);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(in crate::server) fn request_began(&self) {
        self.has_had_request.set(true);
        if self.drain_due.get().is_some() {
            self.drain_now();
        }
        self.running_requests.set(self.running_requests.get() + 1);
    }

    pub(in crate::server) fn request_ended(&self, now: Instant) {
        self.running_requests.set(self.running_requests.get() - 1);
        self.idle_since.set(now);
    }
}

#[cfg(test)]
mod tests;
