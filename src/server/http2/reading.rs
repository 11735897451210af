//! Reading from the socket: octets to frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::Instant;

use super::PREFACE;
use super::connection::Connection;
use super::ending::Phase;
use super::error::Fault;
use crate::server::connection::Handler;

/// What is read at once: a whole frame, and most of another.
const READ: usize = 32 << 10;

impl<H: Handler> Connection<H> {
    pub(super) fn read(&mut self) -> io::Result<Flow> {
        let mut buffer = read_buffer::take();
        let mut filled = self.input.len();
        buffer[..filled].copy_from_slice(&self.input);
        let mut is_ended = false;
        while filled < buffer.len() {
            let mut read = ReadBuf::new(&mut buffer[filled..]);
            let mut context = Context::from_waker(&self.reader);
            match Pin::new(&mut self.transport).poll_read(&mut context, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    is_ended = true;
                    break;
                }
                Poll::Ready(Ok(())) => filled += read.filled().len(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.is_readable = false;
                    break;
                }
            }
        }
        let had = self.input.len();
        if filled > had {
            self.state.keep_alive.heard(Instant::now());
            let used = self.receive_all(&buffer[..filled]);
            self.input = buffer[used..filled].to_vec();
            if let Phase::Closing { left, .. } = &mut self.phase {
                *left = left.saturating_sub(filled - had);
            }
        }
        read_buffer::give_back(buffer);
        Ok(if is_ended { Flow::Ended } else { Flow::GoesOn })
    }

    /// Takes what has come; answers how much of it is done with.
    fn receive_all(&mut self, octets: &[u8]) -> usize {
        let mut used = 0;
        while !matches!(self.phase, Phase::Closing { .. }) {
            let rest = &octets[used..];
            let result = if self.is_greeted { self.receive(rest) } else { self.greet(rest) };
            match result {
                Ok(Some(length)) => used += length,
                Ok(None) => return used,
                Err((length, Fault::Stream(id, code))) => {
                    used += length;
                    self.fault(id, code);
                }
                Err((_, Fault::Connection(code, what))) => self.fail(code, what),
                Err((_, Fault::Abuse(reason))) => self.cut_off(reason),
            }
        }
        octets.len()
    }

    fn greet(&mut self, octets: &[u8]) -> Result<Option<usize>, (usize, Fault)> {
        let expected = &PREFACE[..octets.len().min(PREFACE.len())];
        if !octets.starts_with(expected) {
            return Err((0, Fault::protocol("no preface of HTTP/2")));
        }
        self.is_greeted = octets.len() >= PREFACE.len();
        Ok(self.is_greeted.then_some(PREFACE.len()))
    }
}

/// Whether the client has more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoesOn,
    Ended,
}

impl Flow {
    pub(super) fn is_ended(self) -> bool {
        self == Self::Ended
    }
}

/// The buffer into which all connections of a thread read, one after the other.
mod read_buffer {
    use std::cell::Cell;

    thread_local! {
        static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }

    pub(super) fn take() -> Vec<u8> {
        let mut buffer = SHARED.take();
        buffer.resize(super::READ, 0);
        buffer
    }

    pub(super) fn give_back(buffer: Vec<u8>) {
        SHARED.set(buffer);
    }
}
