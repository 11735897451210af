//! Interim responses (RFC 9110, section 15.2) of one stream, such as 103 (Early Hints).

use std::cell::RefCell;

use http::{HeaderMap, StatusCode};

/// The most that are queued on a stream; further ones are dropped.
const MAX_QUEUED: usize = 16;

/// The queued interim responses of a stream. They are optional, so any of them may be dropped.
#[derive(Debug, Default)]
pub struct InterimQueue(RefCell<Vec<(StatusCode, HeaderMap)>>);

impl InterimQueue {
    /// Queues one; it is sent after the handler's current poll. Must not be 101, which HTTP/2 does not
    /// have. Need not be 100, which is sent when the request body is first read.
    pub fn send(&self, status: StatusCode, headers: HeaderMap) {
        debug_assert!(status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS);
        let mut queue = self.0.borrow_mut();
        if queue.len() < MAX_QUEUED {
            queue.push((status, headers));
        }
    }

    /// Takes them in order.
    pub(crate) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        self.0.take()
    }
}
