//! One connection, from accept to its end.
//!
//! One task for each: TLS where the listener has it, and HTTP/1.1 by hyper; a smaller one takes over
//! for HTTP/2, and for a stream ([`rest`]). Until the client is done, the gateway leaves, or a deadline
//! of ours ends it. What requests mean is the [`Handler`]'s affair.

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

/// Serves one connection. Owned by its shard; ends with the connection, or when it is known what the
/// rest of it is for: then a smaller task goes on. `place` is given back at its end.
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
            // First: who speaks hears of it too, and may end on it.
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
        // Boxed: the room for a handshake is given back after it.
        greeted = Box::pin(greet(watched, listener, shard, state)) => greeted?,
        // We are leaving: who has asked for nothing yet is not waited for.
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

/// What the rest of a connection is for.
enum Spoken<H: Handler> {
    /// The stream that was asked for.
    Stream(Carrier<H::Body>),
    /// Whatever is asked for over HTTP/2.
    Http2(Transport),
}

/// Finds out who the client is and what it speaks, through TLS where the listener has it.
async fn greet<H: Handler>(
    mut watched: Watched,
    listener: &Listener,
    shard: &ShardServer<H>,
    state: &ConnectionState,
) -> Result<(Transport, Protocol), BodyError> {
    if listener.proxy_protocol {
        introduce(&mut watched, shard, state).await.inspect_err(|_error| {
            shard.metrics().connection_cut(CutReason::ProxyProtocol.as_str());
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

/// Hears from the load balancer whom it speaks for. Nobody else may say so.
async fn introduce<H: Handler>(
    watched: &mut Watched,
    shard: &ShardServer<H>,
    state: &ConnectionState,
) -> io::Result<()> {
    if !shard.settings().trusts(state.client()) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not one of trusted_proxies"));
    }
    if let Some(client) = proxy_protocol::read(watched).await? {
        state.speaks_for(client);
    }
    Ok(())
}

const CLEAR_TEXT_REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 59\r\nconnection: close\r\n\r\n\
    400: this port speaks HTTPS only: use https:// in the URL.\n";
/// So much of the request in clear text is read before the connection is closed, and for so long: closing
/// it with unread bytes would reset it, and the client might not get the response.
const CLEAR_TEXT_BYTES: u64 = 64 << 10;
const CLEAR_TEXT_TIME: Duration = Duration::from_secs(1);

/// Responds to HTTP in clear text with a 400 that says so. A method begins with a letter, and a record of
/// TLS with 22 (RFC 8446, section 5.1). One read more for a handshake.
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
    // However that ends, the connection is closed.
    drop(tokio::time::timeout(CLEAR_TEXT_TIME, rest).await);
    Err(io::Error::new(io::ErrorKind::InvalidData, "HTTP in clear text on a port of TLS"))
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

/// Whether hyper has refused a header that is too long (431), or a target (414).
fn is_oversized(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(hyper::Error::is_parse_too_large)
}

/// A handshake that fails is counted as such; this is about what comes behind it.
fn count_fault_of_tls(
    error: &(dyn std::error::Error + 'static),
    state: &ConnectionState,
    metrics: &Metrics,
) {
    if state.protocol.get().is_some() && is_of_tls(error) {
        metrics.connection_cut(CutReason::Tls.as_str());
    }
}

/// Whether rustls has ended the connection, for a fault of the client's.
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

/// How often the deadlines of the connections of a shard are looked at.
pub(super) const ENFORCE_INTERVAL: Duration = Duration::from_millis(500);
