//! Webhooks: the gateway reports to a server of the operator what has happened, with `POST`, JSON and a signature.
//!
//! A caller hands over a webhook ([`Webhooks`]) and never waits. One task sends ([`delivery`]): webhooks about one
//! channel in order, some channels at the same time, with retries after a failure, within bounds ([`queue`]), each by a task of its own ([`running`]). A
//! webhook that is given up is counted and logged.

mod call;
mod delivery;
mod queue;
mod running;
mod signature;

pub(crate) use call::WebhookCall;
pub use call::{Webhook, WebhookEvent};
pub(crate) use delivery::Webhooks;
