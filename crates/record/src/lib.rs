#![doc = include_str!("../README.md")]

mod append;
mod id;
mod recorder;
mod reference_log;
mod rules;
mod timeline;

pub use append::{AppendAnswer, AppendRequest, LogItem};
pub use id::RecordId;
pub use recorder::{AppendKind, ChannelRecorder};
pub use reference_log::ReferenceLog;
pub use rules::RecordRule;
#[cfg(feature = "mutations")]
pub use rules::without;
pub use timeline::{MarkReceived, Timeline};
