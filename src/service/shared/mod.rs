//! Shared streams: event streams of a backend that several readers have together (`share` of a proxy route).
//!
//! Says which requests may have a stream together ([`question`]; the others are [`alone`]), and which responses may be
//! given to all of them ([`response`]). The backend is sent what is in the key of a stream and nothing else of any
//! request, so that what it responds cannot be one reader's alone.
//!
//! All streams of the process are in [`upstreams`]. Each ([`upstream`], with its [`readers`]) has a task that asks the backend and reads its
//! events ([`pump`]). It hands them over ([`piece`]) to the thread of the hubs, where the [`source`] makes them events of
//! a hub that has no others: readers are served from there as those of an events route.

pub(super) mod alone;
mod credential;
pub(super) mod origin;
mod piece;
pub(super) mod pump;
pub(super) mod question;
pub(super) mod readers;
pub(super) mod response;
pub(super) mod source;
pub(super) mod upstream;
pub(super) mod upstreams;
