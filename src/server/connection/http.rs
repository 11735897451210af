//! HTTP on a connection, by hyper: requests in, responses out.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::state::ConnectionState;
use crate::server::carrier::{Carrier, Frames, Handover, Offer};
use crate::server::request_body::RequestBody;
use crate::server::running::{RunningBody, RunningRequest};
use crate::server::severable::{self, StreamExecutor};
use crate::server::shard_server::ShardServer;
use crate::server::transport::Transport;

/// Any error of a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Answers requests.
pub trait Handler: Clone + 'static {
    /// The body of its responses.
    type Body: Body<Data = Bytes, Error = BodyError> + Frames + 'static;

    /// Answers one request. Total: a failure is a response too.
    fn handle(
        &self,
        request: Request<RequestBody>,
        connection: Rc<ConnectionState>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;
}

/// Answers requests until the client is done, the gateway leaves, or a response is a stream: that
/// is taken out of hyper's hands.
pub(super) async fn speak_http1<H: Handler>(
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

pub(super) async fn speak_http2<H: Handler>(
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
    service_fn(move |request: Request<Incoming>| {
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
            let response = handler.handle(request.map(RequestBody::new), state).await;
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
