#![doc = include_str!("../README.md")]

mod append;
mod id;
mod recorder;
mod rules;
mod timeline;

pub use append::{AppendAnswer, AppendRequest, LogItem, LogStore};
pub use id::RecordId;
pub use recorder::{AppendKind, ChannelRecorder};
pub use rules::RecordRule;
#[cfg(feature = "mutations")]
pub use rules::without;
pub use timeline::{MarkReceived, Timeline};
