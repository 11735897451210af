//! What each frame of a client does (RFC 9113, sections 5 and 6).

use std::rc::Rc;

use http::{Method, Request, StatusCode};
use tokio::time::Instant;

use super::body;
use super::connection::{Connection, FINISH_PING, Phase};
use super::error::{Code, Fault};
use super::frame::{self, HEAD, Head, MAX_31_BITS, MAX_PAYLOAD, flag, kind};
use super::head::{self, HeadDraft, Unfit};
use super::hpack::Refused;
use super::receiving::Receiving;
use super::stream::{How, Stage, Stream};
use super::wakes::Part;
use crate::server::connection::{CutReason, Handler};
use crate::server::interim::{Interim, Waiting};
use crate::server::request_body::{self, RequestBody};
use crate::server::running::RunningRequest;
use crate::server::switch::Switch;

/// Frames that one header block may come in: more than any of a size that is read (CVE-2024-27316).
const MAX_BLOCK_FRAMES: u32 = 10;
/// Bytes of a block, by how much larger than what it may say.
const MAX_BLOCK: usize = 8;

/// A header block whose end has not come.
#[derive(Debug)]
pub(super) struct Block {
    octets: Vec<u8>,
    about: About,
    frames: u32,
}

/// What a header block is about.
#[derive(Clone, Copy, Debug)]
struct About {
    stream: u32,
    ends_stream: bool,
    // It says of its stream that it depends on itself.
    is_malformed: bool,
}

type Received = Result<(), Fault>;

impl<H: Handler> Connection<H> {
    /// Takes one frame; answers how long it was, or `None` while its end has not come.
    ///
    /// # Errors
    /// A fault, and the length of the frame all the same.
    pub(super) fn receive(&mut self, octets: &[u8]) -> Result<Option<usize>, (usize, Fault)> {
        let Some(head) = Head::parse(octets) else { return Ok(None) };
        if head.length > MAX_PAYLOAD {
            return Err((0, Fault::frame_size("a frame larger than SETTINGS_MAX_FRAME_SIZE")));
        }
        let length = HEAD + head.length;
        let Some(payload) = octets.get(HEAD..length) else { return Ok(None) };
        match self.take_frame(head, payload) {
            Ok(()) => Ok(Some(length)),
            Err(fault) => Err((length, fault)),
        }
    }

    fn take_frame(&mut self, head: Head, payload: &[u8]) -> Received {
        if !self.has_settings && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fault::protocol("the first frame is no SETTINGS"));
        }
        let is_awaited = match &self.block {
            Some(block) => head.kind == kind::CONTINUATION && head.stream == block.about.stream,
            None => head.kind != kind::CONTINUATION,
        };
        if !is_awaited {
            return Err(Fault::protocol("a header block is not continued, or was none"));
        }
        let is_of_stream = match head.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM => true,
            kind::SETTINGS | kind::PING | kind::GOAWAY => false,
            _ => head.stream != 0,
        };
        if is_of_stream != (head.stream != 0) {
            return Err(Fault::protocol("a frame on a stream that it cannot be about"));
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::PUSH_PROMISE => Err(Fault::protocol("PUSH_PROMISE from a client")),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::PRIORITY => self.priority(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(payload),
            _ => self.spend(), // section 4.1: what is unknown is ignored
        }
    }

    /// The client has asked for nothing.
    fn spend(&mut self) -> Received {
        let may = self.budget.spend(Instant::now);
        if may { Ok(()) } else { Err(Fault::Abuse(CutReason::Flood)) }
    }

    /// Whether nothing may come on this stream: nobody has opened it. Behind the last stream that
    /// we take, much may be underway.
    fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2)
            || self.is_unknown(stream) && !matches!(self.phase, Phase::Finished)
    }

    /// Whether we have not heard that this stream was opened.
    fn is_unknown(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || stream > self.last_stream
    }

    /// Section 6.1.
    fn data(&mut self, head: Head, payload: &[u8]) -> Received {
        if self.is_idle(head.stream) {
            return Err(Fault::protocol("DATA on a stream that was never opened"));
        }
        self.receive_window -= payload.len() as i64;
        if self.receive_window < 0 {
            let what = "more than the window of the connection";
            return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR, what));
        }
        let Some(data) = frame::without_padding(head, payload) else {
            return Err(Fault::protocol("more padding than payload"));
        };
        let Some(stream) = self.streams.get_mut(head.stream) else {
            self.give_back(payload.len());
            return self.late(head.stream);
        };
        let ends = head.has(flag::END_STREAM);
        let padding = payload.len() - data.len();
        match stream.receiving.take(data, padding, ends) {
            // What nobody will read is given back at once; and the end may be that of the stream.
            Ok(()) if padding > 0 || !stream.receiving.is_read() => {
                self.ready.push_back(head.stream);
            }
            Ok(()) => {}
            Err(code) => {
                self.give_back(payload.len());
                return Err(Fault::Stream(head.stream, code));
            }
        }
        if data.is_empty() && !ends { self.spend() } else { Ok(()) }
    }

    /// Something came on a stream that has ended.
    fn late(&mut self, stream: u32) -> Received {
        match self.ended.find(stream) {
            Some(How::Complete) => {
                Err(Fault::Connection(Code::STREAM_CLOSED, "a frame on a stream that has ended"))
            }
            Some(How::Reset) => Err(Fault::Stream(stream, Code::STREAM_CLOSED)),
            // It was underway when we reset the stream; or that is so long ago that we forgot.
            Some(How::ResetByUs) | None => self.spend(),
        }
    }

    /// Section 6.2.
    fn headers(&mut self, head: Head, payload: &[u8]) -> Received {
        let too_short = Fault::protocol("more padding than payload");
        let mut fields = frame::without_padding(head, payload).ok_or(too_short)?;
        let mut is_malformed = false;
        if head.has(flag::PRIORITY) {
            let (priority, rest) = fields
                .split_at_checked(PRIORITY)
                .ok_or_else(|| Fault::frame_size("a priority that is cut short"))?;
            is_malformed = dependency(priority) == Some(head.stream);
            fields = rest;
        }
        let ends_stream = head.has(flag::END_STREAM);
        let about = About { stream: head.stream, ends_stream, is_malformed };
        if head.has(flag::END_HEADERS) {
            return self.take_block(about, fields);
        }
        self.block = Some(Box::new(Block { octets: fields.to_vec(), about, frames: 1 }));
        Ok(())
    }

    /// Section 6.10.
    fn continuation(&mut self, head: Head, payload: &[u8]) -> Received {
        let max_block = self.max_list() * MAX_BLOCK;
        let mut block = self.block.take().expect("checked: this is what the block waits for");
        block.frames += 1;
        if block.frames > MAX_BLOCK_FRAMES || block.octets.len() + payload.len() > max_block {
            return Err(Fault::Abuse(CutReason::Headers));
        }
        block.octets.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.take_block(block.about, &block.octets);
        }
        self.block = Some(block);
        Ok(())
    }

    fn max_list(&self) -> usize {
        self.shard.settings().http2.max_header_list_bytes as usize
    }

    fn take_block(&mut self, about: About, octets: &[u8]) -> Received {
        // Whatever becomes of it: the next blocks build on this one.
        let mut draft = HeadDraft::new(self.max_list());
        self.decoder.decode(octets, |field| draft.take(field)).map_err(
            |refused| match refused {
                Refused::Invalid | Refused::Incomplete => {
                    Fault::Connection(Code::COMPRESSION_ERROR, "invalid HPACK")
                }
                Refused::TooMuch => Fault::Abuse(CutReason::Headers),
            },
        )?;
        let id = about.stream;
        if id.is_multiple_of(2) {
            return Err(Fault::protocol("a request on a stream with an even number"));
        }
        if id > self.last_stream {
            return self.open(about, draft);
        }
        if self.streams.contains(id) {
            return self.trailers(about, draft);
        }
        match self.ended.find(id) {
            // It may have been there, so long ago that we forgot.
            None if self.ended.forgets() => self.spend(),
            None => Err(Fault::protocol("a request on a stream with a number that is not new")),
            Some(_) => self.late(id),
        }
    }

    /// A new request.
    fn open(&mut self, about: About, draft: HeadDraft) -> Received {
        let id = about.stream;
        if matches!(self.phase, Phase::Finished) {
            return self.spend(); // section 6.8: what comes behind the last stream is ignored
        }
        self.last_stream = id;
        let settings = &self.shard.settings().http2;
        if self.streams.len() >= settings.max_concurrent_streams as usize {
            self.shard.metrics().stream_reset("max_concurrent_streams");
            self.reset(id, Code::REFUSED_STREAM);
            return self.spend();
        }
        let malformed = Fault::Stream(id, Code::PROTOCOL_ERROR);
        let request = match draft.into_request() {
            Ok(request) if !about.is_malformed => request,
            Err(Unfit::TooLarge) => {
                self.shard.metrics().request_rejected("header");
                self.answer_at_once(id, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &about);
                return self.spend();
            }
            _ => return Err(malformed),
        };
        let Ok(announced) = head::content_length(request.headers()) else { return Err(malformed) };
        // What follows a CONNECT is no content (section 8.5); whether it may announce any is not
        // decided here.
        let announced = announced.filter(|_| *request.method() != Method::CONNECT);
        if about.ends_stream && announced.is_some_and(|length| length > 0) {
            return Err(malformed);
        }
        self.begin(id, request, announced, about.ends_stream);
        Ok(())
    }

    fn answer_at_once(&mut self, id: u32, status: StatusCode, about: &About) {
        self.sender.answer(id, status);
        if about.ends_stream {
            self.remove(id, How::Complete);
        } else {
            self.reset(id, Code::NO_ERROR);
        }
    }

    fn begin(&mut self, id: u32, request: Request<()>, announced: Option<u64>, is_whole: bool) {
        let waker = self.wakes.caller(Part::Stream(id));
        let window = self.shard.settings().http2.stream_window;
        let (receiving, body) = if is_whole {
            (Receiving::nothing(), None)
        } else {
            let awaits = request_body::expects_continue(request.headers());
            let (feed, incoming) = body::channel(waker.clone(), window, announced, awaits);
            let receiving = Receiving::body(feed, window, announced);
            (receiving, Some(incoming))
        };
        let switch = Switch::new(self.wakes.caller(Part::Cut(id)));
        let running = RunningRequest::begin(Rc::clone(&self.state));
        let interim = Rc::<Waiting>::default();
        let body = RequestBody::from_http2(body, Interim::over_http2(Rc::clone(&interim)));
        let request = request.map(|()| body);
        let handling = self.shard.handler().clone().handle(request, Rc::clone(&self.state));
        let stream = Stream {
            stage: Stage::Handling { future: Box::pin(handling), switch, interim },
            send_window: i64::from(self.sender.peer.initial_window),
            blocked_since: None,
            receiving,
            waker,
            begun: Instant::now(),
            _running: running,
        };
        self.budget.earn();
        // Who was alone has woken the task without saying who it was.
        self.ready.extend(self.streams.alone());
        self.streams.insert(id, Box::new(stream));
        self.ready.push_back(id);
    }

    /// Section 8.1: the fields behind a body.
    fn trailers(&mut self, about: About, draft: HeadDraft) -> Received {
        let id = about.stream;
        let stream = self.streams.get_mut(id).expect("checked");
        if stream.receiving.is_over() {
            return Err(Fault::Stream(id, Code::STREAM_CLOSED));
        }
        if !about.ends_stream || about.is_malformed {
            return Err(Fault::Stream(id, Code::PROTOCOL_ERROR));
        }
        let malformed = Fault::Stream(id, Code::PROTOCOL_ERROR);
        let trailers = draft.into_trailers().or(Err(malformed))?;
        let is_read = stream.receiving.is_read();
        let ended = stream.receiving.end(Some(trailers));
        if !is_read {
            self.ready.push_back(id); // it may be the end of the stream
        }
        ended.map_err(|code| Fault::Stream(id, code))
    }

    /// Section 6.3. Priorities are deprecated; their frames are still checked.
    fn priority(&mut self, head: Head, payload: &[u8]) -> Received {
        let fault = |code, what| {
            // A stream that may be idle is not reset (section 6.4).
            if self.is_unknown(head.stream) {
                Fault::Connection(code, what)
            } else {
                Fault::Stream(head.stream, code)
            }
        };
        if payload.len() != PRIORITY {
            return Err(fault(Code::FRAME_SIZE_ERROR, "a PRIORITY of another size than 5"));
        }
        if dependency(payload) == Some(head.stream) {
            return Err(fault(Code::PROTOCOL_ERROR, "a stream that depends on itself"));
        }
        self.spend()
    }

    /// Section 6.4.
    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Received {
        if payload.len() != 4 {
            return Err(Fault::frame_size("a RST_STREAM of another size than 4"));
        }
        if self.is_idle(head.stream) {
            return Err(Fault::protocol("RST_STREAM on a stream that was never opened"));
        }
        if !self.streams.contains(head.stream) {
            return self.spend();
        }
        let stream = self.remove(head.stream, How::Reset).expect("checked");
        let is_unanswered = matches!(stream.stage, Stage::Handling { .. });
        if is_unanswered && !self.resets.may(stream.begun, Instant::now()) {
            return Err(Fault::Abuse(CutReason::Resets));
        }
        Ok(())
    }

    /// Section 6.5.
    fn settings(&mut self, head: Head, payload: &[u8]) -> Received {
        if head.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Fault::frame_size(
                    "an acknowledgement of SETTINGS that says something",
                ));
            }
            return self.spend();
        }
        self.has_settings = true;
        let before = i64::from(self.sender.peer.initial_window);
        self.sender.peer.update(payload)?;
        let more = i64::from(self.sender.peer.initial_window) - before;
        if more != 0 {
            for (_, stream) in self.streams.iter_mut() {
                stream.send_window += more;
                if stream.send_window > i64::from(MAX_31_BITS) {
                    let what = "a window beyond 31 bits";
                    return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR, what));
                }
            }
            // Once for all the frames that are read together: a client may say it a thousand times.
            self.has_new_windows = true;
        }
        self.sender.acknowledge_settings();
        self.spend()
    }

    /// Section 6.7.
    fn ping(&mut self, head: Head, payload: &[u8]) -> Received {
        let Ok(payload) = payload.try_into() else {
            return Err(Fault::frame_size("a PING of another size than 8"));
        };
        if !head.has(flag::ACK) {
            self.sender.ping(payload, true);
        } else if payload == FINISH_PING && matches!(self.phase, Phase::Finishing(_)) {
            self.finished();
        }
        self.spend()
    }

    /// Section 6.8: the client opens no more streams; what it has opened is finished.
    fn goaway(&mut self, payload: &[u8]) -> Received {
        if payload.len() < 8 {
            return Err(Fault::frame_size("a GOAWAY that is cut short"));
        }
        if matches!(self.phase, Phase::Open | Phase::Finishing(_)) {
            self.phase = Phase::Finished;
        }
        self.spend()
    }

    /// Section 6.9.
    fn window_update(&mut self, head: Head, payload: &[u8]) -> Received {
        let size = Fault::frame_size("a WINDOW_UPDATE of another size than 4");
        let increment = payload.try_into().or(Err(size))?;
        let increment = i64::from(u32::from_be_bytes(increment) & MAX_31_BITS);
        if head.stream == 0 {
            if increment == 0 {
                return Err(Fault::protocol("a WINDOW_UPDATE by 0"));
            }
            self.sender.window += increment;
            if self.sender.window > i64::from(MAX_31_BITS) {
                let what = "a window beyond 31 bits";
                return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR, what));
            }
            self.ready.extend(self.starved.drain(..));
            return self.spend();
        }
        if self.is_idle(head.stream) {
            return Err(Fault::protocol("WINDOW_UPDATE on a stream that was never opened"));
        }
        let Some(stream) = self.streams.get_mut(head.stream) else {
            return self.spend(); // it was underway when the stream ended
        };
        if increment == 0 {
            return Err(Fault::Stream(head.stream, Code::PROTOCOL_ERROR));
        }
        stream.send_window += increment;
        if stream.send_window > i64::from(MAX_31_BITS) {
            return Err(Fault::Stream(head.stream, Code::FLOW_CONTROL_ERROR));
        }
        if stream.blocked_since.is_some() {
            self.ready.push_back(head.stream);
        }
        self.spend()
    }
}

/// Octets of a priority (section 6.3).
const PRIORITY: usize = 5;

/// The stream that a priority names; the first bit says something else.
fn dependency(priority: &[u8]) -> Option<u32> {
    Some(frame::read_u32(priority)? & MAX_31_BITS)
}
