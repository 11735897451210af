//! A connection that only receives what is published, and detects by itself that it is dead.

use ssegate_hub::Subscription;
use ssegate_resp::Value;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::connection::RedisConnection;
use super::error::SourceError;
use super::session::describe;
use super::silence::{SILENCE_INTERVAL, Silence};

/// A pub/sub connection with one subscription.
#[derive(Debug)]
pub(super) struct ListeningConnection {
    connection: RedisConnection,
    silence: Silence,
    liveness: Interval,
    is_ping_pending: bool,
}

impl ListeningConnection {
    /// Subscribes a connection that has no subscriptions yet.
    ///
    /// # Errors
    /// The subscription is refused, or the connection is lost.
    pub(super) async fn subscribe(
        mut connection: RedisConnection,
        followed: &Subscription,
    ) -> Result<Self, SourceError> {
        let subscribed = connection.subscribe(followed).await;
        subscribed.map_err(|error| error.for_command(describe(followed)))?;
        let mut liveness = interval(SILENCE_INTERVAL);
        liveness.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silence = Silence::new(Instant::now());
        Ok(Self { connection, silence, liveness, is_ping_pending: false })
    }

    /// The parts of the next push message. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost or silent, or Redis refuses what it takes for a command.
    pub(super) async fn next(&mut self) -> Result<Vec<Value>, SourceError> {
        loop {
            tokio::select! {
                value = self.connection.read_value() => {
                    self.silence.end(Instant::now());
                    match value? {
                        Value::Push(parts) => return Ok(parts),
                        Value::Error(message) => {
                            let message = String::from_utf8_lossy(&message).into();
                            return Err(SourceError::Refused(message));
                        }
                        _pong => self.is_ping_pending = false,
                    }
                }
                _ = self.liveness.tick() => {
                    if self.silence.check(Instant::now())? && !self.is_ping_pending {
                        self.connection.queue("PING", [].into_iter());
                        self.is_ping_pending = true;
                    }
                }
            }
        }
    }
}
