//! HTTP/1.1 beside hyper: what hyper does not do, done to the bytes that it reads and writes.
//!
//! [`heads`] lets a head have more fields than hyper reads, and keeps what hyper forgets of a
//! response. [`requests`] gives hyper one request after the other, each as far as its [`framing`] says.
//! [`socket`] is the client's connection as hyper sees it, and [`exchange`] what it and
//! the handler of a request know of each other; [`leftover`] is what nobody reads of a request, and
//! [`half_closed`] a client that only waits for its response.

pub(super) mod exchange;
mod framing;
pub(super) mod half_closed;
pub(crate) mod heads;
pub(super) mod leftover;
mod requests;
pub(super) mod socket;
