//! Shared streams: event streams of a backend that several readers have together (`share` of a proxy route).
//!
//! Decides which requests may share a stream ([`question`]; the others are [`alone`]), and which responses all of them
//! may get ([`response`]). The backend is sent what is in the key of a stream and nothing else of any request, so that
//! its response cannot be for one reader only.
//!
//! All streams of the process are in [`upstreams`]. Each ([`upstream`], with its [`readers`]) has a task that asks the
//! backend and reads its events ([`pump`]). The task hands them ([`piece`]) to the thread of the hubs, where the
//! [`source`] publishes them to a hub that has no other events: readers are served from there like those of an events
//! route.

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
