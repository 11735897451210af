//! How event streams that a backend writes end.

/// How the backend ended its event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendStreamEnd {
    /// With a complete body.
    Backend,
    /// With an error, before the end of the body.
    BackendFailed,
}

impl BackendStreamEnd {
    /// All values, so that the metric shows each from the start.
    pub const ALL: [Self; 2] = [Self::Backend, Self::BackendFailed];

    /// The label value in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend_ended",
            Self::BackendFailed => "backend_failed",
        }
    }
}
