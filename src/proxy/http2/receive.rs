//! Processes the frames of the backend (RFC 9113, sections 5 and 6).

use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use ssegate_http2::error::ErrorCode;
use ssegate_http2::frame::{
    self, FRAME_HEADER_LEN, FrameHeader, MAX_31_BITS, MAX_FRAME_SIZE, flag, kind,
};
use ssegate_http2::window_measurement::WINDOW_PING;

use super::head::{HeaderError, ResponseHeadBuilder, content_length};
use super::header_block::HeaderBlock;
use super::multiplexer::Multiplexer;
use super::reason::{ProtocolViolation, Reason};
use super::stream::ReceiveState;

/// The length of the priority fields in HEADERS, in octets (RFC 9113, section 6.2).
const PRIORITY_LEN: usize = 5;
/// A WINDOW_UPDATE of the connection is sent when this much was received, in octets.
const CREDIT_THRESHOLD: usize = 1 << 29;
/// The maximum length of the debug data kept from a GOAWAY, in octets.
const MAX_DEBUG_DATA: usize = 200;

type Received = Result<(), ProtocolViolation>;

impl Multiplexer {
    /// Processes one frame; returns its length, or `None` if it is incomplete.
    ///
    /// # Errors
    /// A stream or connection error, with the length of the frame.
    pub(super) fn receive(
        &mut self,
        octets: &[u8],
    ) -> Result<Option<usize>, (usize, ProtocolViolation)> {
        let Some(head) = FrameHeader::parse(octets) else { return Ok(None) };
        if head.length > MAX_FRAME_SIZE {
            let what = "a frame over SETTINGS_MAX_FRAME_SIZE";
            return Err((0, ProtocolViolation::Connection(ErrorCode::FRAME_SIZE_ERROR, what)));
        }
        let length = FRAME_HEADER_LEN + head.length;
        let Some(payload) = octets.get(FRAME_HEADER_LEN..length) else { return Ok(None) };
        match self.process_frame(head, payload) {
            Ok(()) => Ok(Some(length)),
            Err(fault) => Err((length, fault)),
        }
    }

    fn process_frame(&mut self, head: FrameHeader, payload: &[u8]) -> Received {
        if !self.shared.has_settings() && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(ProtocolViolation::protocol("the first frame is not SETTINGS"));
        }
        let is_expected = match &self.block {
            Some(block) => head.kind == kind::CONTINUATION && head.stream == block.stream,
            None => head.kind != kind::CONTINUATION,
        };
        if !is_expected {
            return Err(ProtocolViolation::protocol(
                "an interrupted header block, or a stray CONTINUATION",
            ));
        }
        match head.kind {
            kind::DATA | kind::HEADERS | kind::RST_STREAM
                if !self.shared.has_opened(head.stream) =>
            {
                Err(ProtocolViolation::protocol("a frame on an idle stream"))
            }
            kind::SETTINGS | kind::PING | kind::GOAWAY if head.stream != 0 => {
                Err(ProtocolViolation::protocol("a connection frame on a stream"))
            }
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.rst_stream(head.stream, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PUSH_PROMISE => {
                Err(ProtocolViolation::protocol("PUSH_PROMISE although push is disabled"))
            }
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(payload),
            kind::WINDOW_UPDATE => self.window_update(head.stream, payload),
            // PRIORITY is deprecated (section 5.3.2); unknown frames are ignored (section 4.1).
            _ => Ok(()),
        }
    }

    /// DATA (section 6.1).
    fn data(&mut self, head: FrameHeader, payload: &[u8]) -> Received {
        let id = head.stream;
        self.credit_connection(payload.len());
        let data = frame::without_padding(head, payload)
            .ok_or_else(|| ProtocolViolation::protocol("more padding than payload"))?;
        // A closed stream: the frame crossed our RST_STREAM.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let ReceiveState::Body { left, .. } = &mut stream.receive_state else {
            return Err(ProtocolViolation::malformed(
                id,
                "DATA before HEADERS or after END_STREAM",
            ));
        };
        if !stream.window.receive(payload.len()) {
            let reason = Reason::Protocol("DATA over the stream window");
            return Err(ProtocolViolation::Stream(id, ErrorCode::FLOW_CONTROL_ERROR, reason));
        }
        if let Some(left) = left {
            *left = left.checked_sub(data.len() as u64).ok_or_else(|| {
                ProtocolViolation::malformed(id, "a body longer than its Content-Length")
            })?;
        }
        if !data.is_empty() {
            stream.sender.send_data(data);
        }
        let padding = payload.len() - data.len();
        if head.has(flag::END_STREAM) {
            return self.end_body(id, None);
        }
        if padding > 0 {
            // Padding is never read from the body, so its credit is returned here.
            stream.window.credit(padding);
            self.put_window_update(id, padding);
        }
        Ok(())
    }

    /// Returns credit to the connection when data arrives, not when it is read: only stream windows
    /// bound what is buffered.
    fn credit_connection(&mut self, octets: usize) {
        self.uncredited += octets;
        if self.uncredited >= CREDIT_THRESHOLD {
            let octets = std::mem::take(&mut self.uncredited);
            self.put_window_update(0, octets);
        }
    }

    /// Completes a response body.
    fn end_body(&mut self, id: u32, trailers: Option<http::HeaderMap>) -> Received {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if let ReceiveState::Body { left: Some(1..), .. } = stream.receive_state {
            return Err(ProtocolViolation::malformed(id, "a body shorter than its Content-Length"));
        }
        stream.receive_state = ReceiveState::Done;
        stream.sender.complete(trailers);
        self.finish(id);
        Ok(())
    }

    /// HEADERS (section 6.2).
    fn headers(&mut self, head: FrameHeader, payload: &[u8]) -> Received {
        let mut fields = frame::without_padding(head, payload)
            .ok_or_else(|| ProtocolViolation::protocol("more padding than payload"))?;
        if head.has(flag::PRIORITY) {
            let truncated =
                ProtocolViolation::Connection(ErrorCode::FRAME_SIZE_ERROR, "a truncated priority");
            fields = fields.get(PRIORITY_LEN..).ok_or(truncated)?;
        }
        let ends_stream = head.has(flag::END_STREAM);
        let block = HeaderBlock::new(head.stream, ends_stream, self.max_header);
        self.take_block(Box::new(block), fields, head.has(flag::END_HEADERS))
    }

    /// CONTINUATION (section 6.10).
    fn continuation(&mut self, head: FrameHeader, payload: &[u8]) -> Received {
        let block = self.block.take().expect("checked: the frame continues this block");
        self.take_block(block, payload, head.has(flag::END_HEADERS))
    }

    fn take_block(&mut self, mut block: Box<HeaderBlock>, octets: &[u8], is_end: bool) -> Received {
        block.push(octets, &mut self.decoder)?;
        if !is_end {
            self.block = Some(block);
            return Ok(());
        }
        let (id, ends_stream) = (block.stream, block.ends_stream);
        let builder = block.finish()?;
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        let taken = match stream.receive_state {
            ReceiveState::Head { .. } => self.response(id, builder, ends_stream),
            ReceiveState::Body { .. } if ends_stream => match builder.into_trailers() {
                Ok(trailers) => return self.end_body(id, Some(trailers)),
                Err(error) => Err(error),
            },
            ReceiveState::Body { .. } => {
                Err(HeaderError::Malformed("trailers that do not end the stream"))
            }
            ReceiveState::Done => Err(HeaderError::Malformed("HEADERS after END_STREAM")),
        };
        taken.map_err(|error| match error {
            HeaderError::Malformed(what) => ProtocolViolation::malformed(id, what),
            HeaderError::TooLarge => {
                ProtocolViolation::Stream(id, ErrorCode::CANCEL, Reason::LargeHeader)
            }
        })
    }

    /// An interim response, or the head of the final one (section 8.1).
    fn response(
        &mut self,
        id: u32,
        builder: ResponseHeadBuilder,
        ends_stream: bool,
    ) -> Result<(), HeaderError> {
        let mut response = builder.into_response()?;
        if response.status().is_informational() {
            return match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => Err(HeaderError::Malformed("status 101")),
                _ if ends_stream => {
                    Err(HeaderError::Malformed("an interim response with END_STREAM"))
                }
                // `Expect` is not forwarded over HTTP/2, so the client does not wait for it.
                StatusCode::CONTINUE => Ok(()),
                status => {
                    let stream = self.streams.get_mut(&id).expect("checked by the caller");
                    stream.sender.send_interim(status, response.into_parts().0.headers);
                    Ok(())
                }
            };
        }
        let stream = self.streams.get_mut(&id).expect("checked by the caller");
        let ReceiveState::Head { request } = &stream.receive_state else {
            unreachable!("checked by the caller");
        };
        let announced = content_length(response.headers())?;
        if response.status() == StatusCode::NO_CONTENT {
            response.headers_mut().remove(CONTENT_LENGTH); // RFC 9110, section 8.6: a 204 has none
        }
        let has_content = request.method != Method::HEAD
            && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let left = if has_content { announced } else { Some(0) };
        if ends_stream && left.is_some_and(|left| left > 0) {
            return Err(HeaderError::Malformed("a body shorter than its Content-Length"));
        }
        stream.upload.stop_buffering();
        stream.sender.send_head(response, left);
        stream.receive_state = ReceiveState::Body { left, has_content };
        // Without content the response is complete with its head (RFC 9110, section 6.4.1). The backend
        // may end its stream in a later frame, or much later if a GET would have been an event stream:
        // no client waits for that. A client that is still sending gets the end of the response with the
        // end of its request (`end_request`): one that has all of a response stops sending.
        if ends_stream || (!has_content && !stream.is_uploading()) {
            stream.sender.complete(None);
        }
        if ends_stream {
            stream.receive_state = ReceiveState::Done;
            self.finish(id);
        }
        Ok(())
    }

    /// RST_STREAM (section 6.4).
    fn rst_stream(&mut self, id: u32, payload: &[u8]) -> Received {
        let Some(code) = frame::read_u32(payload).filter(|_| payload.len() == 4) else {
            let what = "RST_STREAM with a length other than 4";
            return Err(ProtocolViolation::Connection(ErrorCode::FRAME_SIZE_ERROR, what));
        };
        let (code, stream) = (ErrorCode(code), self.remove(id));
        match code {
            ErrorCode::REFUSED_STREAM if stream.is_some() => self.shared.stream_refused(),
            // Node sends it when clients that do not read take too much of its memory, and closes
            // the connection after it has sent 100.
            ErrorCode::ENHANCE_YOUR_CALM => self.shared.retire(),
            _ => {}
        }
        if let Some(stream) = stream {
            stream.fail(Reason::Reset(code), code == ErrorCode::REFUSED_STREAM);
        }
        Ok(())
    }

    /// SETTINGS (section 6.5).
    fn settings(&mut self, head: FrameHeader, payload: &[u8]) -> Received {
        if head.has(flag::ACK) {
            return Ok(());
        }
        let before = i64::from(self.peer.initial_window);
        self.peer.update(payload)?;
        let more = i64::from(self.peer.initial_window) - before;
        let mut waiting = Vec::new();
        for (&id, stream) in &mut self.streams {
            stream.send_window += more;
            if stream.send_window > i64::from(MAX_31_BITS) {
                let what = "a window over 2^31 - 1";
                return Err(ProtocolViolation::Connection(ErrorCode::FLOW_CONTROL_ERROR, what));
            }
            if more > 0 && stream.is_uploading() {
                waiting.push(id);
            }
        }
        waiting.into_iter().for_each(|id| self.schedule(id));
        self.put_settings_ack();
        self.shared.apply_settings(&self.peer);
        Ok(())
    }

    /// PING (section 6.7).
    fn ping(&mut self, head: FrameHeader, payload: &[u8]) -> Received {
        let Ok(payload) = payload.try_into() else {
            let what = "PING with a length other than 8";
            return Err(ProtocolViolation::Connection(ErrorCode::FRAME_SIZE_ERROR, what));
        };
        if !head.has(flag::ACK) {
            self.put_ping(payload, true);
        } else if payload == WINDOW_PING {
            self.ping_acknowledged();
        }
        Ok(())
    }

    /// GOAWAY (section 6.8): streams above its last stream ID are not processed.
    fn goaway(&mut self, payload: &[u8]) -> Received {
        let (Some(last), Some(code)) =
            (frame::read_u32(payload), payload.get(4..).and_then(frame::read_u32))
        else {
            return Err(ProtocolViolation::Connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "a truncated GOAWAY",
            ));
        };
        let (last, code) = (last & MAX_31_BITS, ErrorCode(code));
        let debug = &payload[8..payload.len().min(8 + MAX_DEBUG_DATA)];
        let reason = Reason::GoAway(code, debug.escape_ascii().to_string().into());
        self.last_stream = self.last_stream.min(last);
        self.shared.receive_goaway(&reason, (code == ErrorCode::NO_ERROR).then_some(last));
        let mut unprocessed: Vec<u32> =
            self.streams.keys().copied().filter(|&id| id > self.last_stream).collect();
        unprocessed.sort_unstable();
        for id in unprocessed {
            if let Some(stream) = self.remove(id) {
                stream.fail(reason.clone(), true);
            }
        }
        self.return_queued(&reason);
        self.goaway = Some(reason);
        Ok(())
    }

    /// WINDOW_UPDATE (section 6.9).
    fn window_update(&mut self, id: u32, payload: &[u8]) -> Received {
        let Some(increment) = frame::read_u32(payload).filter(|_| payload.len() == 4) else {
            let what = "WINDOW_UPDATE with a length other than 4";
            return Err(ProtocolViolation::Connection(ErrorCode::FRAME_SIZE_ERROR, what));
        };
        let increment = i64::from(increment & MAX_31_BITS);
        if id == 0 {
            self.send_window += increment;
            if increment == 0 || self.send_window > i64::from(MAX_31_BITS) {
                let what = "WINDOW_UPDATE by 0, or to a window over 2^31 - 1";
                return Err(ProtocolViolation::Connection(ErrorCode::FLOW_CONTROL_ERROR, what));
            }
            self.wake_window_blocked();
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.send_window += increment;
        if increment == 0 || stream.send_window > i64::from(MAX_31_BITS) {
            let reason = Reason::Protocol("WINDOW_UPDATE by 0, or to a window over 2^31 - 1");
            return Err(ProtocolViolation::Stream(id, ErrorCode::FLOW_CONTROL_ERROR, reason));
        }
        if stream.is_uploading() {
            self.schedule(id);
        }
        Ok(())
    }

    /// Returns credit for what the client has read of a response.
    pub(super) fn credit_stream(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let read = stream.sender.take_read();
        if read > 0 && !matches!(stream.receive_state, ReceiveState::Done) {
            stream.window.credit(read);
            self.put_window_update(id, read);
            self.measure(id, read);
        }
    }
}
