//! The control channel: gateways publish revocations on it for each other.
//!
//! [`reader`] acts upon messages, whichever source they come from; [`publisher`] hands those of this gateway
//! to the task that publishes them. With Redis that is [`redis::control`](super::redis). On the embedded bus
//! ([`bus`]) there is only this gateway.

pub(crate) mod bus;
mod publisher;
mod reader;

pub(crate) use publisher::OutgoingRevocation;
pub use publisher::{ControlPublisher, PublishedRevocation};
pub(crate) use reader::ControlReader;
