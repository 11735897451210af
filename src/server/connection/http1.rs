//! HTTP/1.1 on a connection, by hyper, until a response is an event stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::header::EXPECT;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ssegate_http2::field_value::expects_continue;

use super::cut_reason::CutReason;
use super::state::ConnectionState;
use crate::server::body_error::BodyError;
use crate::server::carrier::{Carrier, FramedBody, ResponseSlot, StreamResponse};
use crate::server::handler::Handler;
use crate::server::http1::exchange::Http1Exchange;
use crate::server::http1::socket::ClientSocket;
use crate::server::http1::{lingering, refusal};
use crate::server::interim::Interim;
use crate::server::request_body::RequestBody;
use crate::server::running::{RunningBody, RunningRequest};
use crate::server::shard_context::ShardContext;
use crate::server::transport::Transport;

/// Serves requests until the client closes, the gateway shuts down, or a response is an event
/// stream. Then returns the [`Carrier`] that takes the connection over from hyper.
pub(super) async fn serve_http1<H: Handler>(
    transport: Transport,
    shard: &ShardContext<H>,
    state: &Rc<ConnectionState>,
) -> Result<Option<Carrier<H::Body>>, BodyError> {
    let settings = &shard.settings().http1;
    let slot = ResponseSlot::new();
    let exchange = Http1Exchange::new();
    let shared = (Arc::clone(&exchange), Arc::clone(&state.socket));
    let socket = ClientSocket::new(transport, shared, settings);
    let service = service(shard, state, slot.clone(), Arc::clone(&exchange));
    let lingering = shard.settings().lingering_close;
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_read_timeout)
        .max_header_size(settings.max_header_bytes)
        .max_buf_size(settings.max_buffer_bytes)
        // `ClientSocket` handles half-closed clients itself.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut is_draining = false;
    let ended = poll_fn(|cx| {
        if !is_draining && state.poll_notice_after(None, cx).is_ready() {
            is_draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Some(ended));
        }
        // After hyper's poll, in which the handler may have dropped an unread request body.
        if exchange.discard_timed_out(lingering, cx) {
            shard.metrics().connection_cut(CutReason::Lingering.as_str());
        }
        // hyper has written all earlier responses once the socket is not blocked.
        if slot.is_filled() && state.socket.writes.blocked_since().is_none() {
            return Poll::Ready(None);
        }
        Poll::Pending
    });
    if let Some(ended) = ended.await {
        let Some(parts) = connection.into_parts() else { return Ok(ended.map(|()| None)?) };
        let is_late = ended.as_ref().is_err_and(hyper::Error::is_timeout);
        // A timeout between two requests is the normal end of a keep-alive connection.
        if is_late && !parts.read_buf.is_empty() {
            shard.metrics().connection_cut(CutReason::HeaderTimeout.as_str());
        }
        let is_refused = ended.as_ref().is_err_and(hyper::Error::is_parse);
        let mut socket = parts.io.into_inner();
        if let (Some(refusal), Err(why)) = (socket.take_refusal(), &ended) {
            let response = refusal::with_text(&refusal, &why.to_string());
            // Boxed, as below.
            Box::pin(lingering::write_last(socket.transport_mut(), &response, lingering)).await;
        }
        let has_unread = !parts.read_buf.is_empty() || socket.has_unread();
        let is_unread = is_refused || exchange.has_unread_request() || has_unread;
        if is_unread && !is_late && !socket.is_at_end() {
            // Boxed, so that connections that do not linger do not pay for its size.
            Box::pin(linger(socket, shard, state)).await;
        }
        return Ok(ended.map(|()| None)?);
    }
    let parts = connection.into_parts();
    let taken = parts.zip(slot.take());
    Ok(taken.map(|(parts, response)| {
        let transport = parts.io.into_inner().into_transport();
        Carrier::new(transport, &state.socket, response, settings.half_close)
    }))
}

/// Reads and discards what the client still sends, so that it receives the response and no reset.
/// Ends when the client closes, the gateway shuts down, or `lingering_close` has passed.
async fn linger<H: Handler>(
    socket: ClientSocket,
    shard: &ShardContext<H>,
    state: &ConnectionState,
) {
    let lingering = shard.settings().lingering_close;
    let has_closed = tokio::select! {
        has_closed = lingering::close_lingering(socket.into_transport(), lingering) => has_closed,
        _ = state.notice_after(None) => true,
    };
    if !has_closed {
        shard.metrics().connection_cut(CutReason::Lingering.as_str());
    }
}

fn service<H: Handler>(
    shard: &ShardContext<H>,
    state: &Rc<ConnectionState>,
    slot: ResponseSlot<H::Body>,
    exchange: Arc<Http1Exchange>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<RunningBody<H::Body>>,
    Error = Infallible,
    Future: 'static,
> + use<H> {
    let (shard, state) = (shard.clone(), Rc::clone(state));
    service_fn(move |mut request: Request<Incoming>| {
        let (shard, state, slot) = (shard.clone(), Rc::clone(&state), slot.clone());
        exchange.restore_fields(&mut request);
        if request.version() == Version::HTTP_10 {
            // An HTTP/1.0 client does not know 100 (Continue), and does not wait for it (RFC 9110,
            // section 10.1.1).
            request.headers_mut().remove(EXPECT);
        }
        // Here, not in the future: the socket must know before hyper reads from it again.
        let response_guard = exchange.begin(request.body().is_end_stream());
        let exchange = Arc::clone(&exchange);
        async move {
            let running = RunningRequest::begin(Rc::clone(&state));
            // HTTP/1.0 has no chunked coding; there hyper delimits the body by closing.
            let is_chunked = request.version() == Version::HTTP_11;
            let awaits_continue = expects_continue(request.headers());
            // HTTP/1.0 has no interim responses (RFC 9110, section 15.2).
            let interim = match is_chunked {
                true => Interim::over_http1(Arc::clone(&exchange)),
                false => Interim::default(),
            };
            let request = request.map(|body| {
                RequestBody::from_http1(body, awaits_continue, interim, Arc::clone(&exchange))
            });
            let mut response = shard.handler().handle(request, Rc::clone(&state)).await;
            if is_chunked && response.body().is_framed() {
                slot.put(StreamResponse { response, running });
                return std::future::pending().await;
            }
            if !is_chunked && response.body().size_hint().exact().is_none() {
                // The length of this body is not known here: only the end of the connection may end it.
                // hyper promises a client over HTTP/1.0 that the connection is kept, unless the response
                // is of 1.0 too.
                *response.version_mut() = Version::HTTP_10;
            }
            state.expect_body(response.body().size_hint().lower(), shard.settings());
            exchange.drop_late_interim();
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                exchange.upgrade();
            }
            let running = (running, response_guard);
            Ok(response.map(|body| RunningBody::new(body, running, !is_chunked)))
        }
    })
}
