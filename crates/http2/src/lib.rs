#![doc = include_str!("../README.md")]
//!
//! # The modules
//!
//! [`Http2Server`] is how a connection calls its server. A [`Connection`] reads octets, cuts them into frames
//! and processes them; the responses of streams become frames in a buffer that the thread shares.
//!
//! | module | owns |
//! | --- | --- |
//! | [`frame`], [`error`], [`settings`] | the wire format of frames, error codes, SETTINGS |
//! | [`hpack`], [`header_list`], [`authority`], [`protocol`] | header blocks, and the request in one |
//! | [`field_value`] | values of header fields, the same in every version of HTTP |
//! | [`connection`], [`wake_queue`] | the loop of a connection, and which parts of it were woken |
//! | [`stream`], [`body_receiver`], [`body`] | a stream, its receiving side, its request body |
//! | [`interim`], [`stream_abort`], [`request_error`] | interim responses, resets from outside, refusals |
//! | [`receive_window`], [`consumed`] | the connection's receive window, and what returns to it |
//! | [`window_measurement`] | whether a receive window limits its sender |
//! | [`sender`], [`output`], [`read_buffer`] | frames to the client, and buffers of the thread |
//! | [`bulk_window`] | the limit on large responses beside events |
//! | [`budget`], [`resets`], [`abuse`], [`keep_alive`] | limits on clients that flood, reset or stall |
//!
//! A client of HTTP/2 can use the modules that are the same on both sides: [`frame`], [`error`], [`hpack`],
//! [`authority`], [`field_value`], [`output`], [`read_buffer`], [`wake_queue`] and [`window_measurement`] are
//! public.

mod abuse;
pub mod authority;
mod body;
mod body_receiver;
mod budget;
mod bulk_window;
mod connection;
mod consumed;
pub mod error;
pub mod field_value;
pub mod frame;
mod header_list;
pub mod hpack;
mod interim;
mod keep_alive;
pub mod output;
mod protocol;
pub mod read_buffer;
mod receive_window;
mod request_error;
mod resets;
mod sender;
mod server;
mod settings;
mod stream;
mod stream_abort;
pub mod wake_queue;
pub mod window_measurement;

pub use abuse::{AbuseReason, ResetReason};
pub use body::{IncomingBody, IncompleteBody};
pub use connection::Connection;
pub use interim::InterimQueue;
pub use keep_alive::{KeepAliveCheck, KeepAliveState};
pub use protocol::ConnectProtocol;
pub use request_error::RequestError;
pub use server::{Http2Server, ResponseKind};
pub use settings::Http2Settings;
pub use stream_abort::StreamAbortHandle;

use http::header::{self, HeaderName};

/// Connection-specific header fields, which HTTP/2 does not allow (RFC 9113, section 8.2.2).
pub const CONNECTION_SPECIFIC: [HeaderName; 5] = [
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
