//! Redis pub/sub.
