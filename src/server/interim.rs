//! Interim responses (RFC 9110, section 15.2), on their way to the client: 103 Early Hints and others.
//!
//! They come before the response to their request, and any number of them may be dropped.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::http1::exchange::Exchange;

/// So many wait on a stream of HTTP/2; more are dropped.
const MAX_WAITING: usize = 16;

/// Where the interim responses to a request go: a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Interim(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    /// The client cannot read them, as over HTTP/1.0; or there is no client.
    #[default]
    None,
    Http1(Arc<Exchange>),
    Http2(Rc<Waiting>),
}

/// Those of a stream that have not been sent.
#[derive(Debug, Default)]
pub(super) struct Waiting(RefCell<Vec<(StatusCode, HeaderMap)>>);

impl Interim {
    pub(super) fn over_http1(exchange: Arc<Exchange>) -> Self {
        Self(Kind::Http1(exchange))
    }

    pub(super) fn over_http2(waiting: Rc<Waiting>) -> Self {
        Self(Kind::Http2(waiting))
    }

    /// Sends one, as soon as the handler of the request has been polled. Not 101, which ends HTTP; and
    /// 100 is sent by itself when the body of the request is read.
    pub fn send(&self, status: StatusCode, headers: HeaderMap) {
        debug_assert!(status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS);
        match &self.0 {
            Kind::None => {}
            Kind::Http1(exchange) => exchange.interim(status, &headers),
            Kind::Http2(waiting) => {
                let mut waiting = waiting.0.borrow_mut();
                if waiting.len() < MAX_WAITING {
                    waiting.push((status, headers));
                }
            }
        }
    }
}

impl Waiting {
    /// Takes them, in their order.
    pub(super) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        self.0.take()
    }
}
