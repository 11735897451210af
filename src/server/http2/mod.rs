//! An HTTP/2 server (RFC 9113) for responses that are streams.
//!
//! Owns a client's connection from the preface to the close: frames, HPACK, flow control, graceful
//! shutdown and the limits on abuse. Does not know what a request is for: a
//! [`Handler`](crate::server::connection::Handler) turns each request into a response, and the
//! bodies of both are streamed.
//!
//! One task owns the whole connection. An event on a stream wakes that task once, is framed into a
//! buffer that all connections of the thread share, and leaves in one write. An idle connection
//! holds neither a read nor a write buffer.
//!
//! | Module | Owns |
//! | --- | --- |
//! | [`frame`], [`error`], [`settings`] | the wire format of frames, error codes, SETTINGS |
//! | [`hpack`], [`header_list`], [`authority`] | header blocks, and the request in one |
//! | [`connection`], [`wake_queue`] | the loop of a connection, and which parts of it were woken |
//! | [`reading`], [`read_buffer`] | octets from the socket, cut into frames |
//! | [`receive`], [`requests`], [`data`] | what a received frame does; header blocks; DATA |
//! | [`stream`], [`body_receiver`], [`body`] | a stream, its receiving side, its request body |
//! | [`receive_window`], [`consumed`] | the connection's receive window, and what returns to it |
//! | [`growth`], [`window_measurement`] | receive windows that grow where they limit the client |
//! | [`send`], [`output`] | frames to the client, and the octets that wait for the socket |
//! | [`bulk`], [`bulk_window`] | large responses, and the limit on them beside events |
//! | [`budget`], [`resets`], [`keep_alive`] | limits on clients that flood, reset or stall |
//! | [`shutdown`] | graceful shutdown, connection errors, stream errors |
//!
//! Left out on purpose: server push, priorities (deprecated by section 5.3.2), and a dynamic table
//! for the header fields that we send (see [`hpack`]).

pub(crate) mod authority;
mod body;
mod body_receiver;
mod budget;
mod bulk;
mod bulk_window;
mod connection;
mod consumed;
mod data;
pub(crate) mod error;
pub(crate) mod frame;
mod growth;
mod header_list;
pub(crate) mod hpack;
mod keep_alive;
pub(crate) mod output;
pub(crate) mod read_buffer;
mod reading;
mod receive;
mod receive_window;
mod requests;
mod resets;
mod send;
mod settings;
mod shutdown;
mod stream;
pub(crate) mod wake_queue;
pub(crate) mod window_measurement;

pub(super) use self::body::IncomingBody;
pub(super) use self::connection::Connection;
pub(super) use self::keep_alive::{KeepAliveCheck, KeepAliveState};

use http::header::{self, HeaderName};

/// The client connection preface, which a client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Connection-specific header fields, which HTTP/2 does not allow (RFC 9113, section 8.2.2).
pub(crate) const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Decodes the header blocks of one connection, for the fuzz targets. Returns for each block its
/// regular fields as lines, and its request if it describes one. An invalid block yields `None` and
/// ends the list.
#[cfg(fuzzing)]
pub fn decode_header_blocks<'a>(
    blocks: impl Iterator<Item = &'a [u8]>,
) -> Vec<Option<(Vec<String>, Option<http::Request<()>>)>> {
    let mut decoder = hpack::HpackDecoder::default();
    let mut decoded = Vec::new();
    for block in blocks {
        let (mut list, mut lines) = (header_list::HeaderList::new(16 << 10), Vec::new());
        let result = decoder.decode(block, |field| {
            if let (hpack::FieldName::Regular(name), Ok(value)) =
                (&field.name, field.strict_value())
            {
                lines.push(format!("{name}: {}", value.as_bytes().escape_ascii()));
            }
            list.add(field)
        });
        decoded.push(result.is_ok().then(|| (lines, list.into_request().ok())));
        if result.is_err() {
            break;
        }
    }
    decoded
}
