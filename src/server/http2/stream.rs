//! One stream: a request, and the response to it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::receiving::Receiving;
use crate::server::interim::InterimQueue;
use crate::server::running::RunningRequest;
use crate::server::stream_abort::StreamAbortHandle;

/// A stream that has not ended.
pub(super) struct Stream<B> {
    pub(super) stage: Stage<B>,
    /// What we may send, in octets; below 0 when the client has taken some of it back.
    pub(super) send_window: i64,
    /// Since when there is something to send, and no window for it.
    pub(super) blocked_since: Option<Instant>,
    pub(super) receiving: Receiving,
    pub(super) precedence: Precedence,
    pub(super) waker: Waker,
    pub(super) begun: Instant,
    // Dropped with the stream: until then its request runs.
    pub(super) _running: RunningRequest,
}

/// A client that has been answered, and sends nothing for so long, has stopped to send. It may wait
/// for us to say that we have seen it: curl 7.88 does.
const ANSWERED_PAUSE: Duration = Duration::from_secs(1);

/// How far the response has come.
pub(super) enum Stage<B> {
    /// The request is being handled. Boxed: freed with the answer, which may then run for hours.
    Handling {
        future: Pin<Box<dyn Future<Output = Response<B>>>>,
        switch: StreamAbortHandle,
        interim: Rc<InterimQueue>,
        /// Whether it is a HEAD: an answer in place of this one has no body either.
        is_head: bool,
    },
    /// The body is being sent.
    Sending {
        body: B,
        /// What has been taken out of the body, and is not sent yet.
        next: Next,
    },
    /// The response has been sent, before the client has sent all of its request: the rest is thrown
    /// away for a while.
    Answered {
        /// When the response was complete.
        since: Instant,
        /// When some of the request came last.
        heard: Instant,
    },
}

impl<B> Stage<B> {
    /// Some of the request has come.
    pub(super) fn heard(&mut self, now: impl FnOnce() -> Instant) {
        if let Self::Answered { heard, .. } = self {
            *heard = now();
        }
    }

    /// Of a response that has been sent: whether the rest of its request is waited for no longer.
    /// `None`: of any other.
    pub(super) fn is_waited_out(&self, now: Instant, at_most: Duration) -> Option<bool> {
        let &Self::Answered { since, heard } = self else { return None };
        Some(now >= since + at_most || now >= heard + ANSWERED_PAUSE)
    }
}

/// Which response is sent first, where several streams have something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precedence {
    /// A stream of events: never waits for bulk.
    Events,
    /// Another response, as long as it is short.
    Other,
    /// One that had more to send than leaves at once: comes behind all others.
    Bulk,
}

/// What is sent next.
#[derive(Debug)]
pub(super) enum Next {
    /// The body is to be asked.
    Ask,
    /// These bytes, and then the end of the stream where `is_last`.
    Data { rest: Bytes, is_last: bool },
    /// These fields, and with them the end of the stream.
    // Boxed: hardly a stream has any, and every stream would hold the room.
    Trailers(Box<HeaderMap>),
}

/// The streams of a connection that have not ended, by their numbers.
// One stream is the common case where streams of events go: no table for that.
pub(super) enum Streams<B> {
    None,
    One(u32, Box<Stream<B>>),
    Many(FxHashMap<u32, Box<Stream<B>>>),
}

impl<B> Stream<B> {
    /// It had more to send than leaves at once; returns whether it comes behind others from now on.
    pub(super) fn becomes_bulk(&mut self) -> bool {
        if self.precedence == Precedence::Other {
            self.precedence = Precedence::Bulk;
        }
        self.precedence == Precedence::Bulk
    }
}

impl<B> Streams<B> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(streams) => streams.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stream that has the connection to itself.
    pub(super) fn alone(&self) -> Option<u32> {
        match self {
            &Self::One(id, _) => Some(id),
            Self::None | Self::Many(_) => None,
        }
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        match self {
            Self::None => false,
            Self::One(one, _) => *one == id,
            Self::Many(streams) => streams.contains_key(&id),
        }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream<B>> {
        match self {
            Self::One(one, stream) if *one == id => Some(stream),
            Self::One(..) | Self::None => None,
            Self::Many(streams) => streams.get_mut(&id).map(|stream| &mut **stream),
        }
    }

    pub(super) fn insert(&mut self, id: u32, stream: Box<Stream<B>>) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(id, stream),
            Self::One(other, another) => {
                Self::Many([(other, another), (id, stream)].into_iter().collect())
            }
            Self::Many(mut streams) => {
                streams.insert(id, stream);
                Self::Many(streams)
            }
        };
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Box<Stream<B>>> {
        match std::mem::replace(self, Self::None) {
            Self::One(one, stream) if one == id => Some(stream),
            Self::Many(mut streams) => {
                let removed = streams.remove(&id);
                if !streams.is_empty() {
                    *self = Self::Many(streams);
                }
                removed
            }
            other => {
                *self = other;
                None
            }
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Stream<B>)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(id, stream) => (Some((*id, &mut **stream)), None),
            Self::Many(streams) => (None, Some(streams)),
        };
        let many = many.into_iter().flatten().map(|(&id, stream)| (id, &mut **stream));
        one.into_iter().chain(many)
    }
}

/// The streams that ended last: what a client still sends on them was underway.
#[derive(Debug, Default)]
pub(super) struct Ended(Vec<(u32, How)>);

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Both sides have said all.
    Complete,
    /// The client took it back.
    Reset,
    /// We did.
    ResetByUs,
}

/// So many are remembered.
const MAX_ENDED: usize = 32;

impl Ended {
    pub(super) fn note(&mut self, stream: u32, how: How) {
        if self.0.len() == MAX_ENDED {
            self.0.remove(0);
        }
        self.0.push((stream, how));
    }

    /// Whether there were more than are remembered.
    pub(super) fn forgets(&self) -> bool {
        self.0.len() == MAX_ENDED
    }

    pub(super) fn find(&self, stream: u32) -> Option<How> {
        self.0.iter().rev().find(|(ended, _)| *ended == stream).map(|&(_, how)| how)
    }
}
