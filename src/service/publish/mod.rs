//! Requests that publish: what is sent with POST becomes messages in Redis, or on the embedded bus.
//!
//! [`route`] and [`admin`] decide which requests are allowed, and to which channels; [`site`] does what both
//! have in common. A body is received ([`body`]), parsed into messages ([`message`]), and each is put into the
//! form that the clients of its channel read ([`encoding`]). [`once`] names what an `Idempotency-Key` stands
//! for, [`reply`] is the response, and [`refusal`] the reason if nothing was published.

mod admin;
mod body;
mod encoding;
mod message;
mod once;
mod refusal;
mod reply;
mod route;
mod site;

pub use admin::AdminPublishing;
pub(super) use refusal::PublishRefusal;
pub(super) use route::{is_foreign_page, respond};
