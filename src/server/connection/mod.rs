//! One connection, from accept to close.
//!
//! Owns the PROXY header, the TLS handshake, the choice of protocol and HTTP/1.1. Does not know
//! what requests mean: that is the [`Handler`]'s business.
//!
//! Each connection has one task. It ends when the client closes, the gateway shuts down or a
//! deadline passes. For HTTP/2, and for an event stream over HTTP/1.1, a smaller task takes over
//! ([`task`]).

mod activity;
mod client;
mod cut_reason;
mod http1;
mod http2;
mod notice;
mod protocol;
mod state;
mod task;

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use rustls::server::Acceptor;
use ssegate_http2::Connection;
use ssegate_http2::frame::PREFACE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::cut_reason::CutReason;
use self::http2::Http2Link;
pub(super) use self::notice::Notice;
pub use self::protocol::HttpProtocol;
pub use self::state::ConnectionState;
use self::task::ConnectionTask;
pub use super::body_error::{BodyError, has_client_left};
use super::carrier::Carrier;
pub use super::handler::Handler;
use super::listener::Listener;
use super::proxy_protocol;
use super::shard_context::ShardContext;
use super::tls::ListenerTls;
use super::transport::{TrackedSocket, Transport};
use crate::metrics::Metrics;

/// Serves one connection. The shard owns the task. It ends with the connection, or when a smaller
/// task takes over (see [`task`]). `registration` is dropped when the connection ends.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    listener: Rc<Listener>,
    shard: ShardContext<H>,
    state: Rc<ConnectionState>,
    registration: impl Unpin + 'static,
) {
    let socket = TrackedSocket::new(stream, Arc::clone(&state.socket));
    let ended = {
        let serving = pin!(async {
            let ended = serve_until_handoff(socket, &listener, &shard, &state).await;
            state.after_http().await;
            ended
        });
        tokio::select! {
            // Cut first: `serving` reacts to the same notice and may end without the reason.
            biased;
            reason = wait_for_cut(&state) => {
                shard.metrics().connection_cut(reason.as_str());
                Ok(None)
            }
            result = serving => result,
        }
    };
    match ended {
        Ok(None) => {}
        Ok(Some((handoff, open))) => {
            let server = shard.clone();
            let guards = (registration, open);
            match handoff {
                Handoff::Stream(carrier) => {
                    server.spawn(ConnectionTask::new(carrier, state, shard, guards))
                }
                Handoff::Http2(transport) => {
                    let connection = Connection::new(transport, Http2Link::new(&shard, &state));
                    server.spawn(ConnectionTask::new(connection, state, shard, guards));
                }
            }
        }
        Err(error) if is_oversized(&*error) => {
            shard.metrics().request_rejected("header");
            note_unreadable(&shard, &state, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header");
        }
        Err(error) => {
            if is_malformed(&*error) {
                note_unreadable(&shard, &state, StatusCode::BAD_REQUEST, "malformed");
            }
            count_tls_error(&*error, &state, shard.metrics());
            tracing::debug!(peer = %state.peer(), %error, "connection failed");
        }
    }
}

async fn wait_for_cut(state: &ConnectionState) -> CutReason {
    let mut last_seen = None;
    std::future::poll_fn(|context| state.poll_cut(&mut last_seen, context)).await
}

async fn serve_until_handoff<H: Handler>(
    socket: TrackedSocket,
    listener: &Listener,
    shard: &ShardContext<H>,
    state: &Rc<ConnectionState>,
) -> Result<Option<(Handoff<H>, impl Drop + use<H>)>, BodyError> {
    let (transport, protocol) = tokio::select! {
        // Boxed, so that the memory for a handshake is freed after it.
        negotiated = Box::pin(negotiate(socket, listener, shard, state)) => negotiated?,
        // Graceful shutdown: a client that has not sent a request is not waited for.
        _ = state.notice_after(None) => return Ok(None),
    };
    state.protocol.set(Some(protocol));
    let open = shard.count_protocol(protocol);
    let handoff = match protocol {
        HttpProtocol::Http1 => {
            http1::serve_http1(transport, shard, state).await?.map(Handoff::Stream)
        }
        HttpProtocol::Http2 => Some(Handoff::Http2(transport)),
    };
    Ok(handoff.map(|handoff| (handoff, open)))
}

/// What the second task of a connection runs.
enum Handoff<H: Handler> {
    /// An event stream over HTTP/1.1.
    Stream(Carrier<H::Body>),
    /// HTTP/2.
    Http2(Transport),
}

/// Reads the PROXY header if the listener has one, does the TLS handshake, and determines the
/// protocol.
async fn negotiate<H: Handler>(
    mut socket: TrackedSocket,
    listener: &Listener,
    shard: &ShardContext<H>,
    state: &ConnectionState,
) -> Result<(Transport, HttpProtocol), BodyError> {
    if listener.proxy_protocol {
        read_proxy_header(&mut socket, shard, state).await.inspect_err(|_error| {
            shard.metrics().connection_cut(CutReason::ProxyProtocol.as_str());
        })?;
    }
    state.client.update_trust(shard.settings());
    if let Err(exceeded) =
        state.client.admit(shard.clients(), &shard.settings().per_client, Instant::now())
    {
        shard.metrics().connection_cut(exceeded.as_str());
        return Err(io::Error::new(io::ErrorKind::QuotaExceeded, exceeded.as_str()).into());
    }
    let Some(tls) = &listener.tls else {
        let protocol = detect_protocol(&mut socket).await?;
        return Ok((Transport::Plain(socket), protocol));
    };
    reject_clear_text(&mut socket).await.inspect_err(|error| {
        shard.metrics().handshake_failed("protocol");
        if error.kind() == io::ErrorKind::InvalidData {
            note_unreadable(shard, state, StatusCode::BAD_REQUEST, "clear_text");
        }
    })?;
    let stream = handshake(socket, tls, shard).await.inspect_err(|error| {
        shard.metrics().handshake_failed(handshake_failure(error));
    })?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let protocol = if is_h2 { HttpProtocol::Http2 } else { HttpProtocol::Http1 };
    Ok((Transport::Tls(Box::new(stream)), protocol))
}

/// Reads the PROXY header, which only a trusted proxy may send.
async fn read_proxy_header<H: Handler>(
    socket: &mut TrackedSocket,
    shard: &ShardContext<H>,
    state: &ConnectionState,
) -> io::Result<()> {
    if !shard.settings().trusts(state.client()) {
        let error = "PROXY header from an address that is not in trusted_proxies";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
    }
    if let Some(client) = proxy_protocol::read(socket).await? {
        state.client.set_address(client);
    }
    Ok(())
}

const CLEAR_TEXT_RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 84\r\nconnection: close\r\n\r\n\
    400 Bad Request: plain HTTP request sent to an HTTPS port; use https:// in the URL.\n";
/// How many bytes of the clear-text request are read before the close, and for how long. Closing a
/// socket with unread bytes resets the connection, and the client may lose the response.
const CLEAR_TEXT_BYTES: u64 = 64 << 10;
const CLEAR_TEXT_TIME: Duration = Duration::from_secs(1);

/// Responds with 400 to a plain HTTP request on a TLS port. An HTTP method begins with an
/// upper-case letter, a TLS handshake record with 22 (RFC 8446, section 5.1). Costs a handshake one
/// more read.
async fn reject_clear_text(socket: &mut TrackedSocket) -> io::Result<()> {
    let mut first = BytesMut::with_capacity(1);
    (&mut *socket).take(1).read_buf(&mut first).await?;
    if !first.first().is_some_and(u8::is_ascii_uppercase) {
        socket.unread(first.freeze());
        return Ok(());
    }
    socket.write_all(CLEAR_TEXT_RESPONSE).await?;
    socket.shutdown().await?;
    let mut request = (&mut *socket).take(CLEAR_TEXT_BYTES);
    let mut sink = tokio::io::sink();
    let discard = tokio::io::copy(&mut request, &mut sink);
    // Closes whether or not the client did.
    drop(tokio::time::timeout(CLEAR_TEXT_TIME, discard).await);
    Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP request sent to an HTTPS port"))
}

/// Does the TLS handshake. Holds a permit only while it computes the server's first flight, not
/// while it waits for the client: a client that sends nothing, or stops half-way, delays no other.
async fn handshake<H: Handler>(
    socket: TrackedSocket,
    tls: &ListenerTls,
    shard: &ShardContext<H>,
) -> io::Result<TlsStream<TrackedSocket>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let mut stream = {
        let _permit = shard.handshake_permit().await;
        // This poll does the key exchange and the signature, without yielding.
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

/// Reads until the bytes match or contradict the HTTP/2 connection preface: h2c by prior knowledge
/// (RFC 9113, section 3.3), or HTTP/1.1.
async fn detect_protocol(socket: &mut TrackedSocket) -> io::Result<HttpProtocol> {
    let mut seen = BytesMut::with_capacity(PREFACE.len());
    while PREFACE.starts_with(&seen) && seen.len() < PREFACE.len() {
        let mut rest = (&mut *socket).take((PREFACE.len() - seen.len()) as u64);
        if rest.read_buf(&mut seen).await? == 0 {
            break;
        }
    }
    let is_preface = seen[..] == PREFACE[..];
    socket.unread(seen.freeze());
    Ok(if is_preface { HttpProtocol::Http2 } else { HttpProtocol::Http1 })
}

/// Whether hyper rejected a request whose header (431) or target (414) is too long.
fn is_oversized(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(hyper::Error::is_parse_too_large)
}

/// Whether hyper could not parse the request (400).
fn is_malformed(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(hyper::Error::is_parse)
}

fn note_unreadable<H: Handler>(
    shard: &ShardContext<H>,
    state: &ConnectionState,
    status: StatusCode,
    why: &'static str,
) {
    shard.handler().note_unreadable(status, why, state);
}

/// Counts a TLS error after the handshake. A failed handshake has a counter of its own.
fn count_tls_error(
    error: &(dyn std::error::Error + 'static),
    state: &ConnectionState,
    metrics: &Metrics,
) {
    if state.protocol.get().is_some() && is_tls_error(error) {
        metrics.connection_cut(CutReason::Tls.as_str());
    }
}

/// Whether the error is rustls's: the client violated TLS.
fn is_tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

fn handshake_failure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "client_left",
        io::ErrorKind::InvalidData => "protocol",
        _ => "io",
    }
}
