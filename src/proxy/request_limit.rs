//! The number of requests after which a backend closes an HTTP/2 connection.
//!
//! nginx sends a GOAWAY after `keepalive_requests` requests. Requests that cross the GOAWAY have to
//! be retried, and wait for a new connection. So the limit is learned: a connection is given no
//! more requests than that, and the next one is opened in advance.

/// The limit, as far as it has been observed.
#[derive(Debug, Default)]
pub(super) struct RequestLimit {
    // Requests on the last connection that the backend closed.
    last: Option<u32>,
    // Whether the one before had the same number. A single observation may be chance, such as a
    // restart.
    is_confirmed: bool,
}

impl RequestLimit {
    /// The backend has sent a GOAWAY after this many requests, while the connection was in use.
    pub(super) fn goaway_after(&mut self, requests: u32) {
        self.is_confirmed = self.last == Some(requests) && requests > 0;
        self.last = Some(requests);
    }

    /// A connection has processed this many requests without a GOAWAY.
    pub(super) fn survived(&mut self, requests: u32) {
        if self.is_confirmed && self.last.is_some_and(|last| requests >= last) {
            *self = Self::default();
        }
    }

    /// How many more requests to send on a connection that has carried `requests`.
    pub(super) fn remaining(&self, requests: u32) -> usize {
        match self.last {
            Some(last) if self.is_confirmed => last.saturating_sub(requests) as usize,
            _ => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RequestLimit;

    #[test]
    fn a_limit_that_repeats_is_respected() {
        let mut limit = RequestLimit::default();
        limit.goaway_after(100);
        assert_eq!(limit.remaining(99), usize::MAX, "one observation may be chance");
        limit.goaway_after(100);
        assert_eq!([limit.remaining(0), limit.remaining(99), limit.remaining(100)], [100, 1, 0]);
    }

    #[test]
    fn restarts_of_the_backend_are_not_taken_for_a_limit() {
        let mut limit = RequestLimit::default();
        for requests in [3, 1, 700, 0, 0] {
            limit.goaway_after(requests);
            assert_eq!(limit.remaining(10_000), usize::MAX);
        }
    }

    #[test]
    fn a_changed_limit_is_learned_again() {
        let mut limit = RequestLimit::default();
        limit.goaway_after(100);
        limit.goaway_after(100);
        limit.survived(99);
        assert_eq!(limit.remaining(99), 1);
        limit.survived(100);
        assert_eq!(limit.remaining(100), usize::MAX);
        limit.goaway_after(50);
        limit.goaway_after(50);
        assert_eq!(limit.remaining(0), 50);
    }
}
