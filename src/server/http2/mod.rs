//! HTTP/2 (RFC 9113), from the socket to requests and back: ours, because events leave through it.
//!
//! One task has the whole connection: an event on a stream wakes it once, is framed into a buffer
//! that the thread shares, and leaves in one write. Between two events a connection holds no buffer,
//! neither to read nor to write. Responses and requests stream both ways under the windows of their
//! streams.
//!
//! [`frame`] and [`hpack`] are the bytes; [`connection`] is the loop and [`ending`] how it ends;
//! [`reading`] cuts what comes into frames, out of a [`read_buffer`] that all share; [`receive`] is what
//! each frame of a client does, [`requests`] what a header block does and [`data`] what DATA does, [`send`]
//! what becomes of a response; [`stream`] is one stream, [`receiving`] the client's side of it, [`body`] the
//! way from there to who reads, [`head`] what is asked for; [`credit`] is what a client may send on all
//! streams, [`reads`] what of it was read, and [`growth`] how windows grow where [`measured`] tells that
//! they are too small; [`wakes`] tells who has something to do, [`output`] what waits for the socket;
//! [`bulk`] is what comes behind events, and [`pace`] how much of it may be on its way; [`budget`],
//! [`resets`] and
//! [`keep_alive`] bound what a client may do without being served.
//!
//! What is missing on purpose: server push, priorities (deprecated, section 5.3.2), and a dynamic
//! table for the fields that we send.

pub(crate) mod authority;
mod body;
mod budget;
mod bulk;
mod connection;
mod credit;
mod data;
mod ending;
pub(crate) mod error;
pub(crate) mod frame;
mod growth;
mod head;
pub(crate) mod hpack;
mod keep_alive;
pub(crate) mod measured;
pub(crate) mod output;
mod pace;
pub(crate) mod read_buffer;
mod reading;
mod reads;
mod receive;
mod receiving;
mod requests;
mod resets;
mod send;
mod settings;
mod stream;
pub(crate) mod wakes;

pub(super) use self::body::Incoming;
pub(super) use self::connection::Connection;
pub(super) use self::keep_alive::{Found, KeepAlive};

use http::header::{self, HeaderName};

/// What a client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Fields of one connection, which HTTP/2 does not have (RFC 9113, section 8.2.2).
pub(crate) const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Decodes header blocks of one connection, for the fuzz targets. The regular fields of each as lines,
/// and the heads that could be made; `None`, and the end, at what is no HPACK.
#[cfg(fuzzing)]
pub fn decode_header_blocks<'a>(
    blocks: impl Iterator<Item = &'a [u8]>,
) -> Vec<Option<(Vec<String>, Option<http::Request<()>>)>> {
    let mut decoder = hpack::Decoder::default();
    let mut decoded = Vec::new();
    for block in blocks {
        let (mut draft, mut lines) = (head::HeadDraft::new(16 << 10), Vec::new());
        let result = decoder.decode(block, |field| {
            if let (hpack::Name::Regular(name), Ok(value)) = (&field.name, field.strict_value()) {
                lines.push(format!("{name}: {}", value.as_bytes().escape_ascii()));
            }
            draft.take(field)
        });
        decoded.push(result.is_ok().then(|| (lines, draft.into_request().ok())));
        if result.is_err() {
            break;
        }
    }
    decoded
}
