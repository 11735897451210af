//! Shared streams: event streams of a backend that several readers have together (`share` of a proxy route).
//!
//! Says which requests may have a stream together ([`question`]; the others are [`alone`]), and which responses may be
//! given to all of them ([`response`]). The backend is sent what is in the key of a stream and nothing else of any
//! request, so that what it responds cannot be one reader's alone.

pub(super) mod alone;
mod credential;
pub(super) mod origin;
pub(super) mod question;
pub(super) mod response;
