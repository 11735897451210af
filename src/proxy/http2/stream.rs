//! The state of one stream in the connection task.

use std::task::Waker;

use bytes::Bytes;
use http::{HeaderMap, Request, request};

use super::reason::{LostRequest, Reason};
use super::response::ResponseSender;
use super::window::Window;
use crate::proxy::upload::Upload;

/// A stream that is not closed.
#[derive(Debug)]
pub(super) struct RequestStream {
    pub(super) sender: ResponseSender,
    pub(super) waker: Waker,
    /// The unsent rest of the request body.
    pub(super) upload: Upload,
    pub(super) send_state: SendState,
    /// The window for sending, in octets; negative after the backend has lowered
    /// INITIAL_WINDOW_SIZE.
    pub(super) send_window: i64,
    pub(super) receive_state: ReceiveState,
    /// The window for receiving.
    pub(super) window: Window,
    /// Whether it is queued to be polled.
    pub(super) is_scheduled: bool,
    /// The offset of the request in the octets that the connection writes. If less was written, the
    /// request is unprocessed.
    pub(super) begins_at: u64,
}

/// The sending side of a stream.
#[derive(Debug)]
pub(super) enum SendState {
    /// Polls the body next.
    Poll,
    /// Sends this part of the body next; with END_STREAM if `is_last`.
    Data { rest: Bytes, is_last: bool },
    /// Sends the trailers next, with END_STREAM.
    Trailers(Box<HeaderMap>),
    /// END_STREAM was sent.
    Done,
}

/// The receiving side of a stream.
#[derive(Debug)]
pub(super) enum ReceiveState {
    /// Waiting for the final response head. The head of the request is kept for a retry.
    Head { request: Box<request::Parts> },
    /// The head has arrived. `left` is the rest of the announced Content-Length, in octets. Without
    /// content (`has_content`) the response is complete already, and only END_STREAM is missing.
    Body { left: Option<u64>, has_content: bool },
    /// END_STREAM was received.
    Done,
}

impl RequestStream {
    /// Whether the stream is closed in both directions.
    pub(super) fn is_done(&self) -> bool {
        matches!((&self.send_state, &self.receive_state), (SendState::Done, ReceiveState::Done))
    }

    /// Whether the request has unsent parts.
    pub(super) fn is_uploading(&self) -> bool {
        !matches!(self.send_state, SendState::Done)
    }

    /// Whether the head of a response without content has arrived, and its END_STREAM has not.
    pub(super) fn is_complete_with_head(&self) -> bool {
        matches!(self.receive_state, ReceiveState::Body { has_content: false, .. })
    }

    /// Whether nothing but END_STREAM can come.
    pub(super) fn awaits_only_end(&self) -> bool {
        !self.is_uploading()
            && matches!(self.receive_state, ReceiveState::Body { left: Some(0), .. })
    }

    /// What the upload can use of the connection window before the backend returns credit, in
    /// octets.
    pub(super) fn window_demand(&self) -> i64 {
        use http_body::Body as _;
        let waiting = match &self.send_state {
            SendState::Done | SendState::Trailers(_) => return 0,
            SendState::Data { rest, .. } => rest.len() as u64,
            SendState::Poll => 0,
        };
        let left = self.upload.size_hint().exact();
        let left = left.and_then(|left| i64::try_from(left + waiting).ok()).unwrap_or(i64::MAX);
        self.send_window.max(0).min(left)
    }

    /// Fails the response. `is_unprocessed`: the backend has not processed the request, and will
    /// not.
    pub(super) fn fail(self, reason: Reason, is_unprocessed: bool) {
        match self.receive_state {
            ReceiveState::Head { request } => {
                let request = Request::from_parts(*request, self.upload);
                self.sender.fail_request(LostRequest { reason, is_unprocessed, request });
            }
            // Nothing is missing: the backend need not read the request to its end.
            ReceiveState::Body { has_content: false, .. } => self.sender.complete(None),
            ReceiveState::Body { .. } => self.sender.fail_body(reason),
            ReceiveState::Done => {}
        }
    }
}
