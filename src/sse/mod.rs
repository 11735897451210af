//! Event stream text (WHATWG HTML §9.2 "Server-sent events"): bytes in, bytes out.
//!
//! [`encode`] writes frames ([`frame`](mod@frame)), [`parse`] reads a stream, [`line_state`] tracks
//! its lines, [`comments`] inserts comments into a stream that a backend writes, and [`tail`]
//! completes a stream that a backend started. Does no I/O, and knows neither HTTP nor channels nor
//! time.

pub mod comments;
pub mod encode;
pub mod frame;
pub mod line_state;
pub mod parse;
pub mod tail;
