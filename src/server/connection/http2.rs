//! HTTP/2 on a connection, as [`ssegate_http2`] speaks it: what that needs of the server.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::DATE;
use http::{Request, Response, response};
use http_body::Body as _;
use ssegate_http2::error::ErrorCode;
use ssegate_http2::{
    AbuseReason, Http2Server, Http2Settings, IncomingBody, InterimQueue, KeepAliveState,
    RequestError, ResetReason, ResponseKind,
};

use super::cut_reason::CutReason;
use super::notice::Notice;
use super::state::ConnectionState;
use crate::server::body_error::BodyError;
use crate::server::carrier::FramedBody as _;
use crate::server::date::date;
use crate::server::event_stream::is_event_stream;
use crate::server::handler::Handler;
use crate::server::interim::Interim;
use crate::server::request_body::RequestBody;
use crate::server::running::RunningRequest;
use crate::server::shard_context::ShardContext;
use crate::server::socket_state::SocketState;

/// The server, as a connection over HTTP/2 sees it.
pub(super) struct Http2Link<H> {
    shard: ShardContext<H>,
    state: Rc<ConnectionState>,
    // The one of `state`. Held here, too: delivering an event touches nothing else of the state.
    socket: Arc<SocketState>,
}

impl<H: Handler> Http2Link<H> {
    pub(super) fn new(shard: &ShardContext<H>, state: &Rc<ConnectionState>) -> Self {
        let socket = Arc::clone(&state.socket);
        Self { shard: shard.clone(), state: Rc::clone(state), socket }
    }

    /// Whether a notice was left since the last call (see [`SocketState`]).
    pub(super) fn take_attention(&self) -> bool {
        self.socket.attention.take()
    }
}

impl<H: Handler> Http2Server for Http2Link<H> {
    type Body = H::Body;
    type StreamGuard = RunningRequest;

    fn settings(&self) -> &Http2Settings {
        &self.shard.settings().http2
    }

    fn keep_alive(&self) -> &KeepAliveState {
        &self.state.keep_alive
    }

    fn open_stream(&self) -> RunningRequest {
        RunningRequest::begin(Rc::clone(&self.state))
    }

    fn handle(
        &self,
        request: Request<IncomingBody>,
        interim: Rc<InterimQueue>,
    ) -> impl Future<Output = Response<H::Body>> + 'static {
        let request =
            request.map(|body| RequestBody::from_http2(body, Interim::over_http2(interim)));
        self.shard.handler().handle(request, Rc::clone(&self.state))
    }

    fn refuse(&self, head: &Request<()>, why: RequestError) -> Response<H::Body> {
        self.shard.handler().refuse(head, why, &self.state)
    }

    fn prepare(&self, head: &mut response::Parts, body: &H::Body) -> ResponseKind {
        self.state.expect_body(body.size_hint().lower(), self.shard.settings());
        head.headers.entry(DATE).or_insert_with(date);
        if is_event_stream(&head.headers) { ResponseKind::Events } else { ResponseKind::Other }
    }

    fn write_timeout(&self) -> Duration {
        self.shard.settings().write_timeout
    }

    fn lingering_close(&self) -> Duration {
        self.shard.settings().lingering_close
    }

    fn is_draining(&self) -> bool {
        // `Notice::Cut` ends the task before the connection is polled.
        self.state.notice() == Some(Notice::Drain)
    }

    fn reserve_window(&self, octets: usize) -> usize {
        self.shard.upload_memory().reserve(octets)
    }

    fn release_window(&self, octets: usize) {
        self.shard.upload_memory().release(octets);
    }

    fn writing(&self) {
        self.socket.writes.set_last_write(self.shard.last_check());
    }

    fn note_progress(&self, body: &H::Body) {
        body.note_progress();
    }

    fn limit_unsent(&self, octets: u32) {
        self.socket.options.limit_unsent(octets);
    }

    fn stream_reset(&self, why: ResetReason) {
        self.shard.metrics().stream_reset(match why {
            ResetReason::Lingering => CutReason::Lingering.as_str(),
            ResetReason::MaxStreams => "max_concurrent_streams",
            ResetReason::Stalled => CutReason::Stalled.as_str(),
        });
    }

    fn body_failed(&self, error: &BodyError) {
        tracing::debug!(%error, "response body failed before its end");
    }

    fn connection_error(&self, code: ErrorCode, what: &'static str) {
        tracing::debug!(peer = %self.state.peer(), code = code.0, what, "HTTP/2 connection error");
    }

    fn abused(&self, why: AbuseReason) {
        self.shard.metrics().connection_cut(why.as_str());
    }
}
