//! Frames to the client: responses, within the flow-control windows that it gave, and whatever else is
//! sent.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use tokio::time::Instant;

use super::CONNECTION_SPECIFIC;
use super::error::ErrorCode;
use super::frame::{self, DEFAULT_WINDOW, FRAME_HEADER_LEN, flag, kind};
use super::hpack::HpackEncoder;
use super::output::{Output, WRITE_BATCH};
use super::server::{Http2Server, ResponseKind};
use super::settings::{ClientSettings, Http2Settings, put_server_preface};
use super::stream::{NextOutput, Precedence, ResponseStage, Stream};

/// How much a stream may send when it is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    /// Once the output holds this many octets, other streams are served.
    pub(crate) batch: usize,
    /// Octets of the connection's send window that are left to other streams.
    pub(crate) window_reserve: i64,
}

impl SendLimits {
    /// One TLS record, and the whole window.
    pub(crate) const FULL: Self = Self { batch: WRITE_BATCH, window_reserve: 0 };
}

/// Frames to the client, and what limits them.
#[derive(Debug)]
pub(crate) struct FrameSender {
    pub(crate) output: Output,
    /// The send window of the connection, in octets.
    pub(crate) window: i64,
    pub(crate) peer: ClientSettings,
    encoder: HpackEncoder,
}

/// Why a stream stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
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
    pub(crate) fn new(settings: &Http2Settings) -> Self {
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

    pub(crate) fn reset(&mut self, stream: u32, code: ErrorCode) {
        self.put(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    pub(crate) fn goaway(&mut self, last_stream: u32, code: ErrorCode, what: &str) {
        let payload =
            [&last_stream.to_be_bytes()[..], &code.0.to_be_bytes(), what.as_bytes()].concat();
        self.put(kind::GOAWAY, 0, 0, &payload);
    }

    pub(crate) fn ping(&mut self, payload: &[u8; 8], is_ack: bool) {
        self.put(kind::PING, if is_ack { flag::ACK } else { 0 }, 0, payload);
    }

    pub(crate) fn acknowledge_settings(&mut self) {
        self.put(kind::SETTINGS, flag::ACK, 0, &[]);
    }

    pub(crate) fn window_update(&mut self, stream: u32, octets: usize) {
        let octets = u32::try_from(octets).expect("no more than a window, which has 31 bits");
        self.put(kind::WINDOW_UPDATE, 0, stream, &octets.to_be_bytes());
    }

    pub(crate) fn response_header(
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

impl FrameSender {
    /// Sends the header of a response; returns whether END_STREAM went with it.
    pub(crate) fn start_response<S: Http2Server>(
        &mut self,
        id: u32,
        stream: &mut Stream<S>,
        response: Response<S::Body>,
        server: &S,
    ) -> bool {
        let is_head = matches!(stream.stage, ResponseStage::Handling { is_head: true, .. });
        let (mut parts, body) = response.into_parts();
        for name in &CONNECTION_SPECIFIC {
            parts.headers.remove(name);
        }
        let kind = server.prepare(&mut parts, &body);
        let is_last = body.is_end_stream();
        if !is_last {
            announce_length(&mut parts, body.size_hint().exact(), is_head);
        }
        if parts.status == StatusCode::NO_CONTENT {
            parts.headers.remove(CONTENT_LENGTH); // RFC 9110, section 8.6: not allowed in a 204
        }
        self.response_header(id, parts.status, &parts.headers, is_last);
        stream.precedence = match kind {
            ResponseKind::Events => Precedence::Events,
            ResponseKind::Other => Precedence::Other,
        };
        stream.stage = ResponseStage::Sending { body, next: NextOutput::Poll };
        stream.receiver.forbid_continue();
        is_last
    }

    /// Sends what the body has, within the windows and `limits`.
    ///
    /// `task` is set if the stream is alone on its connection: its body then wakes the task
    /// directly, which saves the queued wake.
    pub(crate) fn send<S: Http2Server>(
        &mut self,
        id: u32,
        stream: &mut Stream<S>,
        task: Option<&Waker>,
        limits: SendLimits,
        server: &S,
    ) -> SendOutcome {
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
                        server.body_failed(&error);
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
                        (false, _) => server.note_progress(body),
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
fn poll_next<B>(body: &mut B, waker: &Waker) -> Poll<Result<NextOutput, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
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
