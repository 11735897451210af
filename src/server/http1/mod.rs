//! HTTP/1.1 around hyper: what hyper does not do, done on the bytes it reads and writes.
//!
//! [`socket`] is the client's connection as hyper sees it. [`request_splitter`] splits pipelined
//! requests, so that hyper reads one at a time, each to the end that its [`framing`] gives.
//! [`head_filter`] lets a head have more fields than hyper accepts, and keeps what hyper drops of a
//! response. [`exchange`] is what the socket, the handler and the request body share. [`lingering`]
//! reads and discards bodies that nobody reads, [`refusal`] is the response to what hyper cannot read, and
//! [`half_closed`] is a client that has closed its sending side.

pub(super) mod exchange;
mod framing;
pub(super) mod half_closed;
pub(crate) mod head_filter;
pub(super) mod lingering;
pub(super) mod refusal;
mod request_splitter;
pub(super) mod socket;
