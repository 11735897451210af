//! Whether Redis was reachable without a break, so that an expired lease proves that its gateway has died.
//!
//! While Redis is away for all, no gateway can renew its leases. To detect that even without calls of its own, this
//! gateway sends `PING`s. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// After a break, how long no lease counts as expired. Longer than a lease.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// How often a `PING` is sent.
const PING: Duration = Duration::from_secs(1);
/// How long Redis may be silent, [`PING`] included. Much shorter than the rest of a lease that was just renewed.
const MAX_SILENCE: Duration = Duration::from_millis(2500);

/// When Redis was reachable.
#[derive(Debug)]
pub(super) struct RedisReachability {
    // Since when it was reachable without a break.
    since: Instant,
    replied_at: Instant,
    ping_at: Instant,
    // The number of `PING`s whose replies are pending.
    awaited: usize,
}

impl RedisReachability {
    /// Starts with a Redis that is reachable from now on.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, replied_at: now, ping_at: now + PING, awaited: 0 }
    }

    /// When to send the next `PING`; `None` while replies are pending.
    pub(super) fn ping_at(&self) -> Option<Instant> {
        (self.awaited == 0).then_some(self.ping_at)
    }

    /// Records that a `PING` was sent to each connected node.
    pub(super) fn pinged(&mut self, now: Instant, nodes: usize) {
        (self.awaited, self.ping_at) = (nodes, now + PING);
        if nodes == 0 {
            self.broke(now);
        }
    }

    /// Records the reply to a `PING`, or (`false`) that there will be none.
    pub(super) fn replied(&mut self, now: Instant, has_reply: bool) {
        self.awaited = self.awaited.saturating_sub(1);
        if !has_reply {
            self.broke(now);
        } else if self.awaited == 0 {
            if now > self.replied_at + MAX_SILENCE {
                self.since = now;
            }
            self.replied_at = now;
        }
    }

    /// A connection was lost, or is new.
    pub(super) fn broke(&mut self, now: Instant) {
        (self.since, self.replied_at) = (now, now);
    }

    /// Whether an expired lease proves that its gateway has died.
    pub(super) fn may_end(&self, now: Instant) -> bool {
        now >= self.since + LEASE_MARGIN && now <= self.replied_at + MAX_SILENCE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LEASE_MARGIN, MAX_SILENCE, PING, RedisReachability};

    /// Heard each second until then.
    fn reachable_until(redis: &mut RedisReachability, (from, to): (Instant, Instant)) {
        let mut now = from;
        while now < to {
            now += PING;
            redis.pinged(now, 1);
            redis.replied(now, true);
        }
    }

    #[test]
    fn leases_end_only_while_redis_was_heard_all_the_time() {
        let start = Instant::now();
        let mut redis = RedisReachability::new(start);
        assert_eq!(redis.ping_at(), Some(start + PING));
        assert!(!redis.may_end(start + LEASE_MARGIN), "nothing has replied");
        let replied_at = start + LEASE_MARGIN;
        reachable_until(&mut redis, (start, replied_at));
        assert!(redis.may_end(replied_at));
        // It falls silent, which this gateway notices though it asks for nothing.
        redis.pinged(replied_at + PING, 1);
        assert_eq!(redis.ping_at(), None);
        assert!(redis.may_end(replied_at + MAX_SILENCE));
        let moment = Duration::from_millis(1);
        assert!(!redis.may_end(replied_at + MAX_SILENCE + moment));
        let back = replied_at + 2 * MAX_SILENCE;
        redis.replied(back, true);
        assert!(!redis.may_end(back), "other gateways have to say first that they are there");
        reachable_until(&mut redis, (back, back + LEASE_MARGIN));
        assert!(redis.may_end(back + LEASE_MARGIN));
    }

    #[test]
    fn all_nodes_have_to_reply() {
        let start = Instant::now();
        let mut redis = RedisReachability::new(start);
        reachable_until(&mut redis, (start, start + LEASE_MARGIN));
        let now = start + LEASE_MARGIN;
        redis.pinged(now + PING, 2);
        redis.replied(now + PING, true);
        assert_eq!(redis.ping_at(), None, "one of two");
        assert!(redis.may_end(now + PING));
        redis.replied(now + PING, false);
        assert!(!redis.may_end(now + PING), "the other one is lost");
        assert_eq!(redis.ping_at(), Some(now + 2 * PING));
    }
}
