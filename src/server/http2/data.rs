//! DATA frames (RFC 9113, section 6.1).
//!
//! Their payload is passed on as it comes: a connection holds nothing of a frame whose end is still
//! to come, and a client that sends slowly is as slow as one that sends many small frames.

use super::connection::Connection;
use super::error::{Code, Fault};
use super::frame::{HEAD, Head, flag};
use super::receive::Received;
use crate::server::connection::Handler;

/// What is still to come of a DATA frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    stream: u32,
    // No more than a frame's largest payload, which has 15 bits.
    data: u16,
    padding: u8,
    ends_stream: bool,
}

impl<H: Handler> Connection<H> {
    /// Takes the head of a DATA frame, and the length of its padding, which is its `first` octet where
    /// it has any; returns how much that was, or `None` while that octet has not come.
    pub(super) fn receive_data(
        &mut self,
        head: Head,
        first: Option<u8>,
    ) -> Result<Option<usize>, (usize, Fault)> {
        let is_padded = head.has(flag::PADDED);
        let padding = match first.filter(|_| is_padded && head.length > 0) {
            Some(padding) => padding,
            None if is_padded && head.length > 0 => return Ok(None),
            None => 0,
        };
        // The octet that tells the padding is a part of the payload too.
        let around = usize::from(padding) + usize::from(is_padded);
        let taken = self.check(head).and_then(|()| {
            let data = head.length.checked_sub(around);
            let data = data.ok_or_else(|| Fault::protocol("more padding than payload"))?;
            self.begin_data(head, data, padding)
        });
        let length = HEAD + usize::from(is_padded).min(head.length);
        taken.map(|()| Some(length)).map_err(|fault| (length, fault))
    }

    fn begin_data(&mut self, head: Head, data: usize, padding: u8) -> Received {
        if self.is_idle(head.stream) {
            return Err(Fault::protocol("DATA on a stream that was never opened"));
        }
        if !self.credit.receive(head.length) {
            let what = "more than the window of the connection";
            return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR, what));
        }
        let ends_stream = head.has(flag::END_STREAM);
        let left = u16::try_from(data).expect("no more than the largest payload");
        self.payload = Some(Payload { stream: head.stream, data: left, padding, ends_stream });
        let Some(stream) = self.streams.get_mut(head.stream) else {
            self.skip_payload(head.length);
            return self.late(head.stream);
        };
        let taken = stream.receiving.begin(data, head.length - data, ends_stream);
        if head.length > data {
            // Nobody reads padding: it is given back at once.
            self.ready.push_back(head.stream);
        }
        if taken.is_err() && ends_stream {
            stream.receiving.close();
        }
        self.update_credit();
        if let Err(wrong) = taken {
            self.skip_payload(head.length);
            return Err(wrong.fault(head.stream));
        }
        self.end_payload();
        if data == 0 && !ends_stream { self.spend() } else { Ok(()) }
    }

    /// Gives all of the payload back at once, and passes none of it on.
    fn skip_payload(&mut self, length: usize) {
        if let Some(payload) = &mut self.payload {
            payload.stream = 0;
        }
        self.give_back(length);
        self.end_payload();
    }

    /// Passes on what has come of the payload; returns how much that was.
    pub(super) fn pass_on(&mut self, octets: &[u8]) -> usize {
        let payload = self.payload.as_mut().expect("checked: its end has not come");
        let data = octets.len().min(usize::from(payload.data));
        let padding = (octets.len() - data).min(usize::from(payload.padding));
        payload.data -= u16::try_from(data).expect("no more than it was");
        payload.padding -= u8::try_from(padding).expect("no more than it was");
        // One that has ended meanwhile was given back whole.
        if data > 0
            && let Some(stream) = self.streams.get_mut(payload.stream)
            && !stream.receiving.push(&octets[..data])
        {
            // What nobody will read is given back at once.
            self.ready.push_back(payload.stream);
        }
        self.end_payload();
        data + padding
    }

    /// Ends the frame, where all of it has come.
    fn end_payload(&mut self) {
        let Some(Payload { stream, ends_stream, .. }) =
            self.payload.take_if(|payload| payload.data == 0 && payload.padding == 0)
        else {
            return;
        };
        if ends_stream && let Some(it) = self.streams.get_mut(stream) {
            let is_read = it.receiving.is_read();
            it.receiving.finish();
            if !is_read {
                self.ready.push_back(stream); // it may be the end of the stream
            }
        }
    }
}
