//! Ends an open stream or tunnel from outside its body.

use std::fmt;
use std::rc::Rc;

use ssegate_hub::{CloseReason, StreamEnder};

/// Ends an open stream or tunnel. A cheap handle, which does not keep it open.
#[derive(Clone)]
pub(super) enum StreamStopper {
    /// A stream of the hub: the usual case, without memory of its own.
    Hub(StreamEnder),
    /// Anything else.
    Other(Rc<dyn Fn(CloseReason)>),
}

impl StreamStopper {
    /// Creates a stopper that calls `stop`.
    pub(super) fn of(stop: impl Fn(CloseReason) + 'static) -> Self {
        Self::Other(Rc::new(stop))
    }

    /// Ends it. Does nothing once it has ended.
    pub(super) fn stop(&self, reason: CloseReason) {
        match self {
            Self::Hub(ender) => ender.end(reason),
            Self::Other(stop) => stop(reason),
        }
    }
}

impl From<StreamEnder> for StreamStopper {
    fn from(ender: StreamEnder) -> Self {
        Self::Hub(ender)
    }
}

impl fmt::Debug for StreamStopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamStopper").finish_non_exhaustive()
    }
}
