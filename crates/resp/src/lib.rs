#![doc = include_str!("../README.md")]

mod aggregate;
mod decoder;
mod encode;
mod error;
mod inline;
mod limits;
mod number;
mod payload;
mod request;
mod string;
#[cfg(test)]
mod tests;
mod value;

pub use decoder::ValueDecoder;
pub use encode::{RespVersion, encode, encode_command, encode_words};
pub use error::ProtocolError;
pub use limits::Limits;
pub use payload::Payload;
pub use request::{Request, RequestDecoder};
pub use value::Value;
