//! Positions: where a stream stands, and from where on it is served when its client comes back.
//!
//! An event of pub/sub has a number of ours ([`event_id`]), an entry of a log the id that its source gave
//! it ([`log_positions`]). A [`Cursor`](cursor::Cursor) says where a stream stands in both; what a client
//! sends as its last event id becomes a [`Resume`](resume::Resume).

pub(super) mod cursor;
pub(super) mod event_id;
pub(super) mod foreign_id;
pub(super) mod log_positions;
pub(super) mod resume;
