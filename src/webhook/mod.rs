//! Webhooks: the gateway tells a server of the operator what has happened, with `POST`, JSON and a signature.
//!
//! Whoever has something to tell hands it over ([`Webhooks`]) and never waits. One task sends ([`delivery`]): those
//! of one channel in order, some channels side by side, and again after a failure, within bounds ([`queue`]). What is
//! given up is counted and logged.

mod call;
mod delivery;
mod queue;
mod signature;

pub(crate) use call::WebhookCall;
pub use call::{Webhook, WebhookEvent};
pub(crate) use delivery::Webhooks;
