//! The text of an event stream (WHATWG HTML, "Server-sent events"). Pure: bytes in, bytes out.
//!
//! [`encode`] writes it in frames ([`frame`](mod@frame)), [`parse`] reads it, [`place`] follows its
//! lines, and [`interject`] puts comments into one that somebody else writes. None knows HTTP,
//! channels or time.

pub mod encode;
pub mod frame;
pub mod interject;
pub mod parse;
pub mod place;
