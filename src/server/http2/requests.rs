//! Header blocks: requests, and the trailers behind their bodies (RFC 9113, sections 6.2, 6.10, 8.1).

use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use http::{Method, Request, Response};
use tokio::time::Instant;

use super::body;
use super::connection::Connection;
use super::ending::Phase;
use super::error::{Code, Fault};
use super::frame::{self, Head, flag};
use super::head::{self, HeadDraft, RefusedHead};
use super::hpack::Refused;
use super::receive::{PRIORITY, Received, dependency};
use super::receiving::Receiving;
use super::stream::{Precedence, Stage, Stream};
use super::wakes::Part;
use crate::server::connection::{CutReason, Handler};
use crate::server::interim::{Interim, InterimQueue};
use crate::server::request_body::{self, RequestBody};
use crate::server::request_error::RequestError;
use crate::server::running::RunningRequest;
use crate::server::stream_abort::StreamAbortHandle;

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
        match read_head(draft, &about) {
            Ok((request, announced)) => self.begin(id, request, announced, about.ends_stream),
            Err(refused) => self.refuse(&about, *refused),
        }
        Ok(())
    }

    /// Answers a request that cannot be handled. It costs no more than one that leads nowhere, and so
    /// counts for nothing else.
    fn refuse(&mut self, about: &About, RefusedHead { head, why }: RefusedHead) {
        let waker = self.wakes.caller(Part::Stream(about.stream));
        let window = self.shard.settings().http2.stream_window;
        // Its reader is gone: what still comes is thrown away.
        let (feed, _unread) =
            body::channel(waker.clone(), Arc::clone(&self.reads), window, None, false);
        let is_malformed = why.is_malformed();
        let receiving = Receiving::unheard(feed, window, about.ends_stream, is_malformed);
        let response = self.shard.handler().refuse(&head, why);
        let is_head = *head.method() == Method::HEAD;
        let response = std::future::ready(response);
        self.start((about.stream, is_head), response, Rc::default(), receiving, waker);
    }

    /// Answers a request whose rest shows that it is none; if its response has begun, only its stream
    /// can tell.
    pub(super) fn give_up(&mut self, id: u32, why: RequestError) {
        if let Err(reason) = self.bear(id) {
            return self.cut_off(reason);
        }
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Stage::Handling { future, is_head, .. } = &mut stream.stage else {
            return self.reset(id, Code::PROTOCOL_ERROR);
        };
        stream.receiving.give_up(why.is_malformed());
        let mut head = Request::new(());
        if *is_head {
            *head.method_mut() = Method::HEAD;
        }
        let response = self.shard.handler().refuse(&head, why);
        *future = Box::pin(std::future::ready(response));
        self.ready.push_back(id);
    }

    fn begin(&mut self, id: u32, request: Request<()>, announced: Option<u64>, is_whole: bool) {
        let waker = self.wakes.caller(Part::Stream(id));
        let window = self.shard.settings().http2.stream_window;
        let (receiving, body) = if is_whole {
            (Receiving::nothing(), None)
        } else {
            let awaits = request_body::expects_continue(request.headers());
            let reads = Arc::clone(&self.reads);
            let (feed, incoming) = body::channel(waker.clone(), reads, window, announced, awaits);
            let receiving = Receiving::body(feed, window, announced);
            (receiving, Some(incoming))
        };
        let interim = Rc::<InterimQueue>::default();
        let body = RequestBody::from_http2(body, Interim::over_http2(Rc::clone(&interim)));
        let is_head = *request.method() == Method::HEAD;
        let request = request.map(|()| body);
        let handling = self.shard.handler().clone().handle(request, Rc::clone(&self.state));
        self.budget.earn();
        self.start((id, is_head), handling, interim, receiving, waker);
    }

    /// Begins a stream, and the response to it.
    fn start(
        &mut self,
        (id, is_head): (u32, bool),
        response: impl Future<Output = Response<H::Body>> + 'static,
        interim: Rc<InterimQueue>,
        receiving: Receiving,
        waker: Waker,
    ) {
        let switch = StreamAbortHandle::new(self.wakes.caller(Part::Cut(id)));
        let running = RunningRequest::begin(Rc::clone(&self.state));
        let stream = Stream {
            stage: Stage::Handling { future: Box::pin(response), switch, interim, is_head },
            send_window: i64::from(self.sender.peer.initial_window),
            blocked_since: None,
            receiving,
            precedence: Precedence::Other,
            waker,
            begun: Instant::now(),
            _running: running,
        };
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
        let is_read = stream.receiving.is_read();
        let ended = match draft.into_trailers() {
            Ok(_) if !about.ends_stream || about.is_malformed => {
                let what = "the fields behind the body do not end the stream";
                Err(Fault::request(id, RequestError::malformed(what)))
            }
            Ok(trailers) => stream.receiving.end(trailers).map_err(|wrong| wrong.fault(id)),
            Err(why) => Err(Fault::request(id, why)),
        };
        if ended.is_err() && about.ends_stream {
            stream.receiving.close();
        }
        if !is_read {
            self.ready.push_back(id); // it may be the end of the stream
        }
        ended
    }
}

/// What a header block asks for, and the length of the body that it announces.
fn read_head(
    draft: HeadDraft,
    about: &About,
) -> Result<(Request<()>, Option<u64>), Box<RefusedHead>> {
    let head = draft.into_request()?;
    // What follows a CONNECT is no content (section 8.5); whether it may announce any is not decided
    // here.
    let is_connect = *head.method() == Method::CONNECT;
    let why = match head::content_length(head.headers()) {
        _ if about.is_malformed => RequestError::malformed("its stream depends on itself"),
        Ok(_) if is_connect => return Ok((head, None)),
        Ok(Some(1..)) if about.ends_stream => {
            RequestError::malformed("content-length announces a body, and there is none")
        }
        Ok(announced) => return Ok((head, announced)),
        Err(why) => why,
    };
    Err(Box::new(RefusedHead { head, why }))
}
