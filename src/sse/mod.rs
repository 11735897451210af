//! The text of an event stream (WHATWG HTML, "Server-sent events"). Pure: bytes in, bytes out.
//!
//! [`encode`] writes it in frames ([`frame`](mod@frame)), [`parse`] reads it, [`place`] follows its
//! lines, [`interject`] puts comments into one that somebody else writes, and [`tail`] ends one that
//! somebody else began. None knows HTTP, channels or time.

pub mod encode;
pub mod frame;
pub mod interject;
pub mod parse;
pub mod place;
pub mod tail;
