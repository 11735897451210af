#![doc = include_str!("../README.md")]

pub mod comments;
pub mod encode;
mod event;
pub mod frame;
pub mod line_state;
pub mod number;
pub mod parse;
pub mod tail;

pub use event::Event;
