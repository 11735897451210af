//! DATA frames (RFC 9113, section 6.1).
//!
//! A payload is passed on as it comes, without waiting for the end of its frame. So a connection buffers
//! nothing of an incomplete DATA frame, and large frames do not delay the body of a slow client.

use super::Connection;
use super::receive::ReceiveResult;
use crate::error::{ErrorCode, ReceiveError};
use crate::frame::{FRAME_HEADER_LEN, FrameHeader, flag};
use crate::server::Http2Server;

/// What is still to come of a DATA frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartialDataFrame {
    stream: u32,
    // At most MAX_FRAME_SIZE, which fits.
    data: u16,
    padding: u8,
    ends_stream: bool,
}

impl<S: Http2Server, T> Connection<S, T> {
    /// Processes the header of a DATA frame together with its Pad Length, which is the `first`
    /// octet of the payload if the frame is padded. Returns the octets processed; `None` if Pad
    /// Length has not come.
    pub(super) fn receive_data(
        &mut self,
        header: FrameHeader,
        first: Option<u8>,
    ) -> Result<Option<usize>, (usize, ReceiveError)> {
        let is_padded = header.has(flag::PADDED);
        let padding = match first.filter(|_| is_padded && header.length > 0) {
            Some(padding) => padding,
            None if is_padded && header.length > 0 => return Ok(None),
            None => 0,
        };
        // Pad Length is a part of the payload (section 6.1).
        let around = usize::from(padding) + usize::from(is_padded);
        let taken = self.check(header).and_then(|()| {
            let data = header.length.checked_sub(around);
            let data =
                data.ok_or_else(|| ReceiveError::protocol("padding longer than the payload"))?;
            self.begin_data(header, data, padding)
        });
        let length = FRAME_HEADER_LEN + usize::from(is_padded).min(header.length);
        taken.map(|()| Some(length)).map_err(|error| (length, error))
    }

    fn begin_data(&mut self, header: FrameHeader, data: usize, padding: u8) -> ReceiveResult {
        if self.is_idle(header.stream) {
            return Err(ReceiveError::protocol("DATA on an idle stream"));
        }
        if !self.receive_window.receive(header.length) {
            let what = "DATA exceeds the flow-control window of the connection";
            return Err(ReceiveError::Connection(ErrorCode::FLOW_CONTROL_ERROR, what));
        }
        let ends_stream = header.has(flag::END_STREAM);
        let left = u16::try_from(data).expect("no more than the largest payload");
        self.partial_data =
            Some(PartialDataFrame { stream: header.stream, data: left, padding, ends_stream });
        let Some(stream) = self.streams.get_mut(header.stream) else {
            self.skip_payload(header.length);
            return self.receive_on_closed(header.stream);
        };
        let taken = stream.receiver.begin(data, header.length - data, ends_stream);
        if header.length > data {
            // Padding has no reader: it is credited at once.
            self.ready.push_back(header.stream);
        }
        if taken.is_err() && ends_stream {
            stream.receiver.close();
        }
        self.update_receive_window();
        if let Err(error) = taken {
            self.skip_payload(header.length);
            return Err(error.into_error(header.stream));
        }
        self.end_payload();
        if data == 0 && !ends_stream { self.spend_budget() } else { Ok(()) }
    }

    /// Skips the whole payload, and credits it at once.
    fn skip_payload(&mut self, length: usize) {
        if let Some(payload) = &mut self.partial_data {
            payload.stream = 0;
        }
        self.credit_dropped(length);
        self.end_payload();
    }

    /// Passes on what has come of the payload; returns its length, in octets.
    pub(super) fn pass_on(&mut self, octets: &[u8]) -> usize {
        let payload = self.partial_data.as_mut().expect("checked: a DATA frame is incomplete");
        let data = octets.len().min(usize::from(payload.data));
        let padding = (octets.len() - data).min(usize::from(payload.padding));
        payload.data -= u16::try_from(data).expect("no more than is left");
        payload.padding -= u8::try_from(padding).expect("no more than is left");
        // If the stream has closed meanwhile, its octets were credited when it was removed.
        if data > 0
            && let Some(stream) = self.streams.get_mut(payload.stream)
            && !stream.receiver.push(&octets[..data])
        {
            // The body has no reader: these octets are credited at once.
            self.ready.push_back(payload.stream);
        }
        self.end_payload();
        data + padding
    }

    /// Ends the frame, if all of it has come.
    fn end_payload(&mut self) {
        let Some(PartialDataFrame { stream, ends_stream, .. }) =
            self.partial_data.take_if(|payload| payload.data == 0 && payload.padding == 0)
        else {
            return;
        };
        if ends_stream && let Some(it) = self.streams.get_mut(stream) {
            let is_read = it.receiver.is_read();
            it.receiver.finish();
            if !is_read {
                self.ready.push_back(stream); // the stream may be complete now
            }
        }
    }
}
