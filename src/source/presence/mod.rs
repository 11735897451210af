//! Who listens to a channel, over all gateways.
//!
//! A stream on a route with `presence` joins its channels in the table of this gateway ([`local`]), and leaves them
//! when it ends: short locks, whichever thread it is on. One task tells the store what has changed there, many changes
//! at once, and asks it what requests want to know: Redis, where the gateways of a fleet meet
//! ([`redis::presence`](super::redis)), or the memory of this process beside the embedded bus ([`memory`]).
//!
//! A stream is never closed and never waits because of it.

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
