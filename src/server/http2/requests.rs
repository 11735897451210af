//! Header blocks: requests, and the trailers behind their bodies (RFC 9113, sections 6.2, 6.10, 8.1).

use std::rc::Rc;

use http::{Method, Request, StatusCode};
use tokio::time::Instant;

use super::body;
use super::connection::Connection;
use super::ending::Phase;
use super::error::{Code, Fault};
use super::frame::{self, Head, flag};
use super::head::{self, HeadDraft, Unfit};
use super::hpack::Refused;
use super::receive::{PRIORITY, Received, dependency};
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
    begun: Instant,
}

/// What a header block is about.
#[derive(Clone, Copy, Debug)]
struct About {
    stream: u32,
    ends_stream: bool,
    // It says of its stream that it depends on itself.
    is_malformed: bool,
}

impl Block {
    /// The stream that it is about.
    pub(super) fn stream(&self) -> u32 {
        self.about.stream
    }

    /// When its first frame had come.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }
}

impl<H: Handler> Connection<H> {
    /// Section 6.2.
    pub(super) fn headers(&mut self, head: Head, payload: &[u8]) -> Received {
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
        let (octets, begun) = (fields.to_vec(), Instant::now());
        self.block = Some(Box::new(Block { octets, about, frames: 1, begun }));
        Ok(())
    }

    /// Section 6.10.
    pub(super) fn continuation(&mut self, head: Head, payload: &[u8]) -> Received {
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
        let ended = stream.receiving.end(trailers);
        if !is_read {
            self.ready.push_back(id); // it may be the end of the stream
        }
        ended.map_err(|code| Fault::Stream(id, code))
    }
}
