//! What each received frame does (RFC 9113, sections 5 and 6).

use tokio::time::Instant;

use super::Connection;
use super::shutdown::{SHUTDOWN_PING, ShutdownPhase};
use crate::abuse::AbuseReason;
use crate::bulk_window::MARKER_PING;
use crate::error::{ErrorCode, ReceiveError};
use crate::frame::{self, FRAME_HEADER_LEN, FrameHeader, MAX_31_BITS, MAX_FRAME_SIZE, flag, kind};
use crate::server::Http2Server;
use crate::stream::{ClosedBy, ResponseStage};
use crate::window_measurement::WINDOW_PING;

/// The result of processing a frame.
pub(super) type ReceiveResult = Result<(), ReceiveError>;

impl<S: Http2Server, T> Connection<S, T> {
    /// Processes one frame, or the part of a DATA frame that has come. Returns the number of octets
    /// processed; `None` if more must come first.
    ///
    /// # Errors
    /// The frame is in error; the number is that of the octets to skip.
    pub(super) fn receive(
        &mut self,
        octets: &[u8],
    ) -> Result<Option<usize>, (usize, ReceiveError)> {
        if self.partial_data.is_some() {
            return Ok((!octets.is_empty()).then(|| self.pass_on(octets)));
        }
        let Some(header) = FrameHeader::parse(octets) else { return Ok(None) };
        if header.length > MAX_FRAME_SIZE {
            return Err((0, ReceiveError::frame_size("frame larger than SETTINGS_MAX_FRAME_SIZE")));
        }
        if header.kind == kind::DATA {
            return self.receive_data(header, octets.get(FRAME_HEADER_LEN).copied());
        }
        let length = FRAME_HEADER_LEN + header.length;
        let Some(payload) = octets.get(FRAME_HEADER_LEN..length) else { return Ok(None) };
        let result = self.check(header).and_then(|()| self.process(header, payload));
        result.map(|()| Some(length)).map_err(|error| (length, error))
    }

    /// Checks that a frame of this type may come now on this stream.
    pub(super) fn check(&self, header: FrameHeader) -> ReceiveResult {
        if !self.has_settings && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(ReceiveError::protocol("the first frame is not SETTINGS"));
        }
        let is_expected = match &self.partial_block {
            Some(block) => header.kind == kind::CONTINUATION && header.stream == block.stream(),
            None => header.kind != kind::CONTINUATION,
        };
        if !is_expected {
            return Err(ReceiveError::protocol(
                "CONTINUATION expected, or CONTINUATION without HEADERS",
            ));
        }
        let needs_stream = match header.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM => true,
            kind::SETTINGS | kind::PING | kind::GOAWAY => false,
            _ => header.stream != 0,
        };
        if needs_stream != (header.stream != 0) {
            return Err(ReceiveError::protocol("wrong stream identifier for this frame type"));
        }
        Ok(())
    }

    fn process(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        match header.kind {
            kind::HEADERS => self.headers(header, payload),
            kind::CONTINUATION => self.continuation(header, payload),
            kind::RST_STREAM => self.rst_stream(header, payload),
            kind::PUSH_PROMISE => Err(ReceiveError::protocol("PUSH_PROMISE from a client")),
            kind::WINDOW_UPDATE => self.window_update(header, payload),
            kind::PRIORITY => self.priority(header, payload),
            kind::SETTINGS => self.settings(header, payload),
            kind::PING => self.ping(header, payload),
            kind::GOAWAY => self.goaway(payload),
            _ => self.spend_budget(), // section 4.1: frames of unknown types are ignored
        }
    }

    /// Charges the budget for a frame that makes no progress for the client.
    pub(super) fn spend_budget(&mut self) -> ReceiveResult {
        let may = self.budget.spend(Instant::now);
        if may { Ok(()) } else { Err(ReceiveError::Abuse(AbuseReason::Flood)) }
    }

    /// Whether the stream is idle (section 5.1): nothing but HEADERS and PRIORITY may come on it.
    /// After the final GOAWAY, frames of streams above the last one are ignored: they may have been
    /// in flight.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2)
            || self.is_unknown(stream) && !matches!(self.phase, ShutdownPhase::Draining)
    }

    /// Whether the client has not opened this stream, as far as we have seen.
    fn is_unknown(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || stream > self.last_stream
    }

    /// Handles a frame on a closed stream (section 5.1).
    pub(super) fn receive_on_closed(&mut self, stream: u32) -> ReceiveResult {
        match self.closed_streams.find(stream) {
            Some(ClosedBy::EndStream) => {
                Err(ReceiveError::Connection(ErrorCode::STREAM_CLOSED, "frame on a closed stream"))
            }
            Some(ClosedBy::ClientReset) => {
                Err(ReceiveError::Stream(stream, ErrorCode::STREAM_CLOSED))
            }
            // In flight when we reset the stream; or the stream closed so long ago that we do not
            // know how.
            Some(ClosedBy::ServerReset) | None => self.spend_budget(),
        }
    }

    /// Section 6.3. Priorities are deprecated, but malformed frames are still errors.
    fn priority(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        let error = |code, what| {
            // RST_STREAM must not be sent on an idle stream (section 6.4).
            if self.is_unknown(header.stream) {
                ReceiveError::Connection(code, what)
            } else {
                ReceiveError::Stream(header.stream, code)
            }
        };
        if payload.len() != PRIORITY_LEN {
            return Err(error(ErrorCode::FRAME_SIZE_ERROR, "PRIORITY whose length is not 5"));
        }
        if dependency(payload) == Some(header.stream) {
            return Err(error(ErrorCode::PROTOCOL_ERROR, "stream that depends on itself"));
        }
        self.spend_budget()
    }

    /// Section 6.4.
    fn rst_stream(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        if payload.len() != 4 {
            return Err(ReceiveError::frame_size("RST_STREAM whose length is not 4"));
        }
        if self.is_idle(header.stream) {
            return Err(ReceiveError::protocol("RST_STREAM on an idle stream"));
        }
        if !self.streams.contains(header.stream) {
            return self.spend_budget();
        }
        let stream = self.remove(header.stream, ClosedBy::ClientReset).expect("checked");
        let is_unanswered = matches!(stream.stage, ResponseStage::Handling { .. });
        if is_unanswered && !self.resets.allows_client_reset(stream.begun, Instant::now()) {
            return Err(ReceiveError::Abuse(AbuseReason::Resets));
        }
        Ok(())
    }

    /// Section 6.5.
    fn settings(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        if header.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(ReceiveError::frame_size("SETTINGS with ACK whose length is not 0"));
            }
            return self.spend_budget();
        }
        self.has_settings = true;
        let before = i64::from(self.sender.peer.initial_window);
        self.sender.peer.update(payload)?;
        let more = i64::from(self.sender.peer.initial_window) - before;
        if more != 0 {
            for (_, stream) in self.streams.iter_mut() {
                stream.send_window += more;
                if stream.send_window > i64::from(MAX_31_BITS) {
                    let what = "flow-control window of a stream above 2^31-1";
                    return Err(ReceiveError::Connection(ErrorCode::FLOW_CONTROL_ERROR, what));
                }
            }
            // Applied once for all frames that are read together: a client may send a thousand
            // SETTINGS.
            self.has_new_windows = true;
        }
        self.sender.acknowledge_settings();
        self.spend_budget()
    }

    /// Section 6.7.
    fn ping(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        let Ok(payload) = payload.try_into() else {
            return Err(ReceiveError::frame_size("PING whose length is not 8"));
        };
        if !header.has(flag::ACK) {
            self.sender.ping(payload, true);
        } else if payload == SHUTDOWN_PING && matches!(self.phase, ShutdownPhase::GoingAway(_)) {
            self.send_final_goaway();
        } else if payload == WINDOW_PING {
            self.window_ping_acknowledged();
        } else if payload == MARKER_PING {
            self.marker_acknowledged();
        }
        self.spend_budget()
    }

    /// Section 6.8: the client opens no more streams; those that it has opened are completed.
    fn goaway(&mut self, payload: &[u8]) -> ReceiveResult {
        if payload.len() < 8 {
            return Err(ReceiveError::frame_size("GOAWAY shorter than 8 octets"));
        }
        if matches!(self.phase, ShutdownPhase::Open | ShutdownPhase::GoingAway(_)) {
            self.phase = ShutdownPhase::Draining;
        }
        self.spend_budget()
    }

    /// Section 6.9.
    fn window_update(&mut self, header: FrameHeader, payload: &[u8]) -> ReceiveResult {
        let size = ReceiveError::frame_size("WINDOW_UPDATE whose length is not 4");
        let increment = payload.try_into().or(Err(size))?;
        let increment = i64::from(u32::from_be_bytes(increment) & MAX_31_BITS);
        if header.stream == 0 {
            if increment == 0 {
                return Err(ReceiveError::protocol("WINDOW_UPDATE with an increment of 0"));
            }
            self.sender.window += increment;
            if self.sender.window > i64::from(MAX_31_BITS) {
                let what = "flow-control window of the connection above 2^31-1";
                return Err(ReceiveError::Connection(ErrorCode::FLOW_CONTROL_ERROR, what));
            }
            self.ready.extend(self.window_blocked.drain(..));
            return self.spend_budget();
        }
        if self.is_idle(header.stream) {
            return Err(ReceiveError::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(stream) = self.streams.get_mut(header.stream) else {
            return self.spend_budget(); // in flight when the stream closed
        };
        if increment == 0 {
            return Err(ReceiveError::Stream(header.stream, ErrorCode::PROTOCOL_ERROR));
        }
        stream.send_window += increment;
        if stream.send_window > i64::from(MAX_31_BITS) {
            return Err(ReceiveError::Stream(header.stream, ErrorCode::FLOW_CONTROL_ERROR));
        }
        if stream.blocked_since.is_some() {
            self.ready.push_back(header.stream);
        }
        self.spend_budget()
    }
}

/// Octets of the priority fields of HEADERS and PRIORITY (section 6.3).
pub(super) const PRIORITY_LEN: usize = 5;

/// The stream dependency in priority fields, without the exclusive flag.
pub(super) fn dependency(priority: &[u8]) -> Option<u32> {
    Some(frame::read_u32(priority)? & MAX_31_BITS)
}
