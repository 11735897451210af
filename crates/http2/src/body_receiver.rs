//! The receiving side of a stream: the body of its request, and its flow-control window.
//!
//! Knows how much the client may send and has sent on one stream. The octets themselves go to the
//! reader through [`body`](super::body).

use http::HeaderMap;

use super::body::BodyFeed;
use super::error::{ErrorCode, ReceiveError};
use super::request_error::RequestError;

/// A stream whose window did not limit its client is measured again after this many windows.
const WINDOWS_UNTIL_REMEASURED: usize = 8;

/// The receiving side of one stream.
// Boxed: most requests have no body, and a stream of events may run for hours after its request.
#[derive(Debug)]
pub(crate) struct BodyReceiver(Option<Box<OpenBody>>);

/// A request body whose reader may still exist.
#[derive(Debug)]
struct OpenBody {
    feed: BodyFeed,
    // Whether END_STREAM has come.
    has_ended: bool,
    // The window at its full size, in octets.
    full_window: usize,
    // How far the window has grown, as long as the connection's window has to include that, in
    // octets.
    grown: usize,
    // What the client may still send, in octets.
    window: i64,
    // Octets to be read before the next measurement.
    until_measured: usize,
    // Octets received and not reported as read.
    unread: usize,
    // Octets read and not returned to the window of the stream.
    withheld: usize,
    // `content-length` less the octets received.
    announced: Option<u64>,
    // Whether the client may send the rest although there is no reader.
    is_discarded: bool,
    // Malformed (section 8.1.1): its stream is reset after the response.
    is_malformed: bool,
}

/// Why DATA or trailers are in error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyReceiveError {
    /// The stream is half-closed (remote).
    HalfClosed,
    /// More octets than the stream's window.
    Window,
    /// The length of the body differs from `content-length` (section 8.1.1).
    Length,
}

impl BodyReceiveError {
    /// The error as the connection reports it.
    pub(crate) fn into_error(self, stream: u32) -> ReceiveError {
        match self {
            Self::HalfClosed => ReceiveError::Stream(stream, ErrorCode::STREAM_CLOSED),
            Self::Window => ReceiveError::Stream(stream, ErrorCode::FLOW_CONTROL_ERROR),
            Self::Length => {
                let what = "the length of the body differs from content-length";
                ReceiveError::request(stream, RequestError::malformed(what))
            }
        }
    }
}

impl BodyReceiver {
    /// A request without a body: HEADERS had END_STREAM.
    pub(crate) fn without_body() -> Self {
        Self(None)
    }

    /// A body that goes to `feed`, with its `content-length` if `announced`. The client may send
    /// `window` octets at first.
    pub(crate) fn new(feed: BodyFeed, window: u32, announced: Option<u64>) -> Self {
        Self(Some(Box::new(OpenBody {
            feed,
            has_ended: false,
            full_window: window as usize,
            grown: 0,
            window: i64::from(window),
            until_measured: 0,
            unread: 0,
            withheld: 0,
            announced,
            is_discarded: false,
            is_malformed: false,
        })))
    }

    /// The body of a request that is refused: it has no reader, and its length does not matter.
    pub(crate) fn unread_body(
        feed: BodyFeed,
        window: u32,
        has_ended: bool,
        is_malformed: bool,
    ) -> Self {
        let mut body = Self::new(feed, window, None);
        if let Some(body) = &mut body.0 {
            (body.has_ended, body.is_malformed) = (has_ended, is_malformed);
        }
        body
    }

    /// Gives up a request that turned out to be in error: the reader of its body gets an error.
    pub(crate) fn abort(&mut self, is_malformed: bool) {
        if let Some(body) = &mut self.0 {
            (body.announced, body.is_malformed) = (None, is_malformed);
            body.feed.abort();
        }
    }

    /// Accounts for a DATA frame. Its `data` octets will be [pushed](Self::push); `padding` counts
    /// against the window, too. If the frame `ends` the stream, the caller calls
    /// [`finish`](Self::finish) after the last push.
    ///
    /// # Errors
    /// The frame is in error; nothing of it is to be pushed.
    pub(crate) fn begin(
        &mut self,
        data: usize,
        padding: usize,
        ends: bool,
    ) -> Result<(), BodyReceiveError> {
        let Some(body) = self.open() else { return Err(BodyReceiveError::HalfClosed) };
        body.window -= (data + padding) as i64;
        if body.window < 0 {
            return Err(BodyReceiveError::Window);
        }
        if let Some(announced) = &mut body.announced {
            *announced = announced.checked_sub(data as u64).ok_or(BodyReceiveError::Length)?;
        }
        if ends {
            body.check_length()?;
        }
        body.unread += data + padding;
        body.feed.discard(padding);
        Ok(())
    }

    /// Passes a piece of the body to its reader; returns false if there is none.
    pub(crate) fn push(&self, data: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|body| body.feed.push(data))
    }

    /// Notes END_STREAM on a frame that was in error: the reader is not told that the body is
    /// complete.
    pub(crate) fn close(&mut self) {
        if let Some(body) = self.open() {
            body.has_ended = true;
        }
    }

    /// Notes END_STREAM: the body is complete.
    pub(crate) fn finish(&mut self) {
        if let Some(body) = self.open() {
            body.has_ended = true;
            body.feed.end(None);
        }
    }

    /// Notes trailers, which end the body.
    ///
    /// # Errors
    /// The length of the body differs from `content-length`, or the stream is half-closed (remote).
    pub(crate) fn end(&mut self, trailers: HeaderMap) -> Result<(), BodyReceiveError> {
        let Some(body) = self.open() else { return Err(BodyReceiveError::HalfClosed) };
        body.check_length()?;
        body.has_ended = true;
        body.feed.end(Some(trailers));
        Ok(())
    }

    /// Whether the client should go on sending its body.
    pub(crate) fn is_wanted(&self) -> bool {
        let body = self.0.as_ref().filter(|body| !body.has_ended);
        body.is_some_and(|body| body.is_discarded || !body.feed.is_reader_gone())
    }

    /// Whether more of the body may come and has a reader.
    pub(crate) fn is_read(&self) -> bool {
        let body = self.0.as_ref().filter(|body| !body.has_ended);
        body.is_some_and(|body| !body.feed.is_reader_gone())
    }

    /// Lets the client send the rest of its body, which is dropped.
    pub(crate) fn discard_rest(&mut self) {
        if let Some(body) = self.open() {
            body.is_discarded = true;
        }
    }

    /// Whether END_STREAM has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.has_ended)
    }

    /// The code of the RST_STREAM that follows a complete response; `None` if the stream is closed
    /// without.
    pub(crate) fn reset_code(&self) -> Option<ErrorCode> {
        match &self.0 {
            Some(body) if body.is_malformed => Some(ErrorCode::PROTOCOL_ERROR),
            // Section 8.1: the response does not depend on the rest of the request.
            Some(body) if !body.has_ended => Some(ErrorCode::NO_ERROR),
            _ => None,
        }
    }

    /// Notes that the response begins: 100 (Continue) can no longer be sent.
    pub(crate) fn forbid_continue(&self) {
        if let Some(body) = &self.0 {
            body.feed.forbid_continue();
        }
    }

    /// Whether 100 (Continue) is to be sent now. True once.
    pub(crate) fn take_continue(&self) -> bool {
        self.0.as_ref().is_some_and(|body| body.feed.take_continue())
    }

    /// Ends the accounting when the stream closes. Returns the octets received and never reported
    /// as read; the caller credits them, and later reads no longer count.
    pub(crate) fn detach(&mut self) -> usize {
        let Some(body) = &mut self.0 else { return 0 };
        body.unread.saturating_sub(body.feed.detach())
    }

    /// Takes the octets read since the last call, padding included. Returns them, and the increment
    /// of the stream's window. The increment is 0 while the body has no reader, and once the window
    /// covers all that the client has announced. Octets withheld for lack of a reader are returned
    /// to the window later, if the rest of the body is [dropped](Self::discard_rest).
    pub(crate) fn take_read(&mut self) -> (usize, usize) {
        let is_wanted = self.is_wanted();
        let Some(body) = &mut self.0 else { return (0, 0) };
        let read = body.feed.take_read();
        body.unread = body.unread.saturating_sub(read);
        body.withheld += read;
        if !is_wanted || body.covers_rest() {
            return (read, 0);
        }
        let update = std::mem::take(&mut body.withheld);
        body.window += update as i64;
        (read, update)
    }

    /// How far the window has grown, as long as the connection's window has to include that.
    pub(crate) fn grown(&self) -> usize {
        self.0.as_ref().map_or(0, |body| body.grown)
    }

    /// Reduces that growth to what is left of the announced body; returns the octets of the
    /// reduction.
    pub(crate) fn trim(&mut self) -> usize {
        let Some(body) = &mut self.0 else { return 0 };
        let left =
            body.announced.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let over = body.grown.saturating_sub(left);
        body.grown -= over;
        over
    }

    /// Whether the window should be measured now, after `read` more octets. It never grows beyond
    /// `most`.
    pub(crate) fn should_measure(&mut self, read: usize, most: u32) -> bool {
        let may_grow = |it: &&mut OpenBody| it.full_window < most as usize && !it.is_discarded;
        let Some(body) = self.open().filter(may_grow) else { return false };
        body.until_measured = body.until_measured.saturating_sub(read);
        body.until_measured == 0 && !body.covers_rest()
    }

    /// Puts off the next measurement.
    pub(crate) fn defer_measure(&mut self) {
        if let Some(body) = self.open() {
            body.until_measured = body.full_window * WINDOWS_UNTIL_REMEASURED;
        }
    }

    /// The window at its full size, in octets.
    pub(crate) fn window(&self) -> usize {
        self.0.as_ref().map_or(0, |body| body.full_window)
    }

    /// How far the window may grow now, with `most` as its limit: to twice its size.
    pub(crate) fn growth(&mut self, most: u32) -> usize {
        let body = self.open().filter(|body| !body.covers_rest());
        body.map_or(0, |body| {
            body.full_window.min((most as usize).saturating_sub(body.full_window))
        })
    }

    /// Grows the window; the caller sends the WINDOW_UPDATE.
    pub(crate) fn grow(&mut self, octets: usize) {
        if let Some(body) = self.open() {
            body.full_window += octets;
            body.grown += octets;
            body.window += octets as i64;
            body.feed.set_window(body.full_window);
        }
    }

    /// The body, if more of it may come.
    fn open(&mut self) -> Option<&mut OpenBody> {
        self.0.as_deref_mut().filter(|body| !body.has_ended)
    }
}

impl OpenBody {
    /// Whether the window covers all that is left of the announced body.
    fn covers_rest(&self) -> bool {
        self.announced.is_some_and(|left| i64::try_from(left).is_ok_and(|left| left <= self.window))
    }

    /// Section 8.1.1: the body must have the length that `content-length` announced.
    fn check_length(&self) -> Result<(), BodyReceiveError> {
        match self.announced {
            Some(left) if left > 0 => Err(BodyReceiveError::Length),
            _ => Ok(()),
        }
    }
}
