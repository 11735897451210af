//! The text of an event stream (WHATWG HTML, "Server-sent events"). Pure: bytes in, bytes out.
//!
//! [`encode`] writes it in frames ([`frame`](mod@frame)), [`parse`] reads it. Neither knows HTTP, channels or time.

pub mod encode;
pub mod frame;
pub mod parse;
