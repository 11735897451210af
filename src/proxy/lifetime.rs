//! After how many requests a backend ends its connections over HTTP/2.
//!
//! nginx ends each one with a GOAWAY after `keepalive_requests`. What is sent while that is on its way
//! has to be sent again, and waits for a new connection. So the number is learned: a connection takes
//! no more requests than that, and the next one is open before.

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    // After how many requests the last connection was ended.
    last: Option<u32>,
    // Whether the one before was ended after as many: once may be chance, a restart for example.
    is_confirmed: bool,
}

impl Lifetime {
    /// The backend has ended a connection after so many requests, while it was in use.
    pub(super) fn ended_after(&mut self, requests: u32) {
        self.is_confirmed = self.last == Some(requests) && requests > 0;
        self.last = Some(requests);
    }

    /// A connection has processed so many requests, and the backend has not ended it.
    pub(super) fn lived_to(&mut self, requests: u32) {
        if self.is_confirmed && self.last.is_some_and(|last| requests >= last) {
            *self = Self::default();
        }
    }

    /// How many requests more a connection takes after so many.
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
    fn a_number_that_repeats_is_kept_to() {
        let mut lifetime = Lifetime::default();
        lifetime.ended_after(100);
        assert_eq!(lifetime.left(99), usize::MAX, "may be chance");
        lifetime.ended_after(100);
        assert_eq!([lifetime.left(0), lifetime.left(99), lifetime.left(100)], [100, 1, 0]);
    }

    #[test]
    fn a_backend_that_is_stopped_now_and_then_teaches_nothing() {
        let mut lifetime = Lifetime::default();
        for requests in [3, 1, 700, 0, 0] {
            lifetime.ended_after(requests);
            assert_eq!(lifetime.left(10_000), usize::MAX);
        }
    }

    #[test]
    fn a_backend_that_was_given_another_number_is_followed() {
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
