//! The client's side of a stream: the body of its request, as far as it has come.

use http::HeaderMap;

use super::body::Feed;
use super::error::{Code, Fault};
use crate::server::request_error::RequestError;

/// Where the window does not hold its client back, so many are read before it is measured again.
const PATIENCE: usize = 8;

/// What a client has sent on one stream, and may send.
// Boxed: most requests have no body, and who asks for events may then listen for hours.
#[derive(Debug)]
pub(super) struct Receiving(Option<Box<Coming>>);

/// A body that comes.
#[derive(Debug)]
struct Coming {
    feed: Feed,
    // Whether the client has said all.
    is_over: bool,
    // The window, in octets, when all of it has been read.
    size: usize,
    // By how much that has grown, as far as the window of the connection still has to grow with it.
    grown: usize,
    // What the client may send, in octets.
    window: i64,
    // What is to be read before it is measured again whether the window should grow, in octets.
    rest: usize,
    // What it sent and was not given back as window, in octets.
    unread: usize,
    // What was read and not returned to the window of the stream, in octets.
    withheld: usize,
    // What it announced, less what it sent, in octets.
    announced: Option<u64>,
    // Whether the client may send the rest, though nobody reads it.
    is_thrown_away: bool,
    // The request is none: behind the answer its stream is reset.
    is_malformed: bool,
}

/// Why a part of a body may not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The client has said all before.
    Closed,
    /// More than the window of the stream.
    Window,
    /// The body is not as long as was announced (section 8.1.1).
    Length,
}

impl Wrong {
    /// What it means for its stream.
    pub(super) fn fault(self, stream: u32) -> Fault {
        match self {
            Self::Closed => Fault::Stream(stream, Code::STREAM_CLOSED),
            Self::Window => Fault::Stream(stream, Code::FLOW_CONTROL_ERROR),
            Self::Length => {
                let what = "the body is not as long as content-length says";
                Fault::request(stream, RequestError::malformed(what))
            }
        }
    }
}

impl Receiving {
    /// The client has said all with the head of its request.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// A body that goes into `feed`, of `announced` octets where that is known. The client may send
    /// `window` of them.
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

    /// The body of a request that is refused: nobody reads it, whatever its length.
    pub(super) fn unheard(feed: Feed, window: u32, is_over: bool, is_malformed: bool) -> Self {
        let mut body = Self::body(feed, window, None);
        if let Some(coming) = &mut body.0 {
            (coming.is_over, coming.is_malformed) = (is_over, is_malformed);
        }
        body
    }

    /// The request has turned out to be none: who reads its body learns that it is not whole.
    pub(super) fn give_up(&mut self, is_malformed: bool) {
        if let Some(coming) = &mut self.0 {
            (coming.announced, coming.is_malformed) = (None, is_malformed);
            coming.feed.cut();
        }
    }

    /// Takes the beginning of a DATA frame: so much of the body will be [pushed](Self::push), and
    /// `padding` is what the frame takes of the window besides. Where it `ends` the stream,
    /// [`finish`](Self::finish) is called behind it.
    ///
    /// # Errors
    /// The frame may not come; nothing of it is to be pushed.
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

    /// Takes a piece of the body; returns whether somebody reads it.
    pub(super) fn push(&self, data: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|coming| coming.feed.push(data))
    }

    /// The client has said all, though not what it may.
    pub(super) fn close(&mut self) {
        if let Some(coming) = self.coming() {
            coming.is_over = true;
        }
    }

    /// The client has said all, and no more than it may.
    pub(super) fn finish(&mut self) {
        if let Some(coming) = self.coming() {
            coming.is_over = true;
            coming.feed.end(None);
        }
    }

    /// The client has said all with the fields behind the body.
    ///
    /// # Errors
    /// The body is not as long as was announced, or was complete before.
    pub(super) fn end(&mut self, trailers: HeaderMap) -> Result<(), Wrong> {
        let Some(coming) = self.coming() else { return Err(Wrong::Closed) };
        coming.check_length()?;
        coming.is_over = true;
        coming.feed.end(Some(trailers));
        Ok(())
    }

    /// Whether the client may go on with its body.
    pub(super) fn is_wanted(&self) -> bool {
        let coming = self.0.as_ref().filter(|coming| !coming.is_over);
        coming.is_some_and(|coming| coming.is_thrown_away || !coming.feed.is_unwanted())
    }

    /// Whether somebody reads what comes.
    pub(super) fn is_read(&self) -> bool {
        let coming = self.0.as_ref().filter(|coming| !coming.is_over);
        coming.is_some_and(|coming| !coming.feed.is_unwanted())
    }

    /// Lets the client send the rest of its body, though nobody reads it.
    pub(super) fn throw_away(&mut self) {
        if let Some(coming) = self.coming() {
            coming.is_thrown_away = true;
        }
    }

    /// Whether the client has said all.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|coming| coming.is_over)
    }

    /// How the stream ends behind a whole response, where that is no end by itself.
    pub(super) fn reset_code(&self) -> Option<Code> {
        match &self.0 {
            Some(coming) if coming.is_malformed => Some(Code::PROTOCOL_ERROR),
            // Section 8.1: what the client still has to say is not needed.
            Some(coming) if !coming.is_over => Some(Code::NO_ERROR),
            _ => None,
        }
    }

    /// The response begins: the client is not told to go on any more.
    pub(super) fn forbid_continue(&self) {
        if let Some(coming) = &self.0 {
            coming.feed.forbid_continue();
        }
    }

    /// Whether the client is to be told to go on, and was not told yet.
    pub(super) fn take_continue(&self) -> bool {
        self.0.as_ref().is_some_and(|coming| coming.feed.take_continue())
    }

    /// The stream ends. Returns what its client sent and nobody has read, in octets: it does not count as
    /// read later on, should somebody read it.
    pub(super) fn detach(&mut self) -> usize {
        let Some(coming) = &mut self.0 else { return 0 };
        coming.unread.saturating_sub(coming.feed.detach())
    }

    /// Takes what has been read since the last call, padding included, and returns it with the octets
    /// by which the window of the stream opens. While nobody reads the body, and where the client may
    /// send all that it has announced, the window stays as it is. What is withheld meanwhile opens the
    /// window later, if the rest of the body is [thrown away](Self::throw_away).
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

    /// By how much the window has grown, as far as that of the connection still has to grow with it.
    pub(super) fn grown(&self) -> usize {
        self.0.as_ref().map_or(0, |coming| coming.grown)
    }

    /// Takes away what it has grown by beyond what will come; returns how much that was.
    pub(super) fn trim(&mut self) -> usize {
        let Some(coming) = &mut self.0 else { return 0 };
        let left =
            coming.announced.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let over = coming.grown.saturating_sub(left);
        coming.grown -= over;
        over
    }

    /// Whether it is to be measured, now that so much has been read, if the window should grow.
    pub(super) fn wants_measure(&mut self, read: usize, most: u32) -> bool {
        let may_grow = |it: &&mut Coming| it.size < most as usize && !it.is_thrown_away;
        let Some(coming) = self.coming().filter(may_grow) else { return false };
        coming.rest = coming.rest.saturating_sub(read);
        coming.rest == 0 && !coming.has_all()
    }

    /// It is not measured again soon.
    pub(super) fn defer_measure(&mut self) {
        if let Some(coming) = self.coming() {
            coming.rest = coming.size * PATIENCE;
        }
    }

    /// The window, in octets, when all of it has been read.
    pub(super) fn window(&self) -> usize {
        self.0.as_ref().map_or(0, |coming| coming.size)
    }

    /// By how much the window may grow, at most to `most`.
    pub(super) fn growth(&mut self, most: u32) -> usize {
        let coming = self.coming().filter(|coming| !coming.has_all());
        coming.map_or(0, |coming| coming.size.min((most as usize).saturating_sub(coming.size)))
    }

    /// The window grows by so much, and the client is told so.
    pub(super) fn grow(&mut self, octets: usize) {
        if let Some(coming) = self.coming() {
            coming.size += octets;
            coming.grown += octets;
            coming.window += octets as i64;
            coming.feed.set_window(coming.size);
        }
    }

    /// The body, where some of it may still come.
    fn coming(&mut self) -> Option<&mut Coming> {
        self.0.as_deref_mut().filter(|coming| !coming.is_over)
    }
}

impl Coming {
    /// Whether the client may send all that it has announced and not sent.
    fn has_all(&self) -> bool {
        self.announced.is_some_and(|left| i64::try_from(left).is_ok_and(|left| left <= self.window))
    }

    /// Section 8.1.1: what was announced must have come.
    fn check_length(&self) -> Result<(), Wrong> {
        match self.announced {
            Some(left) if left > 0 => Err(Wrong::Length),
            _ => Ok(()),
        }
    }
}
