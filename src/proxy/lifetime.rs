//! The number of requests after which a backend closes an HTTP/2 connection.
//!
//! nginx sends a GOAWAY after `keepalive_requests` requests. Requests that cross the GOAWAY have to
//! be retried, and wait for a new connection. So the limit is learned: a connection is given no
//! more requests than that, and the next one is opened in advance.

/// The limit, as far as it has been observed.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    // Requests on the last connection that the backend closed.
    last: Option<u32>,
    // Whether the one before had the same number. A single observation may be chance, such as a
    // restart.
    is_confirmed: bool,
}

impl Lifetime {
    /// The backend has sent a GOAWAY after this many requests, while the connection was in use.
    pub(super) fn ended_after(&mut self, requests: u32) {
        self.is_confirmed = self.last == Some(requests) && requests > 0;
        self.last = Some(requests);
    }

    /// A connection has processed this many requests without a GOAWAY.
    pub(super) fn lived_to(&mut self, requests: u32) {
        if self.is_confirmed && self.last.is_some_and(|last| requests >= last) {
            *self = Self::default();
        }
    }

    /// How many more requests to send on a connection that has carried `requests`.
    pub(super) fn left(&self, requests: u32) -> usize {
        match self.last {
            Some(last) if self.is_confirmed => last.saturating_sub(requests) as usize,
            _ => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lifetime;

    #[test]
    fn a_limit_that_repeats_is_respected() {
        let mut lifetime = Lifetime::default();
        lifetime.ended_after(100);
        assert_eq!(lifetime.left(99), usize::MAX, "one observation may be chance");
        lifetime.ended_after(100);
        assert_eq!([lifetime.left(0), lifetime.left(99), lifetime.left(100)], [100, 1, 0]);
    }

    #[test]
    fn restarts_of_the_backend_are_not_taken_for_a_limit() {
        let mut lifetime = Lifetime::default();
        for requests in [3, 1, 700, 0, 0] {
            lifetime.ended_after(requests);
            assert_eq!(lifetime.left(10_000), usize::MAX);
        }
    }

    #[test]
    fn a_changed_limit_is_learned_again() {
        let mut lifetime = Lifetime::default();
        lifetime.ended_after(100);
        lifetime.ended_after(100);
        lifetime.lived_to(99);
        assert_eq!(lifetime.left(99), 1);
        lifetime.lived_to(100);
        assert_eq!(lifetime.left(100), usize::MAX);
        lifetime.ended_after(50);
        lifetime.ended_after(50);
        assert_eq!(lifetime.left(0), 50);
    }
}
