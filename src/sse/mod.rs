//! The text of an event stream (WHATWG HTML, "Server-sent events"). Pure: bytes in, bytes out.
//!
//! [`encode`] writes it, [`parse`] reads it. Neither knows HTTP, channels or time.

pub mod encode;
pub mod parse;
