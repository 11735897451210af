//! Whether Redis was there all the time, so that a lease which is over says that its gateway has died.
//!
//! If Redis is away for everybody, no gateway can renew its leases. This one finds that out also while it asks for nothing
//! itself: it sends `PING`s. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// After a time in which Redis was not heard, how long nobody's lease is taken to be over. Longer than a lease.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often Redis is asked whether it is there.
const PING: Duration = Duration::from_secs(1);
/// How long Redis may be silent, with [`PING`] in it. Much shorter than what is left of a lease that was just renewed.
const MAX_SILENCE: Duration = Duration::from_millis(2500);

/// What was heard of Redis.
#[derive(Debug)]
pub(super) struct RedisHearing {
    // Since when it was there without a break.
    since: Instant,
    heard: Instant,
    ping_at: Instant,
    // Replies to `PING` that are due.
    awaited: usize,
}

impl RedisHearing {
    /// It is heard from now on.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, heard: now, ping_at: now + PING, awaited: 0 }
    }

    /// When to send the next `PING`; `None`: when those before are replied to.
    pub(super) fn ping_at(&self) -> Option<Instant> {
        (self.awaited == 0).then_some(self.ping_at)
    }

    /// So many were sent, to all nodes that are connected.
    pub(super) fn pinged(&mut self, now: Instant, nodes: usize) {
        (self.awaited, self.ping_at) = (nodes, now + PING);
        if nodes == 0 {
            self.broke(now);
        }
    }

    /// One was replied to, or (`false`) will not be.
    pub(super) fn replied(&mut self, now: Instant, has_reply: bool) {
        self.awaited = self.awaited.saturating_sub(1);
        if !has_reply {
            self.broke(now);
        } else if self.awaited == 0 {
            if now > self.heard + MAX_SILENCE {
                self.since = now;
            }
            self.heard = now;
        }
    }

    /// A connection was lost, or is new.
    pub(super) fn broke(&mut self, now: Instant) {
        (self.since, self.heard) = (now, now);
    }

    /// Whether a lease that is over says that its gateway has died.
    pub(super) fn may_end(&self, now: Instant) -> bool {
        now >= self.since + PATIENCE && now <= self.heard + MAX_SILENCE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{MAX_SILENCE, PATIENCE, PING, RedisHearing};

    /// Heard each second until then.
    fn heard_until(hearing: &mut RedisHearing, (from, to): (Instant, Instant)) {
        let mut now = from;
        while now < to {
            now += PING;
            hearing.pinged(now, 1);
            hearing.replied(now, true);
        }
    }

    #[test]
    fn leases_end_only_while_redis_was_heard_all_the_time() {
        let start = Instant::now();
        let mut hearing = RedisHearing::new(start);
        assert_eq!(hearing.ping_at(), Some(start + PING));
        assert!(!hearing.may_end(start + PATIENCE), "nothing was heard");
        let heard = start + PATIENCE;
        heard_until(&mut hearing, (start, heard));
        assert!(hearing.may_end(heard));
        // It falls silent, which this gateway notices though it asks for nothing.
        hearing.pinged(heard + PING, 1);
        assert_eq!(hearing.ping_at(), None);
        assert!(hearing.may_end(heard + MAX_SILENCE));
        let moment = Duration::from_millis(1);
        assert!(!hearing.may_end(heard + MAX_SILENCE + moment));
        let back = heard + 2 * MAX_SILENCE;
        hearing.replied(back, true);
        assert!(!hearing.may_end(back), "other gateways have to say first that they are there");
        heard_until(&mut hearing, (back, back + PATIENCE));
        assert!(hearing.may_end(back + PATIENCE));
    }

    #[test]
    fn all_nodes_have_to_reply() {
        let start = Instant::now();
        let mut hearing = RedisHearing::new(start);
        heard_until(&mut hearing, (start, start + PATIENCE));
        let now = start + PATIENCE;
        hearing.pinged(now + PING, 2);
        hearing.replied(now + PING, true);
        assert_eq!(hearing.ping_at(), None, "one of two");
        assert!(hearing.may_end(now + PING));
        hearing.replied(now + PING, false);
        assert!(!hearing.may_end(now + PING), "the other one is lost");
        assert_eq!(hearing.ping_at(), Some(now + 2 * PING));
    }
}
