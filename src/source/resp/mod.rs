//! RESP, the wire protocol of Redis: decodes and encodes its values.
//!
//! [`ValueDecoder`] decodes what a server sends, in RESP2 and RESP3; [`RequestDecoder`] decodes the
//! commands of clients; [`encode()`] encodes replies, and [`encode_command`] encodes commands. The
//! decoders are incremental and do no I/O: the caller passes its read buffer. What a value means (a
//! message, a reply, a command) is up to the caller.
//!
//! The protocol: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

mod aggregate;
mod decoder;
mod encode;
mod error;
mod inline;
mod limits;
mod number;
mod request;
mod string;
#[cfg(test)]
mod tests;
mod value;

pub use decoder::ValueDecoder;
pub use encode::{RespVersion, encode, encode_command};
pub use error::ProtocolError;
pub use limits::Limits;
pub use request::{Request, RequestDecoder};
pub use value::Value;
