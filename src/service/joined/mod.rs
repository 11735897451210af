//! One stream out of several servers: its parts are the streams of the channels at each. Of sharded channels each is a part.
//!
//! Each server has its own order, so each part has its own position, which other gateways know as that of any stream of the
//! server. The id of the whole names them all ([`id`]), written into what the parts say ([`text`]); the parts themselves know
//! nothing of each other, and resume as if each were alone.

mod id;
pub(super) mod stream;
mod text;

pub(super) use self::id::{JoinedId, MAX_FLEET_PARTS, PartKey, UNKNOWN};
