//! One stream with channels at several servers: its parts are the streams at each server. Each sharded channel is a
//! part.
//!
//! Each server has its own order, so each part has its own position, which other gateways know as that of any stream of
//! the server. The id of the whole stream has all positions ([`id`]), and is written into the text of the parts
//! ([`text`]). The parts know nothing of each other, and resume as if each were alone.

mod id;
pub(super) mod stream;
mod text;

pub(super) use self::id::{JoinedId, MAX_FLEET_PARTS, PartKey, UNKNOWN};
