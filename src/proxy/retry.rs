//! Which requests are retried after their connection has failed.
//!
//! A request that the backend declared unprocessed is retried whatever its method (RFC 9113,
//! section 8.7). A request lost on a reused connection is retried once, on a new connection, if it
//! is idempotent and has no body (RFC 9110, section 9.2.2). Decides only; `upstream` sends.

use http::{Method, Request};
use hyper::client::conn::TrySendError;

use super::error::Failure;
use super::http2::LostRequest;
use super::recorder::Recorder;
use super::send_error::SendError;
use super::upload::Upload;
use crate::route::ProxySettings;

/// How many times to send a request that the backend does not process.
const MAX_ATTEMPTS: u32 = 5;

/// The retry settings of a route.
#[derive(Clone, Debug)]
pub(super) struct RetryPolicy {
    retries_idempotent: bool,
    recorder: Recorder,
}

/// The attempts of one request so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    unprocessed: u32,
    is_retried: bool,
}

/// A request to send again.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) request: Request<Upload>,
    /// Whether to send it on a new connection.
    pub(super) needs_new: bool,
}

impl RetryPolicy {
    pub(super) fn new(settings: &ProxySettings, recorder: Recorder) -> Self {
        Self { retries_idempotent: settings.retry_idempotent, recorder }
    }

    /// A copy of an HTTP/1.1 request, to be sent if it is lost on a reused connection; `None` if it
    /// may not be repeated.
    pub(super) fn copy(&self, request: &Request<Upload>) -> Option<Request<Upload>> {
        if !self.may_repeat(request) {
            return None;
        }
        let mut copy = Request::new(Upload::none());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }

    /// Decides about a request that failed on an HTTP/1.1 connection; `is_reused`: a reused one.
    ///
    /// # Errors
    /// It is not retried at this upstream. Contains the request if another upstream may get it.
    pub(super) fn after_http1(
        &self,
        mut error: TrySendError<Request<Upload>>,
        is_reused: bool,
        copy: Option<Request<Upload>>,
    ) -> Result<Retry, SendError> {
        let failure = Failure::http1(error.error());
        match (error.take_message(), copy) {
            // Nothing was written: the idle connection was closed by the backend.
            (Some(request), _) if is_reused => Ok(Retry { request, needs_new: false }),
            (Some(request), _) => Err(SendError::unsent(failure, request)),
            (None, Some(request)) if is_lost(error.error()) => {
                self.recorder.retried("lost");
                Ok(Retry { request, needs_new: true })
            }
            (None, _) => Err(failure.into()),
        }
    }

    /// Decides about a request that failed on an HTTP/2 connection; `is_first`: the first one on
    /// it.
    ///
    /// # Errors
    /// It is not retried at this upstream. Contains the request if another upstream may get it.
    pub(super) fn after_http2(
        &self,
        lost: LostRequest,
        is_first: bool,
        attempts: &mut Attempts,
    ) -> Result<Retry, SendError> {
        let LostRequest { reason, is_unprocessed, mut request } = lost;
        let is_lost = reason.is_connection_failure() && !is_first && !attempts.is_retried;
        let failure = Failure::from(&reason);
        if is_unprocessed {
            if !request.body_mut().rewind() {
                return Err(Failure::RetryBuffer.into());
            }
            attempts.unprocessed += 1;
            if attempts.unprocessed >= MAX_ATTEMPTS {
                return Err(SendError::unsent(failure, request));
            }
            self.recorder.retried("unprocessed");
            return Ok(Retry { request, needs_new: false });
        }
        if is_lost && self.may_repeat(&request) {
            attempts.is_retried = true;
            self.recorder.retried("lost");
            return Ok(Retry { request, needs_new: true });
        }
        Err(failure.into())
    }

    fn may_repeat(&self, request: &Request<Upload>) -> bool {
        self.retries_idempotent && request.body().is_none() && is_idempotent(request.method())
    }
}

/// Whether the method is idempotent (RFC 9110, section 9.2.2) and one that the proxy forwards.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}

/// Whether an HTTP/1.1 connection ended before the response.
fn is_lost(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user() && !error.is_timeout()
}
