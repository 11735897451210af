//! HTTP/2 to a backend (RFC 9113): many requests, of clients that know nothing of each other, on one
//! connection.
//!
//! What one of them does must not harm the others. So only a backend that breaks the protocol, or the
//! socket, ends a connection; everything else ends one stream:
//!
//! - A client that does not read holds no more than the window of its own stream, in octets and in
//!   memory, and nothing of the connection's ([`settings`], [`response`], [`window`]).
//! - A header block of any size is decoded to its end, and only its own response fails
//!   ([`header_block`], [`head`]).
//! - A connection that falls silent is given no more requests as soon as one has timed out on it, and
//!   ends unless the backend answers a PING ([`link`], [`liveness`]).
//! - A request that the backend has not processed comes back to its sender, whole ([`reason`]), and so
//!   does one of which nothing was written.
//! - Requests that are taken back, or refused to calm us, end no connection: it is given no more of
//!   them ([`resets`]).
//! - A body is sent only where it cannot be held up by one that the backend does not read, and no more
//!   streams are opened than the backend takes ([`link`]).
//!
//! The crate `h2` is a client for requests that belong together. It ends the connection for a header
//! list of four times its limit, for the 101st empty DATA frame, for many small frames on a stream
//! that is not read, and for its 1,025th malformed response; it credits a connection only together
//! with a stream, and does not give back a request that was refused. Hence this one, which shares the
//! bytes on the wire, frames and HPACK, with our server.
//!
//! [`connection`] is the handle, [`driver`] the task, [`receive`] what each frame does, [`send`] what
//! becomes of a request, [`stream`] one of them, [`liveness`] whether the backend is still there.

mod connection;
mod driver;
mod head;
mod header_block;
mod link;
mod liveness;
mod reason;
mod receive;
mod resets;
mod response;
mod send;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod window;

pub(super) use self::connection::Connection;
pub(super) use self::head::header_list_size;
pub(super) use self::reason::{Lost, Reason};
pub(super) use self::response::Incoming;
