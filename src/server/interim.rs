//! Interim responses (RFC 9110, section 15.2) to the client, such as 103 (Early Hints).
//!
//! They precede the final response. They are optional, so any of them may be dropped.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use ssegate_http2::InterimQueue;

use super::http1::exchange::Http1Exchange;

/// Sends the interim responses to one request. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Interim(InterimTarget);

#[derive(Clone, Debug, Default)]
enum InterimTarget {
    /// Drops them: HTTP/1.0 has none, or there is no client.
    #[default]
    None,
    Http1(Arc<Http1Exchange>),
    Http2(Rc<InterimQueue>),
}

impl Interim {
    pub(super) fn over_http1(exchange: Arc<Http1Exchange>) -> Self {
        Self(InterimTarget::Http1(exchange))
    }

    pub(super) fn over_http2(queue: Rc<InterimQueue>) -> Self {
        Self(InterimTarget::Http2(queue))
    }

    /// Queues one; it is sent after the handler's current poll. Must not be 101, which ends HTTP.
    /// Need not be 100, which is sent when the request body is first read.
    pub fn send(&self, status: StatusCode, headers: HeaderMap) {
        debug_assert!(status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS);
        match &self.0 {
            InterimTarget::None => {}
            InterimTarget::Http1(exchange) => exchange.queue_interim(status, &headers),
            InterimTarget::Http2(queue) => queue.send(status, headers),
        }
    }
}
