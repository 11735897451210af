//! The control channel: how gateways tell each other of revocations.
//!
//! [`reader`] acts upon messages, whichever source they come from; [`publisher`] hands those of this gateway
//! to the task that publishes them. With Redis that is [`redis::control`](super::redis); the embedded bus
//! ([`bus`]) has only this gateway.

pub(crate) mod bus;
mod publisher;
mod reader;

pub(crate) use publisher::OutgoingRevocation;
pub use publisher::{ControlPublisher, PublishedRevocation};
pub(crate) use reader::ControlReader;
