//! What is known of a connection, and what its task is told from outside.

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
use crate::server::clients::{ClientLimits, Clients, ConnectionPlace, TooMuch};
use crate::server::http2::{Found, KeepAlive};
use crate::server::switch;
use crate::server::transport::{LARGE_BODY, Progress};

/// A client that had connected before the gateway began to leave has so long to send its first
/// request, and is still answered.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// When file descriptors run out, a connection that nobody has used for so long gives way.
const GIVE_WAY_AFTER: Duration = Duration::from_secs(1);

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The word in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }
}

/// Why the gateway cut a connection off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// Too many faults on streams of HTTP/2 in a short time, which made us give up their requests.
    Faults,
    /// No complete request within `first_request_timeout`.
    FirstRequest,
    /// Too many frames of HTTP/2 that ask for nothing.
    Flood,
    /// A header block of HTTP/2 that goes on and on.
    Headers,
    /// A header of HTTP/1.1 that was begun and not ended within `header_read_timeout`; over HTTP/2 a
    /// header block, or a frame other than DATA, within `header_timeout`.
    HeaderTimeout,
    /// No answer to a PING of HTTP/2.
    KeepAlive,
    /// The client went on sending a request that had been answered.
    Lingering,
    /// The client's header of the PROXY protocol is missing or malformed.
    ProxyProtocol,
    /// A stream on it is to end now, and HTTP/1.1 has no other way.
    Stream,
    /// The client took too many requests back as soon as they had begun.
    Resets,
    /// File descriptors run out, and nobody used it.
    Shortage,
    /// Nothing could be written for `write_timeout`.
    Stalled,
    /// The gateway stops, and the time for a good order is over.
    Stopped,
    /// A fault in TLS behind the handshake, such as keys that are changed again and again.
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
            Self::ProxyProtocol => "proxy_protocol",
            Self::Resets => "resets",
            Self::Stream => "stream",
            Self::Shortage => "file_descriptors",
            Self::Stalled => "write_timeout",
            Self::Stopped => "stopped",
            Self::Tls => "tls",
        }
    }
}

/// What is known of a connection, shared by its task, its requests and the rounds of its shard.
#[derive(Debug)]
pub struct ConnectionState {
    pub(in crate::server) peer: SocketAddr,
    // Whom the peer speaks for, where the PROXY protocol says so.
    client: Cell<IpAddr>,
    client_text: OnceCell<Box<str>>,
    is_trusted_proxy: Cell<bool>,
    // Among those of its client, where they are counted.
    place: RefCell<Option<ConnectionPlace>>,
    after_http: RefCell<Option<AfterHttp>>,
    is_tls: bool,
    pub(super) protocol: Cell<Option<Protocol>>,
    accepted: Instant,
    has_had_request: Cell<bool>,
    running_requests: Cell<usize>,
    idle_since: Cell<Instant>,
    pub(in crate::server) keep_alive: KeepAlive,
    // Told to finish, but only after its first request, or when it is then.
    finish_due: Cell<Option<Instant>>,
    pub(in crate::server) progress: Arc<Progress>,
    notice: Cell<Option<Notice>>,
    // For large bodies, on the way to the client.
    has_more_room: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What goes on when HTTP is over.
struct AfterHttp(Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for AfterHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterHttp")
    }
}

/// What the task of a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Notice {
    /// Finish what runs, and begin nothing new.
    Finish,
    /// End now.
    Cut(CutReason),
}

impl ConnectionState {
    pub(in crate::server) fn new(peer: SocketAddr, is_tls: bool) -> Self {
        let now = Instant::now();
        Self {
            peer,
            client: Cell::new(peer.ip().to_canonical()),
            client_text: OnceCell::new(),
            is_trusted_proxy: Cell::new(false),
            place: RefCell::default(),
            after_http: RefCell::new(None),
            is_tls,
            protocol: Cell::new(None),
            accepted: now,
            has_had_request: Cell::new(false),
            running_requests: Cell::new(0),
            idle_since: Cell::new(now),
            keep_alive: KeepAlive::new(now),
            finish_due: Cell::new(None),
            progress: Arc::new(Progress::new(now)),
            notice: Cell::new(None),
            has_more_room: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// The other end: of the connection, or, behind a load balancer that speaks the PROXY protocol,
    /// of the balancer's. An IPv4 address that came as IPv6 is IPv4 here.
    pub fn client(&self) -> IpAddr {
        self.client.get()
    }

    /// [`client`](Self::client) as text. Written once: not before the first request, when it is known.
    pub fn client_text(&self) -> &str {
        self.client_text.get_or_init(|| self.client().to_string().into())
    }

    /// What goes on on the connection when HTTP is over, after an upgrade. The connection owns it, and
    /// ends it when it is cut.
    pub fn go_on_with(&self, what: impl Future<Output = ()> + 'static) {
        *self.after_http.borrow_mut() = Some(AfterHttp(Box::pin(what)));
    }

    pub(super) async fn after_http(&self) {
        let after_http = self.after_http.take();
        if let Some(AfterHttp(what)) = after_http {
            what.await;
        }
    }

    /// Counts it among those of its client.
    ///
    /// # Errors
    /// What the client has too much of.
    pub(super) fn enter(&self, clients: &Clients, limits: &ClientLimits) -> Result<(), TooMuch> {
        // Whom a proxy speaks for is known of its requests only.
        if self.is_trusted_proxy() {
            return Ok(());
        }
        *self.place.borrow_mut() = clients.connect(self.client(), limits, Instant::now())?;
        Ok(())
    }

    /// Ends it if nobody uses it: file descriptors run out.
    pub(in crate::server) fn give_way(&self, now: Instant) -> bool {
        let since = if self.has_had_request.get() { self.idle_since.get() } else { self.accepted };
        let is_idle = self.running_requests.get() == 0 && now >= since + GIVE_WAY_AFTER;
        if is_idle && !self.is_cut() {
            self.cut(CutReason::Shortage);
        }
        is_idle
    }

    /// Whether [`client`](Self::client) is a proxy that is believed when it says where a request
    /// comes from.
    pub fn is_trusted_proxy(&self) -> bool {
        self.is_trusted_proxy.get()
    }

    pub(super) fn speaks_for(&self, client: SocketAddr) {
        self.client.set(client.ip().to_canonical());
    }

    pub(super) fn judge(&self, settings: &ConnectionSettings) {
        self.is_trusted_proxy.set(settings.trusts(self.client.get()));
    }

    /// Whether the client speaks TLS to us.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What is spoken; HTTP/1 before that is known.
    pub fn protocol(&self) -> Protocol {
        self.protocol.get().unwrap_or(Protocol::Http1)
    }

    /// Whether the connection is cut because nothing could be written.
    pub fn is_stalled(&self) -> bool {
        self.notice.get() == Some(Notice::Cut(CutReason::Stalled))
    }

    /// Whether something is to be written now, if anything can: the client has closed its sending side,
    /// and may have left. Said once.
    pub fn takes_probe(&self) -> bool {
        self.progress.takes_probe()
    }

    /// A way to end the request that is being handled, from outside, whatever it waits for: over
    /// HTTP/2 its stream is reset, over HTTP/1.1 the connection ends.
    pub fn cut_for_current_request(self: &Rc<Self>) -> Box<dyn Fn()> {
        if let Some(stream) = switch::current() {
            return Box::new(move || stream.cut());
        }
        let connection = Rc::clone(self);
        Box::new(move || connection.cut(CutReason::Stream))
    }

    fn is_cut(&self) -> bool {
        matches!(self.notice.get(), Some(Notice::Cut(_)))
    }

    /// Lets what runs on it finish, and nothing new begin; its first request still may.
    pub(in crate::server) fn finish(&self) {
        if self.has_had_request.get() {
            self.finish_now();
        } else if self.finish_due.get().is_none() {
            self.finish_due.set(Some(Instant::now() + FIRST_REQUEST_GRACE));
        }
    }

    fn finish_now(&self) {
        if self.notice.get().is_none() {
            self.notify(Notice::Finish);
        }
    }

    pub(in crate::server) fn cut(&self, reason: CutReason) {
        if !self.is_cut() {
            self.progress.reset_when_closed();
            self.notify(Notice::Cut(reason));
        }
    }

    /// Enforces the deadlines that hyper does not know. Gives the time by which it is to be looked at
    /// again.
    pub(in crate::server) fn enforce(
        &self,
        now: Instant,
        settings: &ConnectionSettings,
    ) -> Instant {
        // What begins after now takes as long.
        let mut next = now + settings.least_timeout();
        if !self.has_had_request.get() {
            let due = self.accepted + settings.first_request_timeout;
            let finish_due = self.finish_due.get();
            if now >= due {
                self.cut(CutReason::FirstRequest);
            } else if finish_due.is_some_and(|due| now >= due) {
                self.finish_now();
            }
            return next.min(due).min(finish_due.unwrap_or(due));
        }
        if let Some(since) = self.progress.blocked_since() {
            next = next.min(since + settings.write_timeout);
            if now >= since + settings.write_timeout {
                self.cut(CutReason::Stalled);
                return next;
            }
        }
        if self.protocol.get() == Some(Protocol::Http2) {
            if self.running_requests.get() == 0 {
                let due = self.idle_since.get() + settings.idle_timeout;
                next = next.min(due);
                if now >= due {
                    self.finish();
                }
            }
            // While the socket is full, nothing may be read, and no frame can end.
            let unfinished = self.keep_alive.unfinished_until(&settings.http2);
            if let Some(due) = unfinished.filter(|_| self.progress.blocked_since().is_none()) {
                next = next.min(due);
                if now >= due {
                    self.cut(CutReason::HeaderTimeout);
                    return next;
                }
            }
            let (found, due) = self.keep_alive.round(now, self.progress.written(), &settings.http2);
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
        self.progress.call();
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until the notice is another than `known`.
    pub(super) async fn notice_after(&self, known: Option<Notice>) -> Option<Notice> {
        std::future::poll_fn(|cx| self.poll_notice_after(known, cx)).await
    }

    /// A body of at least so many bytes is about to be sent.
    pub(in crate::server) fn sends(&self, least: u64, settings: &ConnectionSettings) {
        if least >= LARGE_BODY && !self.has_more_room.replace(true) {
            self.progress.make_room(settings.send_buffer);
        }
    }

    pub(in crate::server) fn notice(&self) -> Option<Notice> {
        self.notice.get()
    }

    /// Waits until the connection is cut; `known` is the notice that was seen last.
    pub(super) fn poll_cut_off(
        &self,
        known: &mut Option<Notice>,
        cx: &Context<'_>,
    ) -> Poll<CutReason> {
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
        if self.finish_due.get().is_some() {
            self.finish_now();
        }
        self.running_requests.set(self.running_requests.get() + 1);
    }

    pub(in crate::server) fn request_ended(&self, now: Instant) {
        self.running_requests.set(self.running_requests.get() - 1);
        self.idle_since.set(now);
    }
}
