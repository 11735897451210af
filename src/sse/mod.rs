//! The text of an event stream (WHATWG HTML, "Server-sent events"). Pure: bytes in, bytes out.
//!
//! [`parse`] reads it. It knows neither HTTP nor channels nor time.

pub mod parse;
