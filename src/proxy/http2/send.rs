//! Writes requests as frames, within the flow-control windows of the backend.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, request};
use http_body::Body as _;
use ssegate_http2::CONNECTION_SPECIFIC;
use ssegate_http2::error::ErrorCode;
use ssegate_http2::frame::{self, FRAME_HEADER_LEN, flag, kind};
use ssegate_http2::hpack::HpackEncoder;
use tokio::time::Instant;

use super::multiplexer::{Multiplexer, WRITE_SIZE};
use super::reason::Reason;
use super::shared::QueuedRequest;
use super::stream::{ReceiveState, RequestStream, SendState};
use super::window::Window;
use crate::proxy::upload::Upload;

/// The maximum payload of a DATA frame: with the frame header it fills one TLS record.
const MAX_DATA: usize = WRITE_SIZE - FRAME_HEADER_LEN;

/// Why a stream stopped sending its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyProgress {
    /// The client has sent nothing more, or the stream window is exhausted.
    Pending,
    /// The connection window is exhausted.
    ConnectionBlocked,
    /// The output is full: other streams are next.
    Yielded,
    Done,
    /// The request body failed.
    Failed,
}

impl Multiplexer {
    fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let out = self.output.buffer();
        frame::put_frame_header(out, payload.len(), kind, flags, stream);
        out.extend_from_slice(payload);
    }

    pub(super) fn put_ping(&mut self, payload: &[u8; 8], is_ack: bool) {
        self.put(kind::PING, if is_ack { flag::ACK } else { 0 }, 0, payload);
    }

    pub(super) fn put_settings_ack(&mut self) {
        self.put(kind::SETTINGS, flag::ACK, 0, &[]);
    }

    pub(super) fn put_window_update(&mut self, stream: u32, octets: usize) {
        let octets = u32::try_from(octets).expect("at most a window, which has 31 bits");
        self.put(kind::WINDOW_UPDATE, 0, stream, &octets.to_be_bytes());
    }

    pub(super) fn put_goaway(&mut self, code: ErrorCode, what: &str) {
        // The last stream ID is 0: with push disabled a server opens no streams.
        let payload = [&0_u32.to_be_bytes()[..], &code.0.to_be_bytes(), what.as_bytes()].concat();
        self.put(kind::GOAWAY, 0, 0, &payload);
    }

    /// Sends RST_STREAM, and counts it as a request that was cancelled.
    fn put_reset(&mut self, stream: u32, code: ErrorCode) {
        self.put_uncounted_reset(stream, code);
        self.shared.record_reset();
    }

    fn put_uncounted_reset(&mut self, stream: u32, code: ErrorCode) {
        self.put(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    /// Resets a stream after a stream error of the backend.
    pub(super) fn reset(&mut self, id: u32, code: ErrorCode, reason: Reason) {
        if let Some(stream) = self.remove(id) {
            self.put_reset(id, code);
            stream.fail(reason, false);
        }
    }

    /// Opens streams for the queued requests.
    pub(super) fn send_queued(&mut self) {
        while self.may_send()
            && let Some(queued) = self.shared.take_queued()
        {
            if queued.sender.is_reader_dropped() {
                self.shared.stream_ended();
            } else {
                self.open(queued);
            }
        }
    }

    fn open(&mut self, QueuedRequest { stream: id, request, sender, waker }: QueuedRequest) {
        let (mut request, upload) = request.into_parts();
        for name in &CONNECTION_SPECIFIC {
            request.headers.remove(name);
        }
        announce_length(&mut request, &upload);
        let (is_last, begins_at) = (upload.is_end_stream(), self.position());
        self.put_block(id, is_last, |encoder, block| encode(encoder, &request, block));
        let stream = RequestStream {
            sender,
            waker,
            upload,
            send_state: if is_last { SendState::Done } else { SendState::Poll },
            send_window: i64::from(self.peer.initial_window),
            receive_state: ReceiveState::Head { request: Box::new(request) },
            window: Window::new(self.memory.clone()),
            is_scheduled: false,
            begins_at,
        };
        self.streams.insert(id, stream);
        if !is_last {
            self.uploading += 1;
            self.schedule(id);
        }
    }

    /// Sends the trailers, and ends the request.
    fn put_trailers(&mut self, stream: u32, trailers: &HeaderMap) {
        if trailers.is_empty() {
            // An empty header block would make no frame, and leave the stream open.
            return self.put(kind::DATA, flag::END_STREAM, stream, &[]);
        }
        self.put_block(stream, true, |encoder, block| encoder.trailers(trailers, block));
    }

    /// Writes a header block: HEADERS and as many CONTINUATION frames as needed (RFC 9113, section
    /// 4.3).
    fn put_block(
        &mut self,
        stream: u32,
        is_last: bool,
        encode: impl FnOnce(&mut HpackEncoder, &mut Vec<u8>),
    ) {
        let mut block = Vec::with_capacity(512);
        encode(&mut self.encoder, &mut block);
        for (kind, flags, piece) in
            frame::header_block_frames(&block, self.peer.max_payload, is_last)
        {
            self.put(kind, flags, stream, piece);
        }
    }

    /// Serves the woken streams while the output takes more.
    pub(super) fn serve_scheduled(&mut self) {
        while self.may_send()
            && let Some(id) = self.scheduled.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_scheduled = false;
                self.serve_stream(id);
            }
        }
    }

    /// Serves a woken stream: cancels it if the client has left, returns credit, sends more of the
    /// body.
    fn serve_stream(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.sender.is_reader_dropped() {
            return self.reader_dropped(id);
        }
        self.credit_stream(id);
        if self.streams.get(&id).is_some_and(RequestStream::is_uploading) {
            self.upload(id);
        }
    }

    /// Cancels a stream whose reader has gone, or lets it linger if the reader has all of the response.
    fn reader_dropped(&mut self, id: u32) {
        let most = self.shared.max_streams();
        let Some(stream) = self.streams.get(&id) else { return };
        if self.lingering.contains(id)
            || (stream.awaits_only_end() && self.lingering.add(id, Instant::now(), most))
        {
            return;
        }
        self.remove(id);
        self.put_reset(id, ErrorCode::CANCEL);
    }

    /// Cancels the streams that have lingered for too long. No client has cancelled them, and
    /// [`LingeringStreams`](super::lingering::LingeringStreams) bounds their rate, so they are not counted as
    /// cancelled requests.
    pub(super) fn cancel_lingering(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_any = false;
        while let Poll::Ready(id) = self.lingering.poll_due(cx) {
            self.remove(id);
            self.put_uncounted_reset(id, ErrorCode::CANCEL);
            is_any = true;
        }
        is_any
    }

    fn upload(&mut self, id: u32) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        let sent = self.send_body(id, &mut stream);
        self.streams.insert(id, stream);
        match sent {
            BodyProgress::Pending => {}
            BodyProgress::ConnectionBlocked if self.window_blocked.contains(&id) => {}
            BodyProgress::ConnectionBlocked => self.window_blocked.push(id),
            BodyProgress::Yielded => self.schedule(id),
            BodyProgress::Done => self.finish(id),
            BodyProgress::Failed => self.reset(id, ErrorCode::CANCEL, Reason::Upload),
        }
    }

    /// Sends the available part of a body, within the windows.
    fn send_body(&mut self, id: u32, stream: &mut RequestStream) -> BodyProgress {
        loop {
            match &mut stream.send_state {
                SendState::Done => return BodyProgress::Pending,
                SendState::Poll => match poll_upload(stream) {
                    Ok(Some(send_state)) => stream.send_state = send_state,
                    Ok(None) => return BodyProgress::Pending,
                    Err(sent) => return sent,
                },
                SendState::Trailers(trailers) => {
                    let trailers = std::mem::take(&mut **trailers);
                    self.put_trailers(id, &trailers);
                    return self.end_request(stream);
                }
                SendState::Data { rest, is_last } if rest.is_empty() => {
                    if *is_last {
                        self.put(kind::DATA, flag::END_STREAM, id, &[]);
                        return self.end_request(stream);
                    }
                    stream.send_state = SendState::Poll;
                }
                SendState::Data { rest, is_last } => {
                    let window = self.send_window.min(stream.send_window);
                    let room = usize::try_from(window).unwrap_or(0);
                    let length = rest.len().min(room).min(MAX_DATA).min(self.peer.max_payload);
                    if length == 0 {
                        return if stream.send_window > 0 {
                            BodyProgress::ConnectionBlocked
                        } else {
                            BodyProgress::Pending
                        };
                    }
                    let ends = *is_last && length == rest.len();
                    let flags = if ends { flag::END_STREAM } else { 0 };
                    let data = rest.slice(..length);
                    rest.advance(length);
                    self.put(kind::DATA, flags, id, &data);
                    self.send_window -= length as i64;
                    stream.send_window -= length as i64;
                    if ends {
                        return self.end_request(stream);
                    }
                    if self.output.len() >= WRITE_SIZE {
                        return BodyProgress::Yielded;
                    }
                }
            }
        }
    }

    fn end_request(&mut self, stream: &mut RequestStream) -> BodyProgress {
        stream.send_state = SendState::Done;
        self.uploading -= 1;
        if stream.is_complete_with_head() {
            // The response came before the end of its request.
            stream.sender.complete(None);
        }
        BodyProgress::Done
    }

    /// Removes a stream that is closed in both directions. A response that is complete before its
    /// request cancels the rest of the request (RFC 9113, section 8.1).
    pub(super) fn finish(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.is_done() {
            self.remove(id);
        } else if matches!(stream.receive_state, ReceiveState::Done) {
            self.remove(id);
            self.put_reset(id, ErrorCode::CANCEL);
        }
    }
}

/// Polls the request body for the next part; `None`: pending.
fn poll_upload(stream: &mut RequestStream) -> Result<Option<SendState>, BodyProgress> {
    let mut cx = Context::from_waker(&stream.waker);
    let send_state = match Pin::new(&mut stream.upload).poll_frame(&mut cx) {
        Poll::Pending => return Ok(None),
        Poll::Ready(None) => SendState::Data { rest: Bytes::new(), is_last: true },
        Poll::Ready(Some(Err(error))) => {
            tracing::debug!(%error, "a request body failed");
            return Err(BodyProgress::Failed);
        }
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(rest) => SendState::Data { rest, is_last: stream.upload.is_end_stream() },
            Err(frame) => SendState::Trailers(Box::new(frame.into_trailers().unwrap_or_default())),
        },
    };
    Ok(Some(send_state))
}

/// Adds `Content-Length` if the length of the body is known and the field is absent. Methods that
/// expect a body get it even for an empty one (RFC 9110, section 8.6).
fn announce_length(request: &mut request::Parts, upload: &Upload) {
    let Some(length) = upload.size_hint().exact() else { return };
    let wants_body = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    if length > 0 || wants_body {
        request.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

/// Encodes the head of a request, pseudo-header fields first (RFC 9113, section 8.3.1).
fn encode(encoder: &mut HpackEncoder, request: &request::Parts, block: &mut Vec<u8>) {
    let uri = &request.uri;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let pseudo_headers = [
        (":method", request.method.as_str()),
        (":scheme", uri.scheme_str().unwrap_or("http")),
        (":authority", uri.authority().map_or("", |authority| authority.as_str())),
        (":path", path),
    ];
    encoder.request(&pseudo_headers, &request.headers, block);
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::HeaderMap;

    use super::{FRAME_HEADER_LEN, Multiplexer, flag, frame, kind};
    use crate::metrics::Metrics;
    use crate::proxy::http2::shared::ConnectionShared;
    use crate::proxy::http2::window::STREAM_WINDOW;
    use crate::server::upload_memory::UploadMemory;

    #[test]
    fn empty_trailers_still_end_the_request() {
        let shared = Rc::new(ConnectionShared::new(Rc::default(), STREAM_WINDOW));
        let memory = UploadMemory::new(Metrics::new().expect("metrics"));
        let mut mux = Multiplexer::new(shared, 1000, memory);
        mux.put_block(1, false, |encoder, block| encoder.request(&[], &HeaderMap::new(), block));
        mux.output.buffer().clear();
        mux.put_trailers(1, &HeaderMap::new());
        let frame = frame::FrameHeader::parse(mux.output.buffer()).expect("a frame");
        assert_eq!((frame.length, frame.kind, frame.stream), (0, kind::DATA, 1));
        assert!(frame.has(flag::END_STREAM));
        assert_eq!(mux.output.len(), FRAME_HEADER_LEN);
    }
}
