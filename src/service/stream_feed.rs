//! What feeds the body of a stream: the hub of one server, or those of several.

use std::task::{Context, Poll};

use bytes::Bytes;
use ssegate_hub::{CloseReason, ResumedFrom, Subscriber};
use ssegate_sse::frame::Form;

use super::joined::stream::JoinedStream;
use super::stream_stopper::StreamStopper;

/// What feeds the body of a stream.
#[derive(Debug)]
pub(super) enum StreamFeed {
    /// All channels are at one server.
    One(Subscriber),
    /// They are at several.
    // Boxed, since it would determine the memory of every stream.
    Joined(Box<JoinedStream>),
}

/// Calls the same method of either.
macro_rules! of_either {
    ($feed:expr, $method:ident $(, $argument:expr)*) => {
        match $feed {
            StreamFeed::One(one) => one.$method($($argument),*),
            StreamFeed::Joined(joined) => joined.$method($($argument),*),
        }
    };
}

impl StreamFeed {
    /// As [`Subscriber::poll_next`].
    #[inline]
    pub(super) fn poll_next(&mut self, form: Form, context: &Context<'_>) -> Poll<Option<Bytes>> {
        of_either!(self, poll_next, form, context)
    }

    /// As [`Subscriber::note_progress`].
    pub(super) fn note_progress(&self) {
        of_either!(self, note_progress);
    }

    /// As [`Subscriber::keep_alive_now`].
    pub(super) fn keep_alive_now(&self) {
        of_either!(self, keep_alive_now);
    }

    /// Returns a handle that ends it from outside.
    pub(super) fn stopper(&self) -> StreamStopper {
        match self {
            Self::One(one) => one.ender().into(),
            Self::Joined(joined) => {
                let enders = joined.enders();
                StreamStopper::of(move |reason| enders.iter().for_each(|ender| ender.end(reason)))
            }
        }
    }

    /// As [`Subscriber::close_reason`].
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        of_either!(self, close_reason)
    }

    /// As [`Subscriber::events_taken`].
    pub(super) fn events_taken(&self) -> u64 {
        of_either!(self, events_taken)
    }

    /// As [`Subscriber::bytes_taken`].
    pub(super) fn bytes_taken(&self) -> u64 {
        of_either!(self, bytes_taken)
    }

    /// As [`Subscriber::channels`].
    pub(super) fn channels(&self) -> usize {
        of_either!(self, channels)
    }

    /// As [`Subscriber::resumed_from`].
    pub(super) fn resumed_from(&self) -> Option<ResumedFrom> {
        of_either!(self, resumed_from)
    }
}

impl From<Subscriber> for StreamFeed {
    fn from(subscriber: Subscriber) -> Self {
        Self::One(subscriber)
    }
}
