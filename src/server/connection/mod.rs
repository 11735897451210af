//! One connection, from accept to close.
//!
//! Owns the PROXY header, the TLS handshake, the choice of protocol and HTTP/1.1. Does not know
//! what requests mean: that is the [`Handler`]'s business.
//!
//! Each connection has one task. It ends when the client closes, the gateway shuts down or a
//! deadline passes. For HTTP/2, and for an event stream over HTTP/1.1, a smaller task takes over
//! ([`rest`]).

mod http;
mod rest;
mod state;

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::http::{BodyError, Handler};
use self::rest::Rest;
pub(super) use self::state::Notice;
pub use self::state::{ConnectionState, CutReason, Protocol};
use super::carrier::Carrier;
use super::http2::{self, PREFACE};
use super::listener::Listener;
use super::proxy_protocol;
use super::shard_server::ShardServer;
use super::tls::Tls;
use super::transport::{Transport, Watched};
use crate::metrics::Metrics;

/// Serves one connection. The shard owns the task. It ends with the connection, or when a smaller
/// task takes over (see [`rest`]). `place` is dropped when the connection ends.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    listener: Rc<Listener>,
    shard: ShardServer<H>,
    state: Rc<ConnectionState>,
    place: impl Unpin + 'static,
) {
    let watched = Watched::new(stream, Arc::clone(&state.progress));
    let ended = {
        let speaking = pin!(async {
            let ended = speak(watched, &listener, &shard, &state).await;
            state.after_http().await;
            ended
        });
        tokio::select! {
            // Cut first: `speaking` reacts to the same notice and may end without the reason.
            biased;
            reason = cut_off(&state) => {
                shard.metrics().connection_cut(reason.as_str());
                Ok(None)
            }
            result = speaking => result,
        }
    };
    match ended {
        Ok(None) => {}
        Ok(Some((spoken, open))) => {
            let server = shard.clone();
            let places = (place, open);
            match spoken {
                Spoken::Stream(carrier) => server.spawn(Rest::new(carrier, state, shard, places)),
                Spoken::Http2(transport) => {
                    let connection = http2::Connection::new(transport, &shard, &state);
                    server.spawn(Rest::new(connection, state, shard, places));
                }
            }
        }
        Err(error) if is_oversized(&*error) => shard.metrics().request_rejected("header"),
        Err(error) => {
            count_fault_of_tls(&*error, &state, shard.metrics());
            tracing::debug!(peer = %state.peer, %error, "connection failed");
        }
    }
}

async fn cut_off(state: &ConnectionState) -> CutReason {
    let mut known = None;
    std::future::poll_fn(|context| state.poll_cut_off(&mut known, context)).await
}

async fn speak<H: Handler>(
    watched: Watched,
    listener: &Listener,
    shard: &ShardServer<H>,
    state: &Rc<ConnectionState>,
) -> Result<Option<(Spoken<H>, impl Drop + use<H>)>, BodyError> {
    let (transport, protocol) = tokio::select! {
        // Boxed, so that the memory for a handshake is freed after it.
        greeted = Box::pin(greet(watched, listener, shard, state)) => greeted?,
        // Graceful shutdown: a client that has not sent a request is not waited for.
        _ = state.notice_after(None) => return Ok(None),
    };
    state.protocol.set(Some(protocol));
    let open = shard.speaks(protocol);
    let spoken = match protocol {
        Protocol::Http1 => http::speak_http1(transport, shard, state).await?.map(Spoken::Stream),
        Protocol::Http2 => Some(Spoken::Http2(transport)),
    };
    Ok(spoken.map(|spoken| (spoken, open)))
}

/// What the second task of a connection runs.
enum Spoken<H: Handler> {
    /// An event stream over HTTP/1.1.
    Stream(Carrier<H::Body>),
    /// HTTP/2.
    Http2(Transport),
}

/// Reads the PROXY header if the listener has one, does the TLS handshake, and determines the
/// protocol.
async fn greet<H: Handler>(
    mut watched: Watched,
    listener: &Listener,
    shard: &ShardServer<H>,
    state: &ConnectionState,
) -> Result<(Transport, Protocol), BodyError> {
    if listener.proxy_protocol {
        introduce(&mut watched, shard, state).await.inspect_err(|_error| {
            shard.metrics().connection_cut("proxy_protocol");
        })?;
    }
    state.judge(shard.settings());
    if let Err(too_much) = state.enter(shard.clients(), &shard.settings().per_client) {
        shard.metrics().connection_cut(too_much.as_str());
        return Err(io::Error::new(io::ErrorKind::QuotaExceeded, too_much.as_str()).into());
    }
    let Some(tls) = &listener.tls else {
        let protocol = sniff(&mut watched).await?;
        return Ok((Transport::Plain(watched), protocol));
    };
    refuse_clear_text(&mut watched).await.inspect_err(|_error| {
        shard.metrics().handshake_failed("protocol");
    })?;
    let stream = handshake(watched, tls, shard).await.inspect_err(|error| {
        shard.metrics().handshake_failed(handshake_failure(error));
    })?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let protocol = if is_h2 { Protocol::Http2 } else { Protocol::Http1 };
    Ok((Transport::Tls(Box::new(stream)), protocol))
}

/// Reads the PROXY header, which only a trusted proxy may send.
async fn introduce<H: Handler>(
    watched: &mut Watched,
    shard: &ShardServer<H>,
    state: &ConnectionState,
) -> io::Result<()> {
    if !shard.settings().trusts(state.client()) {
        let error = "PROXY header from an address that is not in trusted_proxies";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
    }
    if let Some(client) = proxy_protocol::read(watched).await? {
        state.speaks_for(client);
    }
    Ok(())
}

const CLEAR_TEXT_REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 84\r\nconnection: close\r\n\r\n\
    400 Bad Request: plain HTTP request sent to an HTTPS port; use https:// in the URL.\n";
/// How many bytes of the clear-text request are read before the close, and for how long. Closing a
/// socket with unread bytes resets the connection, and the client may lose the response.
const CLEAR_TEXT_BYTES: u64 = 64 << 10;
const CLEAR_TEXT_TIME: Duration = Duration::from_secs(1);

/// Responds with 400 to a plain HTTP request on a TLS port. An HTTP method begins with an
/// upper-case letter, a TLS handshake record with 22 (RFC 8446, section 5.1). Costs a handshake one
/// more read.
async fn refuse_clear_text(watched: &mut Watched) -> io::Result<()> {
    let mut first = BytesMut::with_capacity(1);
    (&mut *watched).take(1).read_buf(&mut first).await?;
    if !first.first().is_some_and(u8::is_ascii_uppercase) {
        watched.unread(first.freeze());
        return Ok(());
    }
    watched.write_all(CLEAR_TEXT_REFUSAL).await?;
    watched.shutdown().await?;
    let mut request = (&mut *watched).take(CLEAR_TEXT_BYTES);
    let mut nowhere = tokio::io::sink();
    let rest = tokio::io::copy(&mut request, &mut nowhere);
    // Closes whether or not the client did.
    drop(tokio::time::timeout(CLEAR_TEXT_TIME, rest).await);
    Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP request sent to an HTTPS port"))
}

/// Does the TLS handshake. Holds a permit only while it computes the server's first flight, not
/// while it waits for the client: a client that sends nothing, or stops half-way, delays no other.
async fn handshake<H: Handler>(
    watched: Watched,
    tls: &Tls,
    shard: &ShardServer<H>,
) -> io::Result<TlsStream<Watched>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), watched).await?;
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

/// Whether hyper rejected a request whose header (431) or target (414) is too long.
fn is_oversized(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(hyper::Error::is_parse_too_large)
}

/// Counts a TLS error after the handshake. A failed handshake has a counter of its own.
fn count_fault_of_tls(
    error: &(dyn std::error::Error + 'static),
    state: &ConnectionState,
    metrics: &Metrics,
) {
    if state.protocol.get().is_some() && is_of_tls(error) {
        metrics.connection_cut(CutReason::Tls.as_str());
    }
}

/// Whether the error is rustls's: the client violated TLS.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
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

/// How often a shard checks the deadlines of its connections.
pub(super) const ENFORCE_INTERVAL: Duration = Duration::from_millis(500);
