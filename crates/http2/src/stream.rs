//! One stream: a request, and the response to it.
//!
//! Holds the state of a stream and of those that closed lately. What happens to it is decided in
//! [`connection`](super::connection).

use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::body_receiver::BodyReceiver;
use super::interim::InterimQueue;
use super::server::Http2Server;
use super::stream_abort::StreamAbortHandle;

/// A stream that is not closed.
pub(crate) struct Stream<S: Http2Server> {
    pub(crate) stage: ResponseStage<S::Body>,
    /// The send window, in octets. Below 0 if the client lowered SETTINGS_INITIAL_WINDOW_SIZE
    /// meanwhile.
    pub(crate) send_window: i64,
    /// Since when there is data to send and no send window.
    pub(crate) blocked_since: Option<Instant>,
    pub(crate) receiver: BodyReceiver,
    pub(crate) precedence: Precedence,
    pub(crate) waker: Waker,
    pub(crate) begun: Instant,
    // Dropped with the stream.
    pub(crate) _guard: S::StreamGuard,
}

/// A client that has the response, and sends nothing of its request for this long, has stopped. It
/// may wait for RST_STREAM before it goes on: curl 7.88 does.
const LINGER_PAUSE: Duration = Duration::from_secs(1);

/// The progress of the response.
pub(crate) enum ResponseStage<B> {
    /// The handler works on it. Boxed: freed with the response, whose body may run for hours.
    Handling {
        future: Pin<Box<dyn Future<Output = Response<B>>>>,
        switch: StreamAbortHandle,
        interim: Rc<InterimQueue>,
        /// Whether the method is HEAD: no response that replaces the handler's may have a body.
        is_head: bool,
    },
    /// The body is being sent.
    Sending {
        body: B,
        /// What was taken out of the body and is not sent yet.
        next: NextOutput,
    },
    /// The response is sent before the request has ended: the rest of the request is received and
    /// dropped for a while.
    Lingering {
        /// When END_STREAM of the response was sent.
        since: Instant,
        /// When octets of the request last came.
        last_received: Instant,
    },
}

impl<B> ResponseStage<B> {
    /// Notes that octets of the request have come.
    pub(crate) fn request_received(&mut self, now: impl FnOnce() -> Instant) {
        if let Self::Lingering { last_received, .. } = self {
            *last_received = now();
        }
    }

    /// Whether the rest of the request has been waited for long enough. `None` unless the response
    /// is sent.
    pub(crate) fn has_linger_expired(&self, now: Instant, at_most: Duration) -> Option<bool> {
        let &Self::Lingering { since, last_received } = self else { return None };
        Some(now >= since + at_most || now >= last_received + LINGER_PAUSE)
    }
}

/// The order in which streams with something to send are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precedence {
    /// An event stream: never waits for bulk.
    Events,
    /// Another response, while it is short.
    Other,
    /// A response that had more to send than fits into one write: served after all others.
    Bulk,
}

/// What a stream sends next.
#[derive(Debug)]
pub(crate) enum NextOutput {
    /// Nothing yet: the body is to be polled.
    Poll,
    /// This data, with END_STREAM if `is_last`.
    Data { rest: Bytes, is_last: bool },
    /// These trailers, with END_STREAM.
    // Boxed: rare, and every stream would pay for the size.
    Trailers(Box<HeaderMap>),
}

/// The open streams of a connection, by identifier.
// A client of event streams commonly has one: that needs no hash table.
pub(crate) enum Streams<S: Http2Server> {
    None,
    One(u32, Box<Stream<S>>),
    Many(FxHashMap<u32, Box<Stream<S>>>),
}

impl<S: Http2Server> Stream<S> {
    /// Marks a response as bulk if it is no event stream; returns whether it is bulk now.
    pub(crate) fn becomes_bulk(&mut self) -> bool {
        if self.precedence == Precedence::Other {
            self.precedence = Precedence::Bulk;
        }
        self.precedence == Precedence::Bulk
    }
}

impl<S: Http2Server> Streams<S> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(streams) => streams.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stream that is the only one of its connection.
    pub(crate) fn only_stream(&self) -> Option<u32> {
        match self {
            &Self::One(id, _) => Some(id),
            Self::None | Self::Many(_) => None,
        }
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        match self {
            Self::None => false,
            Self::One(one, _) => *one == id,
            Self::Many(streams) => streams.contains_key(&id),
        }
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Stream<S>> {
        match self {
            Self::One(one, stream) if *one == id => Some(stream),
            Self::One(..) | Self::None => None,
            Self::Many(streams) => streams.get_mut(&id).map(|stream| &mut **stream),
        }
    }

    pub(crate) fn insert(&mut self, id: u32, stream: Box<Stream<S>>) {
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

    pub(crate) fn remove(&mut self, id: u32) -> Option<Box<Stream<S>>> {
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

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Stream<S>)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(id, stream) => (Some((*id, &mut **stream)), None),
            Self::Many(streams) => (None, Some(streams)),
        };
        let many = many.into_iter().flatten().map(|(&id, stream)| (id, &mut **stream));
        one.into_iter().chain(many)
    }
}

/// The streams that closed last. Tells frames that were in flight from errors (section 5.1).
#[derive(Debug, Default)]
pub(crate) struct ClosedStreams(Vec<(u32, ClosedBy)>);

/// What closed a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClosedBy {
    /// END_STREAM in both directions.
    EndStream,
    /// RST_STREAM from the client.
    ClientReset,
    /// RST_STREAM from us.
    ServerReset,
}

/// How many closed streams are remembered.
const MAX_REMEMBERED: usize = 32;

impl ClosedStreams {
    pub(crate) fn note(&mut self, stream: u32, by: ClosedBy) {
        if self.0.len() == MAX_REMEMBERED {
            self.0.remove(0);
        }
        self.0.push((stream, by));
    }

    /// Whether older ones have been forgotten.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() == MAX_REMEMBERED
    }

    pub(crate) fn find(&self, stream: u32) -> Option<ClosedBy> {
        self.0.iter().rev().find(|(ended, _)| *ended == stream).map(|&(_, by)| by)
    }
}
