//! The receiving side of a stream: the body of its request, and its flow-control window.
//!
//! Knows how much the client may send and has sent on one stream. The octets themselves go to the
//! reader through [`body`](super::body).

use http::HeaderMap;

use super::body::Feed;
use super::error::{ErrorCode, ReceiveError};
use crate::server::refusal::Unfit;

/// A stream whose window did not limit its client is measured again after this many windows.
const PATIENCE: usize = 8;

/// The receiving side of one stream.
// Boxed: most requests have no body, and a stream of events may run for hours after its request.
#[derive(Debug)]
pub(super) struct Receiving(Option<Box<Coming>>);

/// A request body whose reader may still exist.
#[derive(Debug)]
struct Coming {
    feed: Feed,
    // Whether END_STREAM has come.
    is_over: bool,
    // The window at its full size, in octets.
    size: usize,
    // How far the window has grown, as long as the connection's window has to include that, in
    // octets.
    grown: usize,
    // What the client may still send, in octets.
    window: i64,
    // Octets to be read before the next measurement.
    rest: usize,
    // Octets received and not reported as read.
    unread: usize,
    // Octets read and not returned to the window of the stream.
    withheld: usize,
    // `content-length` less the octets received.
    announced: Option<u64>,
    // Whether the client may send the rest although there is no reader.
    is_thrown_away: bool,
    // Malformed (section 8.1.1): its stream is reset after the response.
    is_malformed: bool,
}

/// Why DATA or trailers are in error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The stream is half-closed (remote).
    Closed,
    /// More octets than the stream's window.
    Window,
    /// The length of the body differs from `content-length` (section 8.1.1).
    Length,
}

impl Wrong {
    /// The error as the connection reports it.
    pub(super) fn fault(self, stream: u32) -> ReceiveError {
        match self {
            Self::Closed => ReceiveError::Stream(stream, ErrorCode::STREAM_CLOSED),
            Self::Window => ReceiveError::Stream(stream, ErrorCode::FLOW_CONTROL_ERROR),
            Self::Length => {
                let what = "the length of the body differs from content-length";
                ReceiveError::request(stream, Unfit::malformed(what))
            }
        }
    }
}

impl Receiving {
    /// A request without a body: HEADERS had END_STREAM.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// A body that goes to `feed`, with its `content-length` if `announced`. The client may send
    /// `window` octets at first.
    pub(super) fn body(feed: Feed, window: u32, announced: Option<u64>) -> Self {
        Self(Some(Box::new(Coming {
            feed,
            is_over: false,
            size: window as usize,
            grown: 0,
            window: i64::from(window),
            rest: 0,
            unread: 0,
            withheld: 0,
            announced,
            is_thrown_away: false,
            is_malformed: false,
        })))
    }

    /// The body of a request that is refused: it has no reader, and its length does not matter.
    pub(super) fn unheard(feed: Feed, window: u32, is_over: bool, is_malformed: bool) -> Self {
        let mut body = Self::body(feed, window, None);
        if let Some(coming) = &mut body.0 {
            (coming.is_over, coming.is_malformed) = (is_over, is_malformed);
        }
        body
    }

    /// Gives up a request that turned out to be in error: the reader of its body gets an error.
    pub(super) fn give_up(&mut self, is_malformed: bool) {
        if let Some(coming) = &mut self.0 {
            (coming.announced, coming.is_malformed) = (None, is_malformed);
            coming.feed.cut();
        }
    }

    /// Accounts for a DATA frame. Its `data` octets will be [pushed](Self::push); `padding` counts
    /// against the window, too. If the frame `ends` the stream, the caller calls
    /// [`finish`](Self::finish) after the last push.
    ///
    /// # Errors
    /// The frame is in error; nothing of it is to be pushed.
    pub(super) fn begin(&mut self, data: usize, padding: usize, ends: bool) -> Result<(), Wrong> {
        let Some(coming) = self.coming() else { return Err(Wrong::Closed) };
        coming.window -= (data + padding) as i64;
        if coming.window < 0 {
            return Err(Wrong::Window);
        }
        if let Some(announced) = &mut coming.announced {
            *announced = announced.checked_sub(data as u64).ok_or(Wrong::Length)?;
        }
        if ends {
            coming.check_length()?;
        }
        coming.unread += data + padding;
        coming.feed.discard(padding);
        Ok(())
    }

    /// Passes a piece of the body to its reader; returns false if there is none.
    pub(super) fn push(&self, data: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|coming| coming.feed.push(data))
    }

    /// Notes END_STREAM on a frame that was in error: the reader is not told that the body is
    /// complete.
    pub(super) fn close(&mut self) {
        if let Some(coming) = self.coming() {
            coming.is_over = true;
        }
    }

    /// Notes END_STREAM: the body is complete.
    pub(super) fn finish(&mut self) {
        if let Some(coming) = self.coming() {
            coming.is_over = true;
            coming.feed.end(None);
        }
    }

    /// Notes trailers, which end the body.
    ///
    /// # Errors
    /// The length of the body differs from `content-length`, or the stream is half-closed (remote).
    pub(super) fn end(&mut self, trailers: HeaderMap) -> Result<(), Wrong> {
        let Some(coming) = self.coming() else { return Err(Wrong::Closed) };
        coming.check_length()?;
        coming.is_over = true;
        coming.feed.end(Some(trailers));
        Ok(())
    }

    /// Whether the client should go on sending its body.
    pub(super) fn is_wanted(&self) -> bool {
        let coming = self.0.as_ref().filter(|coming| !coming.is_over);
        coming.is_some_and(|coming| coming.is_thrown_away || !coming.feed.is_unwanted())
    }

    /// Whether more of the body may come and has a reader.
    pub(super) fn is_read(&self) -> bool {
        let coming = self.0.as_ref().filter(|coming| !coming.is_over);
        coming.is_some_and(|coming| !coming.feed.is_unwanted())
    }

    /// Lets the client send the rest of its body, which is dropped.
    pub(super) fn throw_away(&mut self) {
        if let Some(coming) = self.coming() {
            coming.is_thrown_away = true;
        }
    }

    /// Whether END_STREAM has come.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|coming| coming.is_over)
    }

    /// The code of the RST_STREAM that follows a complete response; `None` if the stream is closed
    /// without.
    pub(super) fn reset_code(&self) -> Option<ErrorCode> {
        match &self.0 {
            Some(coming) if coming.is_malformed => Some(ErrorCode::PROTOCOL_ERROR),
            // Section 8.1: the response does not depend on the rest of the request.
            Some(coming) if !coming.is_over => Some(ErrorCode::NO_ERROR),
            _ => None,
        }
    }

    /// Notes that the response begins: 100 (Continue) can no longer be sent.
    pub(super) fn forbid_continue(&self) {
        if let Some(coming) = &self.0 {
            coming.feed.forbid_continue();
        }
    }

    /// Whether 100 (Continue) is to be sent now. True once.
    pub(super) fn take_continue(&self) -> bool {
        self.0.as_ref().is_some_and(|coming| coming.feed.take_continue())
    }

    /// Ends the accounting when the stream closes. Returns the octets received and never reported
    /// as read; the caller credits them, and later reads no longer count.
    pub(super) fn detach(&mut self) -> usize {
        let Some(coming) = &mut self.0 else { return 0 };
        coming.unread.saturating_sub(coming.feed.detach())
    }

    /// Takes the octets read since the last call, padding included. Returns them, and the increment
    /// of the stream's window. The increment is 0 while the body has no reader, and once the window
    /// covers all that the client has announced. Octets withheld for lack of a reader are returned
    /// to the window later, if the rest of the body is [dropped](Self::throw_away).
    pub(super) fn take_read(&mut self) -> (usize, usize) {
        let is_wanted = self.is_wanted();
        let Some(coming) = &mut self.0 else { return (0, 0) };
        let read = coming.feed.take_read();
        coming.unread = coming.unread.saturating_sub(read);
        coming.withheld += read;
        if !is_wanted || coming.has_all() {
            return (read, 0);
        }
        let update = std::mem::take(&mut coming.withheld);
        coming.window += update as i64;
        (read, update)
    }

    /// How far the window has grown, as long as the connection's window has to include that.
    pub(super) fn grown(&self) -> usize {
        self.0.as_ref().map_or(0, |coming| coming.grown)
    }

    /// Reduces that growth to what is left of the announced body; returns the octets of the
    /// reduction.
    pub(super) fn trim(&mut self) -> usize {
        let Some(coming) = &mut self.0 else { return 0 };
        let left =
            coming.announced.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let over = coming.grown.saturating_sub(left);
        coming.grown -= over;
        over
    }

    /// Whether the window should be measured now, after `read` more octets. It never grows beyond
    /// `most`.
    pub(super) fn wants_measure(&mut self, read: usize, most: u32) -> bool {
        let may_grow = |it: &&mut Coming| it.size < most as usize && !it.is_thrown_away;
        let Some(coming) = self.coming().filter(may_grow) else { return false };
        coming.rest = coming.rest.saturating_sub(read);
        coming.rest == 0 && !coming.has_all()
    }

    /// Puts off the next measurement.
    pub(super) fn defer_measure(&mut self) {
        if let Some(coming) = self.coming() {
            coming.rest = coming.size * PATIENCE;
        }
    }

    /// The window at its full size, in octets.
    pub(super) fn window(&self) -> usize {
        self.0.as_ref().map_or(0, |coming| coming.size)
    }

    /// How far the window may grow now, with `most` as its limit: to twice its size.
    pub(super) fn growth(&mut self, most: u32) -> usize {
        let coming = self.coming().filter(|coming| !coming.has_all());
        coming.map_or(0, |coming| coming.size.min((most as usize).saturating_sub(coming.size)))
    }

    /// Grows the window; the caller sends the WINDOW_UPDATE.
    pub(super) fn grow(&mut self, octets: usize) {
        if let Some(coming) = self.coming() {
            coming.size += octets;
            coming.grown += octets;
            coming.window += octets as i64;
            coming.feed.set_window(coming.size);
        }
    }

    /// The body, if more of it may come.
    fn coming(&mut self) -> Option<&mut Coming> {
        self.0.as_deref_mut().filter(|coming| !coming.is_over)
    }
}

impl Coming {
    /// Whether the window covers all that is left of the announced body.
    fn has_all(&self) -> bool {
        self.announced.is_some_and(|left| i64::try_from(left).is_ok_and(|left| left <= self.window))
    }

    /// Section 8.1.1: the body must have the length that `content-length` announced.
    fn check_length(&self) -> Result<(), Wrong> {
        match self.announced {
            Some(left) if left > 0 => Err(Wrong::Length),
            _ => Ok(()),
        }
    }
}
