//! Publishes messages on behalf of requests over HTTP: to Redis, or on the embedded bus.
//!
//! A request runs on the thread of a shard or of the admin listener; the way to Redis, and the bus, are on
//! the thread of the source. So a [`PublicationJob`] crosses over on a bounded channel: a [`Publisher`] is
//! the sending end, and [`publish_on_bus`] or [`RedisPublisher`] the receiving one.
//!
//! Knows neither HTTP nor routes.
//!
//! [`RedisPublisher`]: crate::source::redis::RedisPublisher

mod bus;
mod divided;
mod kept_results;
mod publication;
mod publisher;

pub(crate) use bus::publish_on_bus;
pub(crate) use divided::DividedOutcome;
pub use publication::{
    IdempotencyKey, JobResult, NotPublished, Publication, PublicationKind, PublicationOutcome,
    Receipt,
};
pub use publisher::{PublicationJob, Publisher, Reservation};
