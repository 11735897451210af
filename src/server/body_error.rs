//! The error of a body.

/// Any error of a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
