//! Reads from the socket, and cuts what comes into frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::shutdown::ShutdownPhase;
use super::{Connection, MAX_PENDING_OUTPUT};
use crate::error::ReceiveError;
use crate::frame::PREFACE;
use crate::read_buffer;
use crate::server::Http2Server;

impl<S: Http2Server, T: AsyncRead + Unpin> Connection<S, T> {
    pub(super) fn read(&mut self) -> io::Result<ReadStatus> {
        let mut buffer = read_buffer::take();
        let had = self.input.len();
        buffer[..had].copy_from_slice(&self.input);
        let (filled, flow) = self.fill(&mut buffer, had)?;
        if filled > had || self.has_held_frames {
            let now = Instant::now();
            if filled > had {
                self.server.keep_alive().received(now);
            }
            let used = self.receive_all(&buffer[..filled]);
            self.input = buffer[used..filled].to_vec();
            self.note_incomplete(used > 0, now);
            if let ShutdownPhase::Closing { left, .. } = &mut self.phase {
                *left = left.saturating_sub(filled - had);
            }
        }
        read_buffer::give_back(buffer);
        Ok(flow)
    }

    /// Notes since when a frame or a header block is incomplete, for `header_timeout`. DATA does
    /// not count: its payload is passed on as it comes.
    fn note_incomplete(&self, has_completed_frame: bool, now: Instant) {
        let keep_alive = self.server.keep_alive();
        let is_incomplete = !self.input.is_empty() && !self.has_held_frames;
        keep_alive.set_unfinished_since(match &self.partial_block {
            Some(block) => Some(block.begun()),
            None if !is_incomplete => None,
            None if has_completed_frame => Some(now),
            None => Some(keep_alive.unfinished_since().unwrap_or(now)),
        });
    }

    /// Reads into the buffer after its first `filled` octets; returns how many are filled then.
    fn fill(&mut self, buffer: &mut [u8], mut filled: usize) -> io::Result<(usize, ReadStatus)> {
        while self.is_readable && filled < buffer.len() {
            let mut read = ReadBuf::new(&mut buffer[filled..]);
            let mut context = Context::from_waker(&self.read_waker);
            match Pin::new(&mut self.transport).poll_read(&mut context, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    return Ok((filled, ReadStatus::Eof));
                }
                Poll::Ready(Ok(())) => filled += read.filled().len(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => self.is_readable = false,
            }
        }
        Ok((filled, ReadStatus::Open))
    }

    /// Processes the frames in `octets`; returns how many octets are done with. Stops while
    /// [`MAX_PENDING_OUTPUT`] octets wait for the socket: a frame may need a response.
    fn receive_all(&mut self, octets: &[u8]) -> usize {
        let mut used = 0;
        self.has_held_frames = false;
        while !matches!(self.phase, ShutdownPhase::Closing { .. }) {
            if self.sender.output.len() >= MAX_PENDING_OUTPUT {
                self.has_held_frames = true;
                return used;
            }
            let rest = &octets[used..];
            let result =
                if self.has_preface { self.receive(rest) } else { self.receive_preface(rest) };
            match result {
                Ok(Some(length)) => used += length,
                Ok(None) => return used,
                Err((length, ReceiveError::Stream(id, code))) => {
                    used += length;
                    self.stream_error(id, code);
                }
                Err((length, ReceiveError::Request(id, why))) => {
                    used += length;
                    self.abort_request(id, *why);
                }
                Err((_, ReceiveError::Connection(code, what))) => self.connection_error(code, what),
                Err((_, ReceiveError::Abuse(reason))) => self.cut_off(reason),
            }
        }
        octets.len()
    }

    fn receive_preface(&mut self, octets: &[u8]) -> Result<Option<usize>, (usize, ReceiveError)> {
        let expected = &PREFACE[..octets.len().min(PREFACE.len())];
        if !octets.starts_with(expected) {
            return Err((0, ReceiveError::protocol("invalid connection preface")));
        }
        self.has_preface = octets.len() >= PREFACE.len();
        Ok(self.has_preface.then_some(PREFACE.len()))
    }
}

/// Whether the client can send more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadStatus {
    Open,
    Eof,
}

impl ReadStatus {
    pub(super) fn is_eof(self) -> bool {
        self == Self::Eof
    }
}
