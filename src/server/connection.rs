//! One connection, from accept to its end.
//!
//! One task for each: TLS where the listener has it, then HTTP/1.1 or HTTP/2 by hyper, until the
//! client is done, the gateway leaves, or a deadline of ours ends it. What requests mean is the
//! [`Handler`]'s affair.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::ConnectionSettings;
use super::carrier::{Carrier, Frames, Handover, Offer};
use super::listener::Listener;
use super::running::{Resets, RunningBody, RunningRequest};
use super::severable::{self, StreamExecutor};
use super::shard_server::ShardServer;
use super::tls::Tls;
use super::transport::{Progress, Transport, Watched};
use crate::metrics::Metrics;

/// The client's side of HTTP/2 begins with these bytes (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Any error of a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Answers requests.
pub trait Handler: Clone + 'static {
    /// The body of its responses.
    type Body: Body<Data = Bytes, Error = BodyError> + Frames + 'static;

    /// Answers one request. Total: a failure is a response too.
    fn handle(
        &self,
        request: Request<Incoming>,
        connection: Rc<ConnectionState>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;
}

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
    /// No complete request within `first_request_timeout`.
    FirstRequest,
    /// A stream on it is to end now, and HTTP/1.1 has no other way.
    Stream,
    /// The client took too many requests back as soon as they had begun.
    Resets,
    /// Nothing could be written for `write_timeout`.
    Stalled,
    /// The gateway stops, and the time for a good order is over.
    Stopped,
}

impl CutReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::FirstRequest => "first_request_timeout",
            Self::Resets => "resets",
            Self::Stream => "stream",
            Self::Stalled => "write_timeout",
            Self::Stopped => "stopped",
        }
    }
}

/// What is known of a connection, shared by its task, its requests and the rounds of its shard.
#[derive(Debug)]
pub struct ConnectionState {
    peer: SocketAddr,
    is_tls: bool,
    protocol: Cell<Option<Protocol>>,
    accepted: Instant,
    has_had_request: Cell<bool>,
    running_requests: Cell<usize>,
    idle_since: Cell<Instant>,
    resets: Resets,
    progress: Arc<Progress>,
    notice: Cell<Option<Notice>>,
    waker: RefCell<Option<Waker>>,
}

/// What the task of a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// Finish what runs, and begin nothing new.
    Finish,
    /// End now.
    Cut(CutReason),
}

impl ConnectionState {
    pub(super) fn new(peer: SocketAddr, is_tls: bool) -> Self {
        let now = Instant::now();
        Self {
            peer,
            is_tls,
            protocol: Cell::new(None),
            accepted: now,
            has_had_request: Cell::new(false),
            running_requests: Cell::new(0),
            idle_since: Cell::new(now),
            resets: Resets::new(now),
            progress: Arc::new(Progress::new(now)),
            notice: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
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

    /// A way to end the request that is being handled, from outside, whatever it waits for: over
    /// HTTP/2 its stream is reset, over HTTP/1.1 the connection ends.
    pub fn cut_for_current_request(self: &Rc<Self>) -> Box<dyn Fn()> {
        if let Some(stream) = severable::current() {
            return Box::new(move || stream.cut());
        }
        let connection = Rc::clone(self);
        Box::new(move || connection.cut(CutReason::Stream))
    }

    fn is_cut(&self) -> bool {
        matches!(self.notice.get(), Some(Notice::Cut(_)))
    }

    pub(super) fn finish(&self) {
        if self.notice.get().is_none() {
            self.notify(Notice::Finish);
        }
    }

    pub(super) fn cut(&self, reason: CutReason) {
        if !self.is_cut() {
            self.progress.reset_when_closed();
            self.notify(Notice::Cut(reason));
        }
    }

    /// Looks after the deadlines that hyper does not know.
    pub(super) fn enforce(&self, now: Instant, settings: &ConnectionSettings) {
        if self.resets.exhausted().is_some_and(|since| now >= since + RESETS_GRACE) {
            self.cut(CutReason::Resets);
        } else if !self.has_had_request.get() {
            if now >= self.accepted + settings.first_request_timeout {
                self.cut(CutReason::FirstRequest);
            }
        } else if self.progress.blocked_since().is_some_and(|s| now >= s + settings.write_timeout) {
            self.cut(CutReason::Stalled);
        } else if self.protocol.get() == Some(Protocol::Http2)
            && self.running_requests.get() == 0
            && now >= self.idle_since.get() + settings.idle_timeout
        {
            self.finish();
        }
    }

    fn notify(&self, notice: Notice) {
        self.notice.set(Some(notice));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until the notice is another than `known`.
    async fn notice_after(&self, known: Option<Notice>) -> Option<Notice> {
        std::future::poll_fn(|cx| self.poll_notice_after(known, cx)).await
    }

    fn poll_notice_after(&self, known: Option<Notice>, cx: &Context<'_>) -> Poll<Option<Notice>> {
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

    pub(super) fn request_began(&self) {
        self.has_had_request.set(true);
        self.running_requests.set(self.running_requests.get() + 1);
    }

    pub(super) fn request_ended(&self, now: Instant) {
        self.running_requests.set(self.running_requests.get() - 1);
        self.idle_since.set(now);
    }

    /// The client did not wait for the response that it had just asked for.
    pub(super) fn request_taken_back(&self, now: Instant) {
        if self.resets.note(now) {
            tracing::debug!(peer = %self.peer, "too many requests were taken back");
            self.finish();
        }
    }
}

/// Serves one connection. Owned by its shard; ends with the connection, or when it only carries a
/// stream any more: then a smaller task goes on. `place` is given back at its end.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    listener: Rc<Listener>,
    shard: ShardServer<H>,
    state: Rc<ConnectionState>,
    place: impl Sized + 'static,
) {
    let watched = Watched::new(stream, Arc::clone(&state.progress));
    let ended = {
        let speaking = pin!(speak(watched, &listener, &shard, &state));
        tokio::select! {
            result = speaking => result,
            reason = cut_off(&state) => {
                shard.metrics().connection_cut(reason.as_str());
                Ok(None)
            }
        }
    };
    match ended {
        Ok(None) => {}
        Ok(Some((carrier, open))) => {
            // Its owner is the shard, which ends it through its state.
            drop(tokio::task::spawn_local(carry(
                carrier,
                state,
                shard.metrics().clone(),
                (place, open),
            )));
        }
        Err(error) => tracing::debug!(peer = %state.peer, %error, "connection failed"),
    }
}

/// Carries a stream to its end; the places that the connection holds are given back then.
async fn carry<B: Frames>(
    carrier: Carrier<B>,
    state: Rc<ConnectionState>,
    metrics: Metrics,
    places: impl Sized,
) {
    tokio::select! {
        ended = carrier.carry() => {
            if let Err(error) = ended {
                tracing::debug!(peer = %state.peer, %error, "stream failed");
            }
        }
        reason = cut_off(&state) => metrics.connection_cut(reason.as_str()),
    }
    drop(places);
}

async fn cut_off(state: &ConnectionState) -> CutReason {
    let mut known = None;
    loop {
        match state.notice_after(known).await {
            Some(Notice::Cut(reason)) => return reason,
            other => known = other,
        }
    }
}

async fn speak<H: Handler>(
    watched: Watched,
    listener: &Listener,
    shard: &ShardServer<H>,
    state: &Rc<ConnectionState>,
) -> Result<Option<(Carrier<H::Body>, impl Drop + use<H>)>, BodyError> {
    let (transport, protocol) = tokio::select! {
        // Boxed: the room for a handshake is given back after it.
        greeted = Box::pin(greet(watched, listener, shard)) => greeted?,
        // We are leaving: who has asked for nothing yet is not waited for.
        _ = state.notice_after(None) => return Ok(None),
    };
    state.protocol.set(Some(protocol));
    let open = shard.speaks(protocol);
    let carrier = match protocol {
        Protocol::Http1 => speak_http1(transport, shard, state).await?,
        Protocol::Http2 => {
            speak_http2(transport, shard, state).await?;
            None
        }
    };
    Ok(carrier.map(|carrier| (carrier, open)))
}

/// Finds out what the client speaks, through TLS where the listener has it.
async fn greet<H: Handler>(
    mut watched: Watched,
    listener: &Listener,
    shard: &ShardServer<H>,
) -> Result<(Transport, Protocol), BodyError> {
    let Some(tls) = &listener.tls else {
        let protocol = sniff(&mut watched).await?;
        return Ok((Transport::Plain(watched), protocol));
    };
    let stream = handshake(watched, tls, shard).await.inspect_err(|error| {
        shard.metrics().handshake_failed(handshake_failure(error));
    })?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let protocol = if is_h2 { Protocol::Http2 } else { Protocol::Http1 };
    Ok((Transport::Tls(Box::new(stream)), protocol))
}

/// Answers the client's greeting when its turn has come, and then waits without a place: who says
/// nothing, or stops half-way, keeps nobody waiting.
async fn handshake<H: Handler>(
    watched: Watched,
    tls: &Tls,
    shard: &ShardServer<H>,
) -> io::Result<TlsStream<Watched>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), watched).await?;
    let mut stream = {
        let _permit = shard.handshake_permit().await;
        // The keys are computed and the certificate is signed in here, without a pause.
        let mut stream = hello.into_stream(Arc::clone(&tls.config));
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll(cx))).await;
        tokio::task::yield_now().await;
        match first {
            Poll::Ready(done) => return done,
            Poll::Pending => stream,
        }
    };
    (&mut stream).await
}

/// Reads just so far that HTTP/2 by prior knowledge (RFC 9113, section 3.3) is told from HTTP/1.1.
async fn sniff(watched: &mut Watched) -> io::Result<Protocol> {
    let mut seen = BytesMut::with_capacity(PREFACE.len());
    while PREFACE.starts_with(&seen) && seen.len() < PREFACE.len() {
        let mut rest = (&mut *watched).take((PREFACE.len() - seen.len()) as u64);
        if rest.read_buf(&mut seen).await? == 0 {
            break;
        }
    }
    let is_preface = seen[..] == PREFACE[..];
    watched.unread(seen.freeze());
    Ok(if is_preface { Protocol::Http2 } else { Protocol::Http1 })
}

/// Answers requests until the client is done, the gateway leaves, or a response is a stream: that
/// is taken out of hyper's hands.
async fn speak_http1<H: Handler>(
    transport: Transport,
    shard: &ShardServer<H>,
    state: &Rc<ConnectionState>,
) -> Result<Option<Carrier<H::Body>>, BodyError> {
    let settings = &shard.settings().http1;
    let handover = Handover::new();
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_read_timeout)
        .max_header_size(settings.max_header_bytes)
        .max_buf_size(settings.max_buffer_bytes)
        .serve_connection(TokioIo::new(transport), service(shard, state, Some(handover.clone())))
        .with_upgrades();
    let mut is_finishing = false;
    let ended = std::future::poll_fn(|cx| {
        if !is_finishing && state.poll_notice_after(None, cx).is_ready() {
            is_finishing = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Some(ended));
        }
        // hyper has written all that came before, unless the socket is full: then not yet.
        if handover.is_offered() && state.progress.blocked_since().is_none() {
            return Poll::Ready(None);
        }
        Poll::Pending
    });
    if let Some(ended) = ended.await {
        return Ok(ended.map(|()| None)?);
    }
    let parts = connection.into_parts();
    let offered = parts.zip(handover.take());
    Ok(offered.map(|(parts, offer)| Carrier::new(parts.io.into_inner(), offer)))
}

async fn speak_http2<H: Handler>(
    transport: Transport,
    shard: &ShardServer<H>,
    state: &Rc<ConnectionState>,
) -> Result<(), BodyError> {
    let settings = &shard.settings().http2;
    let connection = http2::Builder::new(StreamExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_header_list_size(settings.max_header_list_bytes)
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_send_buf_size(settings.max_send_buffer)
        .max_local_error_reset_streams(MAX_LOCAL_ERROR_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_ACCEPT_RESETS)
        .keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .serve_connection(TokioIo::new(transport), service(shard, state, None));
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return Ok(result?), // the client is done
        _ = state.notice_after(None) => {}                  // we are leaving, or it idles
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

/// Streams that were reset before they were handled, and errors of the client's that cost us a
/// reset, before the connection ends: the answers to Rapid Reset (CVE-2023-44487) and to
/// MadeYouReset (CVE-2025-8671).
const MAX_PENDING_ACCEPT_RESETS: usize = 20;
const MAX_LOCAL_ERROR_RESETS: usize = 64;

fn service<H: Handler>(
    shard: &ShardServer<H>,
    state: &Rc<ConnectionState>,
    handover: Option<Handover<H::Body>>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<RunningBody<H::Body>>,
    Error = Infallible,
    Future: 'static,
> + use<H> {
    let (handler, state) = (shard.handler().clone(), Rc::clone(state));
    service_fn(move |request| {
        let (handler, state, handover) = (handler.clone(), Rc::clone(&state), handover.clone());
        // Boxed, and freed with the answer: a stream over HTTP/2 is one future of hyper's from its
        // request to its end, and would hold the room for handling the request all the time.
        Box::pin(async move {
            if state.resets.exhausted().is_some() {
                return refuse().await;
            }
            let running = RunningRequest::begin(Rc::clone(&state));
            // Chunks are HTTP/1.1's; for 1.0 hyper ends the body with the connection.
            let handover = handover.filter(|_| request.version() == Version::HTTP_11);
            let response = handler.handle(request, state).await;
            if let Some(handover) = handover.filter(|_| response.body().is_frames()) {
                handover.offer(Offer { response, running });
                return std::future::pending().await;
            }
            Ok(response.map(|body| RunningBody::new(body, running)))
        })
    })
}

/// Resets the stream: the connection ends, and nothing new is begun on it.
async fn refuse<T>() -> T {
    if let Some(stream) = severable::current() {
        stream.cut();
    }
    std::future::pending().await
}

fn handshake_failure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "client_left",
        io::ErrorKind::InvalidData => "protocol",
        _ => "io",
    }
}

/// A client that took too many requests back has so long to read the GOAWAY.
const RESETS_GRACE: Duration = Duration::from_secs(1);

/// How often the deadlines of the connections of a shard are looked at.
pub(super) const ENFORCE_INTERVAL: Duration = Duration::from_millis(500);
