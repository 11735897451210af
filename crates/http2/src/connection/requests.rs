//! HEADERS and CONTINUATION: requests and their trailers (RFC 9113, sections 6.2, 6.10, 8.1).

use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use http::{Method, Request, Response};
use tokio::time::Instant;

use super::Connection;
use super::receive::{PRIORITY_LEN, ReceiveResult, dependency};
use super::shutdown::ShutdownPhase;
use crate::abuse::{AbuseReason, ResetReason};
use crate::body::{self, IncomingBody};
use crate::body_receiver::BodyReceiver;
use crate::error::{ErrorCode, ReceiveError};
use crate::field_value::expects_continue;
use crate::frame::{self, FrameHeader, flag};
use crate::header_list::{self, HeaderList, RefusedHead};
use crate::hpack::HpackError;
use crate::interim::InterimQueue;
use crate::request_error::RequestError;
use crate::server::Http2Server;
use crate::stream::{Precedence, ResponseStage, Stream};
use crate::stream_abort::StreamAbortHandle;
use crate::wake_queue::ConnectionPart;

/// The frames of one header block, at most: a block of a size that we accept needs fewer
/// (CVE-2024-27316).
const MAX_BLOCK_FRAMES: u32 = 10;
/// The size of the largest header block, as a multiple of SETTINGS_MAX_HEADER_LIST_SIZE.
const MAX_BLOCK_FACTOR: usize = 8;

/// A header block whose END_HEADERS has not come.
#[derive(Debug)]
pub(super) struct PartialHeaderBlock {
    octets: Vec<u8>,
    headers: HeadersFrame,
    frames: u32,
    begun: Instant,
}

/// What the HEADERS frame of a block says about its stream.
#[derive(Clone, Copy, Debug)]
struct HeadersFrame {
    stream: u32,
    ends_stream: bool,
    // The stream depends on itself (RFC 7540, section 5.3.1).
    depends_on_itself: bool,
}

impl PartialHeaderBlock {
    /// The stream of the block.
    pub(super) fn stream(&self) -> u32 {
        self.headers.stream
    }

    /// When its HEADERS frame came.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }
}

impl<S: Http2Server, T> Connection<S, T> {
    /// Section 6.2.
    pub(super) fn headers(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        let too_short = ReceiveError::protocol("padding longer than the payload");
        let mut fields = frame::without_padding(header, payload).ok_or(too_short)?;
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            let (priority, rest) = fields.split_at_checked(PRIORITY_LEN).ok_or_else(|| {
                ReceiveError::frame_size("HEADERS too short for its priority fields")
            })?;
            depends_on_itself = dependency(priority) == Some(header.stream);
            fields = rest;
        }
        let ends_stream = header.has(flag::END_STREAM);
        let headers = HeadersFrame { stream: header.stream, ends_stream, depends_on_itself };
        if header.has(flag::END_HEADERS) {
            return self.receive_block(headers, fields);
        }
        let (octets, begun) = (fields.to_vec(), Instant::now());
        self.partial_block =
            Some(Box::new(PartialHeaderBlock { octets, headers, frames: 1, begun }));
        Ok(())
    }

    /// Section 6.10.
    pub(super) fn continuation(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        let max_block = self.max_list() * MAX_BLOCK_FACTOR;
        let mut block = self.partial_block.take().expect("checked: CONTINUATION was expected");
        block.frames += 1;
        if block.frames > MAX_BLOCK_FRAMES || block.octets.len() + payload.len() > max_block {
            return Err(ReceiveError::Abuse(AbuseReason::Headers));
        }
        block.octets.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            return self.receive_block(block.headers, &block.octets);
        }
        self.partial_block = Some(block);
        Ok(())
    }

    fn max_list(&self) -> usize {
        self.server.settings().max_header_list_bytes as usize
    }

    fn receive_block(&mut self, headers: HeadersFrame, octets: &[u8]) -> ReceiveResult {
        // Decoded even if the request is refused: later blocks depend on the dynamic table (section
        // 4.3).
        let mut list = HeaderList::new(self.max_list());
        self.decoder.decode(octets, |field| list.add(field)).map_err(|refused| match refused {
            HpackError::Invalid | HpackError::Incomplete => {
                ReceiveError::Connection(ErrorCode::COMPRESSION_ERROR, "invalid header block")
            }
            HpackError::Stopped => ReceiveError::Abuse(AbuseReason::Headers),
        })?;
        let id = headers.stream;
        if id.is_multiple_of(2) {
            return Err(ReceiveError::protocol("HEADERS on a stream with an even identifier"));
        }
        if id > self.last_stream {
            return self.open_stream(headers, list);
        }
        if self.streams.contains(id) {
            return self.trailers(headers, list);
        }
        match self.closed_streams.find(id) {
            // It may have closed so long ago that it is no longer remembered.
            None if self.closed_streams.is_full() => self.spend_budget(),
            None => Err(ReceiveError::protocol(
                "HEADERS on a stream with a lower identifier than before",
            )),
            Some(_) => self.receive_on_closed(id),
        }
    }

    /// Opens a stream for a new request.
    fn open_stream(&mut self, headers: HeadersFrame, list: HeaderList) -> ReceiveResult {
        let id = headers.stream;
        if matches!(self.phase, ShutdownPhase::Draining) {
            return self.spend_budget(); // section 6.8: streams above the last one are ignored
        }
        self.last_stream = id;
        let settings = self.server.settings();
        if self.streams.len() >= settings.max_concurrent_streams as usize {
            self.server.stream_reset(ResetReason::MaxStreams);
            self.reset(id, ErrorCode::REFUSED_STREAM);
            return self.spend_budget();
        }
        match read_head(list, &headers) {
            Ok((request, announced)) => {
                self.begin_request(id, request, announced, headers.ends_stream)
            }
            Err(refused) => self.refuse_request(&headers, *refused),
        }
        Ok(())
    }

    /// Responds to a request that cannot be handled, as the handler words it. Not charged to any
    /// budget: it costs no more than a request for an unknown path.
    fn refuse_request(&mut self, headers: &HeadersFrame, RefusedHead { head, why }: RefusedHead) {
        let waker = self.wake_queue.waker(ConnectionPart::Stream(headers.stream));
        let window = self.server.settings().stream_window;
        // Without a reader: the rest of the request is dropped.
        let (feed, _unread) =
            body::channel(waker.clone(), Arc::clone(&self.consumed), window, None, false);
        let is_malformed = why.is_malformed();
        let receiver = BodyReceiver::unread_body(feed, window, headers.ends_stream, is_malformed);
        let response = self.server.refuse(&head, why);
        let is_head = *head.method() == Method::HEAD;
        let response = std::future::ready(response);
        self.start_stream((headers.stream, is_head), response, Rc::default(), receiver, waker);
    }

    /// Gives up a request that turned out to be in error after its header. If its response has
    /// begun, the stream is reset.
    pub(super) fn abort_request(&mut self, id: u32, why: RequestError) {
        if let Err(reason) = self.count_stream_error(id) {
            return self.cut_off(reason);
        }
        let Some(stream) = self.streams.get_mut(id) else { return };
        let ResponseStage::Handling { future, is_head, .. } = &mut stream.stage else {
            return self.reset(id, ErrorCode::PROTOCOL_ERROR);
        };
        stream.receiver.abort(why.is_malformed());
        let mut head = Request::new(());
        if *is_head {
            *head.method_mut() = Method::HEAD;
        }
        let response = self.server.refuse(&head, why);
        *future = Box::pin(std::future::ready(response));
        self.ready.push_back(id);
    }

    fn begin_request(
        &mut self,
        id: u32,
        request: Request<()>,
        announced: Option<u64>,
        is_whole: bool,
    ) {
        let waker = self.wake_queue.waker(ConnectionPart::Stream(id));
        let window = self.server.settings().stream_window;
        let (receiver, body) = if is_whole {
            (BodyReceiver::without_body(), IncomingBody::none())
        } else {
            let awaits = expects_continue(request.headers());
            let consumed = Arc::clone(&self.consumed);
            let (feed, incoming) =
                body::channel(waker.clone(), consumed, window, announced, awaits);
            let receiver = BodyReceiver::new(feed, window, announced);
            (receiver, incoming)
        };
        let interim = Rc::<InterimQueue>::default();
        let is_head = *request.method() == Method::HEAD;
        let request = request.map(|()| body);
        let handling = self.server.handle(request, Rc::clone(&interim));
        self.budget.earn();
        self.start_stream((id, is_head), handling, interim, receiver, waker);
    }

    /// Adds a stream, and starts its response.
    fn start_stream(
        &mut self,
        (id, is_head): (u32, bool),
        response: impl Future<Output = Response<S::Body>> + 'static,
        interim: Rc<InterimQueue>,
        receiver: BodyReceiver,
        waker: Waker,
    ) {
        let switch = StreamAbortHandle::new(self.wake_queue.waker(ConnectionPart::Reset(id)));
        let guard = self.server.open_stream();
        let stream = Stream {
            stage: ResponseStage::Handling { future: Box::pin(response), switch, interim, is_head },
            send_window: i64::from(self.sender.peer.initial_window),
            blocked_since: None,
            receiver,
            precedence: Precedence::Other,
            waker,
            begun: Instant::now(),
            _guard: guard,
        };
        // The stream that was alone wakes the task without a queued wake: its next one would be
        // lost.
        self.ready.extend(self.streams.only_stream());
        self.streams.insert(id, Box::new(stream));
        self.ready.push_back(id);
    }

    /// Handles the trailers of a request (section 8.1).
    fn trailers(&mut self, headers: HeadersFrame, list: HeaderList) -> ReceiveResult {
        let id = headers.stream;
        let stream = self.streams.get_mut(id).expect("checked");
        if stream.receiver.has_ended() {
            return Err(ReceiveError::Stream(id, ErrorCode::STREAM_CLOSED));
        }
        let is_read = stream.receiver.is_read();
        let ended = match list.into_trailers() {
            Ok(_) if !headers.ends_stream || headers.depends_on_itself => {
                let what = "trailers without END_STREAM";
                Err(ReceiveError::request(id, RequestError::malformed(what)))
            }
            Ok(trailers) => stream.receiver.end(trailers).map_err(|error| error.into_error(id)),
            Err(why) => Err(ReceiveError::request(id, why)),
        };
        if ended.is_err() && headers.ends_stream {
            stream.receiver.close();
        }
        if !is_read {
            self.ready.push_back(id); // the stream may be complete now
        }
        ended
    }
}

/// The request that a header block describes, and its `content-length`.
fn read_head(
    list: HeaderList,
    headers: &HeadersFrame,
) -> Result<(Request<()>, Option<u64>), Box<RefusedHead>> {
    let head = list.into_request()?;
    // CONNECT has no content (section 8.5): its `content-length` is left to the handler.
    let is_connect = *head.method() == Method::CONNECT;
    let why = match header_list::content_length(head.headers()) {
        _ if headers.depends_on_itself => RequestError::malformed("its stream depends on itself"),
        Ok(_) if is_connect => return Ok((head, None)),
        Ok(Some(1..)) if headers.ends_stream => {
            RequestError::malformed("content-length is not 0, but the request has no body")
        }
        Ok(announced) => return Ok((head, announced)),
        Err(why) => why,
    };
    Err(Box::new(RefusedHead { head, why }))
}
