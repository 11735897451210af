//! Which requests are sent again after their connection has failed them.
//!
//! A request that its backend has not processed, and says so, is sent again whatever it is (RFC 9113,
//! section 8.7). One that was lost on a connection kept from earlier requests is sent again once, on a
//! new connection, if it is idempotent and has no body (RFC 9110, section 9.2.2).

use http::{Method, Request};
use hyper::client::conn::TrySendError;

use super::error::{Failure, Unanswered};
use super::facts::Facts;
use super::http2::Lost;
use super::upload::Upload;
use crate::route::ProxySettings;

/// How often a request is sent that the backend does not process.
const MAX_ATTEMPTS: u32 = 5;

/// What may be sent again, as the route says.
#[derive(Clone, Debug)]
pub(super) struct RetryPolicy {
    retries_idempotent: bool,
    facts: Facts,
}

/// How often one request was sent.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    unprocessed: u32,
    is_retried: bool,
}

/// A request that is to be sent again, and where.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) request: Request<Upload>,
    /// Whether only a connection will do that is opened now.
    pub(super) needs_new: bool,
}

impl RetryPolicy {
    pub(super) fn new(settings: &ProxySettings, facts: Facts) -> Self {
        Self { retries_idempotent: settings.retry_idempotent, facts }
    }

    /// A copy of a request over HTTP/1.1, to be sent again if it is lost on a kept connection.
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

    /// What becomes of a request that a connection over HTTP/1.1 has failed, a kept one or a new one.
    ///
    /// # Errors
    /// It is not sent again here. With the request, where another upstream may have it.
    pub(super) fn after_http1(
        &self,
        mut error: TrySendError<Request<Upload>>,
        is_kept: bool,
        copy: Option<Request<Upload>>,
    ) -> Result<Again, Unanswered> {
        let failure = Failure::exchange(error.error());
        match (error.take_message(), copy) {
            // Nothing of it was written.
            (Some(request), _) if is_kept => Ok(Again { request, needs_new: false }),
            (Some(request), _) => Err(Unanswered::unsent(failure, request)),
            (None, Some(request)) if is_lost(error.error()) => {
                self.facts.retried("lost");
                Ok(Again { request, needs_new: true })
            }
            (None, _) => Err(failure.into()),
        }
    }

    /// What becomes of a request that a connection over HTTP/2 has failed; `is_first`: the first on it.
    ///
    /// # Errors
    /// It is not sent again here. With the request, where another upstream may have it.
    pub(super) fn after_http2(
        &self,
        lost: Lost,
        is_first: bool,
        attempts: &mut Attempts,
    ) -> Result<Again, Unanswered> {
        let Lost { reason, is_unprocessed, mut request } = lost;
        let is_lost = reason.is_of_the_connection() && !is_first && !attempts.is_retried;
        let failure = Failure::lost(&reason);
        if is_unprocessed {
            if !request.body_mut().rewind() {
                return Err(Failure::RetryBuffer.into());
            }
            attempts.unprocessed += 1;
            if attempts.unprocessed >= MAX_ATTEMPTS {
                return Err(Unanswered::unsent(failure, request));
            }
            self.facts.retried("unprocessed");
            return Ok(Again { request, needs_new: false });
        }
        if is_lost && self.may_repeat(&request) {
            attempts.is_retried = true;
            self.facts.retried("lost");
            return Ok(Again { request, needs_new: true });
        }
        Err(failure.into())
    }

    fn may_repeat(&self, request: &Request<Upload>) -> bool {
        self.retries_idempotent && request.body().is_none() && is_idempotent(request.method())
    }
}

/// Of the methods that RFC 9110, section 9.2.2, calls idempotent, those that a proxy passes on.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}

/// Whether a connection over HTTP/1.1 ended before a response came.
fn is_lost(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user() && !error.is_timeout()
}
