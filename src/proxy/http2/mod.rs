//! The HTTP/2 client (RFC 9113). Multiplexes requests of unrelated clients on one connection.
//!
//! Owns one connection: its task, its streams, both directions of flow control. Does not know
//! pools, retries or routes.
//!
//! One request must not harm the others. So only a connection error of the backend's, or the
//! socket, ends a connection; everything else is a stream error at most:
//!
//! - A client that does not read holds at most its own stream window, in octets and in memory, and
//!   nothing of the connection window ([`settings`], [`response`], [`window`]).
//! - A header block of any size is decoded to its end, to keep the HPACK dynamic table in sync;
//!   only its own response fails ([`header_block`], [`head`]).
//! - A connection on which a request has timed out in silence gets no more requests, and is closed
//!   unless the backend acknowledges a PING ([`shared`], [`liveness`]).
//! - A request that the backend has not processed, or of which nothing was written, is returned
//!   whole to be retried ([`reason`]).
//! - Many cancelled requests, or an ENHANCE_YOUR_CALM, do not break a connection: it just gets no
//!   further requests ([`reset_bucket`]).
//! - A response without content is complete with its head. A backend may end its stream later,
//!   within a second ([`lingering`]).
//! - A request body is sent only where a body that the backend does not read cannot stall it, and
//!   no more streams are opened than the backend allows ([`shared`]).
//!
//! Why not the crate `h2`: it is made for requests of one client. It closes the connection for a
//! header list of four times its limit, for the 101st empty DATA frame, for many small frames on a
//! stream that is not read, and for the 1,025th malformed response; it returns credit to the
//! connection only together with a stream, and does not return a request that was refused. Frames
//! and HPACK are shared with the server.
//!
//! [`connection`] is the handle, [`driver`] the task with the socket, [`multiplexer`] the state of all
//! streams: [`receive`] processes frames, [`send`] writes requests, [`measure`] lets windows grow.
//! [`stream`] is the state of one stream.

mod connection;
mod driver;
mod head;
mod header_block;
mod lingering;
mod liveness;
mod measure;
mod multiplexer;
mod reason;
mod receive;
mod reset_bucket;
mod response;
mod send;
mod settings;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod window;

pub(super) use self::connection::Http2Connection;
pub(super) use self::head::header_list_size;
pub(super) use self::reason::{LostRequest, Reason};
pub(super) use self::response::Http2Body;
