//! Presence: the members of channels, over all gateways.
//!
//! A stream on a route with `presence` joins its channels in the table of this gateway ([`local`]), and leaves them
//! when it ends: short locks, on any thread. One task writes the changes of the table to the store, many at once, and
//! reads what requests ask for. The store is Redis, which the gateways of a fleet share
//! ([`redis::presence`](super::redis)), or the memory of this process beside the embedded bus ([`memory`]).
//!
//! Presence never closes a stream, and no stream waits for it.

mod change;
mod event;
mod local;
mod lookup;
mod member;
mod memory;
mod registry;
mod transition;
mod watched;

pub(crate) use change::{ChangeOutcome, ChannelChange, LeaseChange, MemberChange};
pub(crate) use event::shown_name;
pub(crate) use lookup::PresenceLookup;
pub use lookup::{ChannelPresence, PresenceAway, PresentMember};
pub(crate) use memory::keep_presence;
pub use registry::{Presence, PresentStream};
pub(crate) use registry::{PresenceLookups, PresenceWork};
pub(crate) use watched::WatchedRoute;
