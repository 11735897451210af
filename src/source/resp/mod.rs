//! RESP, the protocol that Redis and its clients speak: bytes to values, and back.
//!
//! [`Decoder`] reads the values that a server sends, RESP2 and RESP3; [`RequestDecoder`] the
//! commands that clients send; [`encode()`] writes replies, and [`command`] commands. The decoders are
//! incremental and know no socket: the caller hands over its buffer. What a value means (a message, a
//! reply, a command) is known above.
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

pub use decoder::Decoder;
pub use encode::{Protocol, command, encode};
pub use error::ProtocolError;
pub use limits::Limits;
pub use request::{Request, RequestDecoder};
pub use value::Value;
