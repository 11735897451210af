//! One stream, as the task of its connection sees it.

use std::task::Waker;

use bytes::Bytes;
use http::{HeaderMap, Request, request};

use super::reason::{Lost, Reason};
use super::response::Feed;
use super::window::Window;
use crate::proxy::upload::Upload;

/// A stream that has not ended.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) feed: Feed,
    pub(super) waker: Waker,
    /// What of the request's body is to be sent.
    pub(super) upload: Upload,
    pub(super) outgoing: Outgoing,
    /// What may be sent, in octets; below 0 after the backend has made its windows smaller.
    pub(super) send_window: i64,
    pub(super) receiving: Receiving,
    /// What the backend may send.
    pub(super) window: Window,
    /// Whether it is among those that have something to do.
    pub(super) is_ready: bool,
    /// Where in all that the connection writes the request begins, in octets.
    pub(super) begins_at: u64,
}

/// How far the request has been sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// The body is to be polled.
    Poll,
    /// These bytes, and then the end of the request if `is_last`.
    Data { rest: Bytes, is_last: bool },
    /// These fields, and with them the end of the request.
    Trailers(Box<HeaderMap>),
    /// It has been sent to its end.
    Done,
}

/// How far the response has arrived.
#[derive(Debug)]
pub(super) enum Receiving {
    /// Nothing of it, or only interim responses. The head of the request is kept, for it may have to be
    /// sent again.
    Head { request: Box<request::Parts> },
    /// Its head. `left` is what was announced of the body and has not arrived, in octets.
    Body { left: Option<u64> },
    /// All of it.
    Done,
}

impl Stream {
    /// Whether neither side has anything more to send.
    pub(super) fn is_done(&self) -> bool {
        matches!((&self.outgoing, &self.receiving), (Outgoing::Done, Receiving::Done))
    }

    /// Whether the request has not been sent to its end.
    pub(super) fn is_uploading(&self) -> bool {
        !matches!(self.outgoing, Outgoing::Done)
    }

    /// What the upload can take of the connection's window until it is credited, in octets.
    pub(super) fn draw(&self) -> i64 {
        use http_body::Body as _;
        let waiting = match &self.outgoing {
            Outgoing::Done | Outgoing::Trailers(_) => return 0,
            Outgoing::Data { rest, .. } => rest.len() as u64,
            Outgoing::Poll => 0,
        };
        let left = self.upload.size_hint().exact();
        let left = left.and_then(|left| i64::try_from(left + waiting).ok()).unwrap_or(i64::MAX);
        self.send_window.max(0).min(left)
    }

    /// The stream ends before its response is complete; the reader is told why. `is_unprocessed`: the
    /// backend has not processed the request, and will not.
    pub(super) fn fail(self, reason: Reason, is_unprocessed: bool) {
        match self.receiving {
            Receiving::Head { request } => {
                let request = Request::from_parts(*request, self.upload);
                self.feed.lose(Lost { reason, is_unprocessed, request });
            }
            Receiving::Body { .. } => self.feed.cut(reason),
            Receiving::Done => {}
        }
    }
}
