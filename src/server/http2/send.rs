//! The sending side of streams: responses as frames, within the flow-control windows of the client.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use tokio::time::Instant;

use super::CONNECTION_SPECIFIC;
use super::connection::{Connection, WRITE_BATCH};
use super::error::ErrorCode;
use super::frame::{self, DEFAULT_WINDOW, FRAME_HEADER_LEN, flag, kind};
use super::hpack::HpackEncoder;
use super::output::Output;
use super::settings::{ClientSettings, put_server_preface};
use super::shutdown::ConnectionPhase;
use super::stream::{ClosedBy, NextOutput, Precedence, ResponseStage, Stream};
use crate::server::carrier::FramedBody;
use crate::server::connection::{BodyError, Handler};
use crate::server::date::date;
use crate::server::event_stream::is_event_stream;
use crate::server::settings::Http2Settings;
use crate::server::stream_abort;

/// How much a stream may send when it is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendLimits {
    /// Once the output holds this many octets, other streams are served.
    pub(super) batch: usize,
    /// Octets of the connection's send window that are left to other streams.
    pub(super) window_reserve: i64,
}

impl SendLimits {
    /// One TLS record, and the whole window.
    pub(super) const FULL: Self = Self { batch: WRITE_BATCH, window_reserve: 0 };
}

/// Frames to the client, and what limits them.
#[derive(Debug)]
pub(super) struct FrameSender {
    pub(super) output: Output,
    /// The send window of the connection, in octets.
    pub(super) window: i64,
    pub(super) peer: ClientSettings,
    encoder: HpackEncoder,
}

/// Why a stream stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendOutcome {
    /// The body is pending, or the stream's own window is used up.
    Pending,
    /// The window of the connection is used up, or what bulk may take of it.
    WindowExhausted,
    /// The output is full for now: other streams are served first.
    BatchFull,
    /// END_STREAM has been sent.
    Complete,
    /// The body failed before its end.
    Failed,
}

impl FrameSender {
    pub(super) fn new(settings: &Http2Settings) -> Self {
        let mut output = Output::default();
        put_server_preface(output.buffer(), settings);
        Self {
            output,
            window: i64::from(DEFAULT_WINDOW),
            peer: ClientSettings::default(),
            encoder: HpackEncoder::default(),
        }
    }

    fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let out = self.output.buffer();
        frame::put_frame_header(out, payload.len(), kind, flags, stream);
        out.extend_from_slice(payload);
    }

    pub(super) fn reset(&mut self, stream: u32, code: ErrorCode) {
        self.put(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    pub(super) fn goaway(&mut self, last_stream: u32, code: ErrorCode, what: &str) {
        let payload =
            [&last_stream.to_be_bytes()[..], &code.0.to_be_bytes(), what.as_bytes()].concat();
        self.put(kind::GOAWAY, 0, 0, &payload);
    }

    pub(super) fn ping(&mut self, payload: &[u8; 8], is_ack: bool) {
        self.put(kind::PING, if is_ack { flag::ACK } else { 0 }, 0, payload);
    }

    pub(super) fn acknowledge_settings(&mut self) {
        self.put(kind::SETTINGS, flag::ACK, 0, &[]);
    }

    pub(super) fn window_update(&mut self, stream: u32, octets: usize) {
        let octets = u32::try_from(octets).expect("no more than a window, which has 31 bits");
        self.put(kind::WINDOW_UPDATE, 0, stream, &octets.to_be_bytes());
    }

    fn response_header(
        &mut self,
        stream: u32,
        status: StatusCode,
        headers: &HeaderMap,
        is_last: bool,
    ) {
        self.block(stream, is_last, |encoder, block| encoder.response(status, headers, block));
    }

    /// Sends trailers, which end the stream.
    fn trailers(&mut self, stream: u32, trailers: &HeaderMap) {
        if trailers.is_empty() {
            // HEADERS without a field would be an empty header block: DATA ends the stream instead.
            return self.put(kind::DATA, flag::END_STREAM, stream, &[]);
        }
        self.block(stream, true, |encoder, block| encoder.trailers(trailers, block));
    }

    /// Sends a header block in as many frames as it needs (section 4.3).
    fn block(
        &mut self,
        stream: u32,
        is_last: bool,
        encode: impl FnOnce(&mut HpackEncoder, &mut Vec<u8>),
    ) {
        let mut block = Vec::with_capacity(256);
        encode(&mut self.encoder, &mut block);
        for (kind, flags, piece) in
            frame::header_block_frames(&block, self.peer.max_frame_size, is_last)
        {
            self.put(kind, flags, stream, piece);
        }
    }
}

impl<H: Handler> Connection<H> {
    /// Serves a stream that was woken: updates its receive window, then continues its response.
    pub(super) fn serve_stream(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let is_bulk = stream.precedence == Precedence::Bulk;
        let (read, update) = stream.receiver.take_read();
        if read > 0 {
            stream.stage.request_received(Instant::now);
            self.receive_window.shrink(stream.receiver.trim());
        }
        if update > 0 {
            self.sender.window_update(id, update);
            self.measure_window(id, update);
        }
        if read > 0 {
            self.update_receive_window();
        }
        if is_bulk {
            self.queue_bulk(id);
        } else {
            self.respond(id);
        }
    }

    /// Continues the response of a stream as far as it goes now.
    pub(super) fn respond(&mut self, id: u32) {
        let is_only_stream = self.streams.only_stream().is_some();
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.receiver.take_continue() {
            // An interim response (section 8.1).
            self.sender.response_header(id, StatusCode::CONTINUE, &HeaderMap::new(), false);
        }
        if let ResponseStage::Handling { future, switch, interim, .. } = &mut stream.stage {
            let _handled = stream_abort::enter(switch);
            let mut context = Context::from_waker(&stream.waker);
            let polled = future.as_mut().poll(&mut context);
            for (status, headers) in interim.take() {
                self.sender.response_header(id, status, &headers, false);
            }
            let Poll::Ready(response) = polled else { return };
            self.state.expect_body(response.body().size_hint().lower(), self.shard.settings());
            let is_last = self.sender.start_response(id, stream, response);
            if stream.precedence == Precedence::Events {
                self.bulk.event_stream_began(); // undone by `remove`, even if there is no body
            }
            if is_last {
                return self.complete(id);
            }
        }
        if let ResponseStage::Lingering { .. } = stream.stage {
            return self.complete(id);
        }
        if self.is_blocked {
            push_once(&mut self.write_blocked, id);
            return;
        }
        let before = self.sender.output.len();
        let waker = if is_only_stream { self.task.as_ref() } else { None };
        let is_bulk = stream.precedence == Precedence::Bulk;
        let limits = if is_bulk { self.bulk.limits() } else { Some(SendLimits::FULL) };
        let Some(limits) = limits else {
            self.state.keep_alive.note_blocked();
            push_once(&mut self.window_blocked, id);
            return;
        };
        match self.sender.send(id, stream, waker, limits) {
            SendOutcome::Pending if stream.blocked_since.is_some() => {
                self.state.keep_alive.note_blocked()
            }
            SendOutcome::Pending => {}
            SendOutcome::WindowExhausted => {
                self.state.keep_alive.note_blocked();
                push_once(&mut self.window_blocked, id);
            }
            SendOutcome::BatchFull if stream.becomes_bulk() => self.queue_bulk(id),
            SendOutcome::BatchFull => self.ready.push_back(id),
            SendOutcome::Complete => self.complete(id),
            SendOutcome::Failed => self.reset(id, ErrorCode::INTERNAL_ERROR),
        }
        let sent = self.sender.output.len() - before;
        if sent > 0 {
            self.budget.earn();
        }
        if is_bulk {
            self.bulk.sent(sent);
        }
    }

    /// Ends a stream whose response has been sent. If the request has not ended, RST_STREAM with
    /// NO_ERROR could follow at once (section 8.1), but many clients drop the response when they
    /// see it. So the rest of the request is received and dropped for up to `lingering_close`, and
    /// the reset follows then.
    fn complete(&mut self, id: u32) {
        let is_open = matches!(self.phase, ConnectionPhase::Open);
        let lingers = is_open && !self.shard.settings().lingering_close.is_zero();
        let Some(stream) = self.streams.get_mut(id) else { return };
        match stream.receiver.reset_code() {
            None => drop(self.remove(id, ClosedBy::EndStream)),
            Some(_) if matches!(stream.stage, ResponseStage::Lingering { .. }) => {}
            Some(ErrorCode::NO_ERROR) if lingers => {
                let now = Instant::now();
                // Drops the body of the response, and with it whatever still reads the request.
                stream.stage = ResponseStage::Lingering { since: now, last_received: now };
                stream.blocked_since = None;
                stream.receiver.discard_rest();
                self.ready.push_back(id);
                self.start_linger_timer();
            }
            Some(code) => self.reset(id, code),
        }
    }
}

impl FrameSender {
    /// Sends the header of a response; returns whether END_STREAM went with it.
    fn start_response<B: Body<Data = Bytes, Error = BodyError>>(
        &mut self,
        id: u32,
        stream: &mut Stream<B>,
        response: Response<B>,
    ) -> bool {
        let is_head = matches!(stream.stage, ResponseStage::Handling { is_head: true, .. });
        let (mut parts, body) = response.into_parts();
        for name in &CONNECTION_SPECIFIC {
            parts.headers.remove(name);
        }
        parts.headers.entry(DATE).or_insert_with(date);
        let is_last = body.is_end_stream();
        let is_events = is_event_stream(&parts.headers);
        if !is_last {
            announce_length(&mut parts, body.size_hint().exact(), is_head);
        }
        if parts.status == StatusCode::NO_CONTENT {
            parts.headers.remove(CONTENT_LENGTH); // RFC 9110, section 8.6: not allowed in a 204
        }
        self.response_header(id, parts.status, &parts.headers, is_last);
        stream.precedence = if is_events { Precedence::Events } else { Precedence::Other };
        stream.stage = ResponseStage::Sending { body, next: NextOutput::Poll };
        stream.receiver.forbid_continue();
        is_last
    }

    /// Sends what the body has, within the windows and `limits`.
    ///
    /// `task` is set if the stream is alone on its connection: its body then wakes the task
    /// directly, which saves the queued wake.
    fn send<B>(
        &mut self,
        id: u32,
        stream: &mut Stream<B>,
        task: Option<&Waker>,
        limits: SendLimits,
    ) -> SendOutcome
    where
        B: Body<Data = Bytes, Error = BodyError> + FramedBody + Unpin,
    {
        let Stream {
            stage: ResponseStage::Sending { body, next, .. },
            waker,
            send_window,
            blocked_since,
            ..
        } = stream
        else {
            return SendOutcome::Pending;
        };
        let waker = task.unwrap_or(waker);
        loop {
            match next {
                NextOutput::Poll => match poll_next(body, waker) {
                    Poll::Ready(Ok(polled)) => *next = polled,
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(%error, "response body failed before its end");
                        return SendOutcome::Failed;
                    }
                    Poll::Pending => return SendOutcome::Pending,
                },
                NextOutput::Trailers(trailers) => {
                    self.trailers(id, trailers);
                    return SendOutcome::Complete;
                }
                NextOutput::Data { rest, is_last } if rest.is_empty() => {
                    if *is_last {
                        self.put(kind::DATA, flag::END_STREAM, id, &[]);
                        return SendOutcome::Complete;
                    }
                    *next = NextOutput::Poll;
                }
                NextOutput::Data { rest, is_last } => {
                    let most = self.max_data(*send_window, limits);
                    if most == 0 {
                        blocked_since.get_or_insert_with(Instant::now);
                        return if *send_window > 0 {
                            SendOutcome::WindowExhausted
                        } else {
                            SendOutcome::Pending
                        };
                    }
                    *blocked_since = None;
                    *send_window -= self.data(id, rest, *is_last, most);
                    match (rest.is_empty(), *is_last) {
                        (true, true) => return SendOutcome::Complete,
                        // Releases the buffer now, not when the next event comes.
                        (true, false) => *next = NextOutput::Poll,
                        (false, _) => body.note_progress(),
                    }
                    if self.output.len() >= limits.batch {
                        return SendOutcome::BatchFull;
                    }
                }
            }
        }
    }

    /// The largest DATA payload that may be sent on a stream with this window, in octets.
    fn max_data(&self, stream_window: i64, limits: SendLimits) -> usize {
        let window = (self.window - limits.window_reserve).min(stream_window);
        let window = usize::try_from(window).unwrap_or(0);
        window.min(limits.batch - FRAME_HEADER_LEN).min(self.peer.max_frame_size)
    }

    /// Sends the front of `rest`, at most `most` octets, with END_STREAM if that is all of it and
    /// `is_last`. Returns the octets taken from the stream's window.
    fn data(&mut self, id: u32, rest: &mut Bytes, is_last: bool, most: usize) -> i64 {
        let length = rest.len().min(most);
        let flags = if is_last && length == rest.len() { flag::END_STREAM } else { 0 };
        self.put(kind::DATA, flags, id, &rest[..length]);
        rest.advance(length);
        self.window -= length as i64;
        length as i64
    }
}

/// Polls a body for what to send next.
fn poll_next<B>(body: &mut B, waker: &Waker) -> Poll<Result<NextOutput, BodyError>>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let polled = ready!(Pin::new(&mut *body).poll_frame(&mut Context::from_waker(waker)));
    let Some(frame) = polled.transpose()? else {
        return Poll::Ready(Ok(NextOutput::Data { rest: Bytes::new(), is_last: true }));
    };
    Poll::Ready(Ok(match frame.into_data() {
        Ok(rest) => NextOutput::Data { rest, is_last: body.is_end_stream() },
        Err(frame) => NextOutput::Trailers(Box::new(frame.into_trailers().unwrap_or_default())),
    }))
}

/// Adds `content-length` where the length is known. Not to a response to HEAD and not to a 304:
/// there the field states the length of a body that is not sent (RFC 9110, section 8.6), which only
/// the handler knows.
fn announce_length(parts: &mut response::Parts, length: Option<u64>, is_head: bool) {
    let has_body = !is_head && parts.status != StatusCode::NOT_MODIFIED;
    if let Some(length) = length.filter(|_| has_body) {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

/// Adds a stream to a list, once.
fn push_once(list: &mut Vec<u32>, id: u32) {
    if !list.contains(&id) {
        list.push(id);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::{FRAME_HEADER_LEN, FrameSender, Http2Settings, flag, frame, kind};

    #[test]
    fn trailers_without_a_field_still_end_the_stream() {
        let mut sender = FrameSender::new(&Http2Settings::default());
        sender.response_header(1, StatusCode::OK, &HeaderMap::new(), false);
        sender.output.buffer().clear();
        sender.trailers(1, &HeaderMap::new());
        let frame = frame::FrameHeader::parse(sender.output.buffer()).expect("a frame header");
        assert_eq!((frame.length, frame.kind, frame.stream), (0, kind::DATA, 1));
        assert!(frame.has(flag::END_STREAM));
        assert_eq!(sender.output.len(), FRAME_HEADER_LEN);
    }
}
