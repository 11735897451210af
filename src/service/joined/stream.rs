//! The parts of a stream as one body.

use std::task::{Context, Poll};

use bytes::Bytes;
use ssegate_hub::{CloseReason, ResumedFrom, StreamEnder, Subscriber};
use ssegate_sse::frame::{Form, Frame};

use super::id::PartKey;
use super::text::JoinedText;

/// The largest piece that is handed over: each piece counts as write progress.
const MAX_PIECE: usize = 16 << 10;

/// Reads the streams of several servers. Ends with the first of them that ends: its client comes back to all.
#[derive(Debug)]
pub(in crate::service) struct JoinedStream {
    parts: Box<[Subscriber]>,
    text: JoinedText,
    // The part that is polled first, so that one busy server does not hold up the others.
    turn: usize,
    // Text that was made of the text of a part, and is not handed over yet.
    rest: Bytes,
    ended: Option<usize>,
    bytes_taken: u64,
}

impl JoinedStream {
    /// Creates a stream of these parts of `servers` servers, each with its key and the position of its client.
    /// `has_positions`: events have ids of the gateway. `is_told_position`: the client accepts a block without an
    /// event.
    pub(in crate::service) fn new(
        servers: usize,
        parts: Vec<(PartKey, Option<String>, Subscriber)>,
        (has_positions, is_told_position): (bool, bool),
    ) -> Self {
        let known = parts.iter().map(|(key, id, _)| (*key, id.clone()));
        let text = JoinedText::new(servers, known, (has_positions, is_told_position));
        let parts = parts.into_iter().map(|(_, _, subscriber)| subscriber).collect();
        Self { parts, text, turn: 0, rest: Bytes::new(), ended: None, bytes_taken: 0 }
    }

    /// As [`Subscriber::poll_next`].
    pub(in crate::service) fn poll_next(
        &mut self,
        form: Form,
        context: &Context<'_>,
    ) -> Poll<Option<Bytes>> {
        while self.rest.is_empty() {
            if self.ended.is_some() {
                return Poll::Ready(None);
            }
            let count = self.parts.len();
            let (turn, mut next) = (self.turn, None);
            for part in (0..count).map(|offset| (turn + offset) % count) {
                if let Poll::Ready(text) = self.parts[part].poll_whole(context) {
                    next = Some((part, text));
                    break;
                }
            }
            let Some((part, text)) = next else { return Poll::Pending };
            self.turn = (part + 1) % count;
            match text {
                // Every frame is UTF-8: the encoder replaces invalid bytes.
                Some(text) => {
                    self.rest = self.text.take(part, &String::from_utf8_lossy(&text)).into();
                }
                None => self.ended = Some(part),
            }
        }
        let piece = match form {
            Form::Text => self.rest.split_to(self.rest.len().min(MAX_PIECE)),
            Form::Chunk => std::mem::take(&mut self.rest),
        };
        self.bytes_taken += piece.len() as u64;
        self.note_progress();
        Poll::Ready(Some(match form {
            Form::Text => piece,
            Form::Chunk => Frame::of_text(&piece).bytes(form),
        }))
    }

    /// A piece is being written: no part is stalled.
    pub(in crate::service) fn note_progress(&self) {
        self.parts.iter().for_each(Subscriber::note_progress);
    }

    /// As [`Subscriber::keep_alive_now`].
    pub(in crate::service) fn keep_alive_now(&self) {
        if let Some(first) = self.parts.first() {
            first.keep_alive_now();
        }
    }

    /// Returns a handle that ends each part.
    pub(in crate::service) fn enders(&self) -> Vec<StreamEnder> {
        self.parts.iter().map(Subscriber::ender).collect()
    }

    /// Why the part that has ended the stream was closed.
    pub(in crate::service) fn close_reason(&self) -> Option<CloseReason> {
        match self.ended {
            Some(part) => self.parts[part].close_reason(),
            None => self.parts.iter().find_map(Subscriber::close_reason),
        }
    }

    /// The number of events that were taken from all parts.
    pub(in crate::service) fn events_taken(&self) -> u64 {
        self.parts.iter().map(Subscriber::events_taken).sum()
    }

    /// The number of bytes that were taken.
    pub(in crate::service) fn bytes_taken(&self) -> u64 {
        self.bytes_taken
    }

    /// The number of channels of all parts.
    pub(in crate::service) fn channels(&self) -> usize {
        self.parts.iter().map(Subscriber::channels).sum()
    }

    /// Where the events came from that the client missed: a gap, if any part has one.
    pub(in crate::service) fn resumed_from(&self) -> Option<ResumedFrom> {
        let mut all = self.parts.iter().filter_map(Subscriber::resumed_from);
        let first = all.next();
        all.find(|from| *from == ResumedFrom::Gap).or(first)
    }
}
