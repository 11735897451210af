//! The state of a connection that its task, its requests and its shard share.
//!
//! Enforces the deadlines that hyper does not know, and decides when the task is asked to end.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ssegate_http2::{KeepAliveCheck, KeepAliveState, StreamAbortHandle};
use tokio::time::Instant;

use super::activity::Activity;
use super::client::ConnectionClient;
use super::cut_reason::CutReason;
use super::notice::{Notice, NoticeSlot};
use super::protocol::HttpProtocol;
use crate::server::settings::ConnectionSettings;
use crate::server::socket_state::SocketState;

/// In a graceful shutdown: how long a connected client may still take to send its first request,
/// which then gets its response.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// In a shortage of file descriptors: how long a connection must have been idle to be closed.
const SHORTAGE_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of a connection, shared by its task, its requests and its shard's deadline checks.
#[derive(Debug)]
pub struct ConnectionState {
    pub(super) client: ConnectionClient,
    pub(super) protocol: Cell<Option<HttpProtocol>>,
    activity: Activity,
    pub(in crate::server) keep_alive: KeepAliveState,
    pub(in crate::server) socket: Arc<SocketState>,
    notice: NoticeSlot,
    // A drain began before the first request: it takes effect after that request, or at this time.
    drain_due: Cell<Option<Instant>>,
    after_http: RefCell<Option<AfterHttp>>,
}

/// The future that uses the connection after an upgrade.
struct AfterHttp(Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for AfterHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterHttp")
    }
}

impl ConnectionState {
    /// Creates the state of a connection that was accepted at `now`.
    pub(in crate::server) fn new(peer: SocketAddr, is_tls: bool, now: Instant) -> Self {
        Self {
            client: ConnectionClient::new(peer, is_tls),
            protocol: Cell::new(None),
            activity: Activity::new(now),
            keep_alive: KeepAliveState::new(now),
            socket: Arc::new(SocketState::new(now)),
            notice: NoticeSlot::default(),
            drain_due: Cell::new(None),
            after_http: RefCell::new(None),
        }
    }

    pub(in crate::server) fn peer(&self) -> SocketAddr {
        self.client.peer
    }

    /// The client's address: the peer's or, behind a load balancer with the PROXY protocol, the one
    /// its header names. IPv4-mapped IPv6 addresses are converted to IPv4.
    pub fn client(&self) -> IpAddr {
        self.client.address()
    }

    /// [`client`](Self::client) as text. Cached, so only for use after the PROXY header was read.
    pub fn client_text(&self) -> &str {
        self.client.address_text()
    }

    /// Whether [`client`](Self::client) is a trusted proxy, whose forwarding headers count.
    pub fn is_trusted_proxy(&self) -> bool {
        self.client.is_trusted_proxy()
    }

    /// Whether the client connected over TLS.
    pub fn is_tls(&self) -> bool {
        self.client.is_tls
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

    /// Sets the future that runs after HTTP has ended, for an upgrade. The connection's task owns
    /// it, and drops it when the connection is cut.
    pub fn run_after_http(&self, what: impl Future<Output = ()> + 'static) {
        *self.after_http.borrow_mut() = Some(AfterHttp(Box::pin(what)));
    }

    /// Drops the future that was to run after HTTP has ended: the protocol is not switched.
    pub fn stay_http(&self) {
        drop(self.after_http.take());
    }

    pub(super) async fn after_http(&self) {
        let after_http = self.after_http.take();
        if let Some(AfterHttp(what)) = after_http {
            what.await;
        }
    }

    /// Returns a function that aborts the request being handled, whatever it waits for: over HTTP/2
    /// it resets the stream, over HTTP/1.1 it closes the connection.
    pub fn current_request_abort(self: &Rc<Self>) -> Box<dyn Fn()> {
        if let Some(stream) = StreamAbortHandle::current() {
            return Box::new(move || stream.abort());
        }
        let connection = Rc::clone(self);
        Box::new(move || connection.cut(CutReason::Stream))
    }

    pub(in crate::server) fn request_began(&self) {
        self.activity.request_began();
        if self.drain_due.get().is_some() {
            self.drain_now();
        }
    }

    pub(in crate::server) fn request_ended(&self, now: Instant) {
        self.activity.request_ended(now);
    }

    /// Called before a body of at least `least` bytes is sent: enlarges the send buffer for a large
    /// one.
    pub(in crate::server) fn expect_body(&self, least: u64, settings: &ConnectionSettings) {
        self.socket.options.expect_body(least, settings.send_buffer);
    }

    /// Starts a graceful shutdown. A client that has not sent its first request may still do so,
    /// for [`FIRST_REQUEST_GRACE`].
    pub(in crate::server) fn drain(&self, now: Instant) {
        if self.activity.has_had_request() {
            self.drain_now();
        } else if self.drain_due.get().is_none() {
            self.drain_due.set(Some(now + FIRST_REQUEST_GRACE));
        }
    }

    fn drain_now(&self) {
        if self.notice.set(Notice::Drain) {
            self.wake();
        }
    }

    pub(in crate::server) fn cut(&self, reason: CutReason) {
        if self.notice.set(Notice::Cut(reason)) {
            self.socket.options.reset_when_closed();
            self.wake();
        }
    }

    /// Closes it if it is idle, to free a file descriptor. Returns whether it is.
    pub(in crate::server) fn close_if_idle(&self, now: Instant) -> bool {
        let since = self.activity.idle_since();
        let is_idle = since.is_some_and(|since| now >= since + SHORTAGE_IDLE_TIMEOUT);
        if is_idle {
            self.cut(CutReason::Shortage);
        }
        is_idle
    }

    /// Enforces the deadlines that hyper does not know. Returns when to check again.
    pub(in crate::server) fn enforce(
        &self,
        now: Instant,
        settings: &ConnectionSettings,
    ) -> Instant {
        // A deadline that starts after `now` cannot pass before this.
        let next = now + settings.least_timeout();
        if !self.activity.has_had_request() {
            return next.min(self.enforce_first_request(now, settings));
        }
        let write_due =
            self.socket.writes.blocked_since().map(|since| since + settings.write_timeout);
        let next = write_due.map_or(next, |due| next.min(due));
        if write_due.is_some_and(|due| now >= due) {
            self.cut(CutReason::Stalled);
        } else if self.protocol.get() == Some(HttpProtocol::Http2) {
            return next.min(self.enforce_http2(now, settings));
        }
        next
    }

    fn enforce_first_request(&self, now: Instant, settings: &ConnectionSettings) -> Instant {
        let due = self.activity.accepted() + settings.first_request_timeout;
        let drain_due = self.drain_due.get();
        if now >= due {
            self.cut(CutReason::FirstRequest);
        } else if drain_due.is_some_and(|due| now >= due) {
            self.drain_now();
        }
        drain_due.map_or(due, |drain_due| due.min(drain_due))
    }

    fn enforce_http2(&self, now: Instant, settings: &ConnectionSettings) -> Instant {
        let idle_due = self.activity.idle_since().map(|since| since + settings.idle_timeout);
        if idle_due.is_some_and(|due| now >= due) {
            self.drain(now);
        }
        // While the socket is full, HTTP/2 stops reading, so a frame cannot be completed.
        let is_reading = self.socket.writes.blocked_since().is_none();
        let frame_due = self.keep_alive.unfinished_until(&settings.http2);
        let frame_due = frame_due.filter(|_| is_reading);
        if frame_due.is_some_and(|due| now >= due) {
            self.cut(CutReason::HeaderTimeout);
            return now;
        }
        let last_write = self.socket.writes.last_write();
        let (found, due) = self.keep_alive.check(now, last_write, &settings.http2);
        match found {
            KeepAliveCheck::Idle => {}
            KeepAliveCheck::Wake => self.wake(),
            KeepAliveCheck::Dead => self.cut(CutReason::KeepAlive),
        }
        due.min(idle_due.unwrap_or(due)).min(frame_due.unwrap_or(due))
    }

    fn wake(&self) {
        self.socket.attention.raise();
        self.notice.wake_task();
    }

    pub(in crate::server) fn notice(&self) -> Option<Notice> {
        self.notice.get()
    }

    /// Waits until the notice differs from `last_seen`.
    pub(super) async fn notice_after(&self, last_seen: Option<Notice>) -> Option<Notice> {
        std::future::poll_fn(|cx| self.poll_notice_after(last_seen, cx)).await
    }

    pub(super) fn poll_notice_after(
        &self,
        last_seen: Option<Notice>,
        cx: &Context<'_>,
    ) -> Poll<Option<Notice>> {
        self.notice.poll_after(last_seen, cx)
    }

    /// Waits until the connection is cut; `last_seen` is the last notice seen.
    pub(super) fn poll_cut(
        &self,
        last_seen: &mut Option<Notice>,
        cx: &Context<'_>,
    ) -> Poll<CutReason> {
        loop {
            match ready!(self.poll_notice_after(*last_seen, cx)) {
                Some(Notice::Cut(reason)) => return Poll::Ready(reason),
                other => *last_seen = other,
            }
        }
    }
}

#[cfg(test)]
mod tests;
