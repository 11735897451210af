//! Where a stream stands.

pub(super) mod event_id;
pub(super) mod log_positions;
pub(super) mod resume;
