//! What becomes of a response: frames, as the windows of the client allow them.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use tokio::time::Instant;

use super::CONNECTION_SPECIFIC;
use super::connection::{Connection, TOGETHER};
use super::ending::Phase;
use super::error::Code;
use super::frame::{self, DEFAULT_WINDOW, HEAD, flag, kind};
use super::hpack::Encoder;
use super::output::Output;
use super::settings::{PeerSettings, put_first};
use super::stream::{How, Next, Precedence, Stage, Stream};
use crate::server::Http2Settings;
use crate::server::carrier::FramedBody;
use crate::server::connection::{BodyError, Handler};
use crate::server::date::date;
use crate::server::event_stream::is_event_stream;
use crate::server::stream_abort;

/// How much a stream may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// When so many octets have been put together, others have their turn.
    pub(super) at_once: usize,
    /// What is to be left of the window of the connection, in octets.
    pub(super) window_left: i64,
}

impl Bounds {
    /// One TLS record, and all of the window.
    pub(super) const FREE: Self = Self { at_once: TOGETHER, window_left: 0 };
}

/// The way to the client.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) output: Output,
    /// What we may send on all streams, in octets.
    pub(super) window: i64,
    pub(super) peer: PeerSettings,
    encoder: Encoder,
}

/// How far a stream came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// There is nothing to send now, or no window of its own.
    Rests,
    /// The window of the connection is used up.
    Starves,
    /// Others have their turn first.
    Goes,
    /// All has been sent.
    Done,
    /// The body failed half-way.
    Failed,
}

impl Sender {
    pub(super) fn new(settings: &Http2Settings) -> Self {
        let mut output = Output::default();
        put_first(output.buffer(), settings);
        Self {
            output,
            window: i64::from(DEFAULT_WINDOW),
            peer: PeerSettings::default(),
            encoder: Encoder::default(),
        }
    }

    fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let out = self.output.buffer();
        frame::put_head(out, payload.len(), kind, flags, stream);
        out.extend_from_slice(payload);
    }

    pub(super) fn reset(&mut self, stream: u32, code: Code) {
        self.put(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    pub(super) fn goaway(&mut self, last_stream: u32, code: Code, what: &str) {
        let said =
            [&last_stream.to_be_bytes()[..], &code.0.to_be_bytes(), what.as_bytes()].concat();
        self.put(kind::GOAWAY, 0, 0, &said);
    }

    pub(super) fn ping(&mut self, payload: &[u8; 8], is_answer: bool) {
        self.put(kind::PING, if is_answer { flag::ACK } else { 0 }, 0, payload);
    }

    pub(super) fn acknowledge_settings(&mut self) {
        self.put(kind::SETTINGS, flag::ACK, 0, &[]);
    }

    pub(super) fn window_update(&mut self, stream: u32, octets: usize) {
        let octets = u32::try_from(octets).expect("no more than a window, which has 31 bits");
        self.put(kind::WINDOW_UPDATE, 0, stream, &octets.to_be_bytes());
    }

    fn head(&mut self, stream: u32, status: StatusCode, headers: &HeaderMap, is_last: bool) {
        self.block(stream, is_last, |encoder, block| encoder.response(status, headers, block));
    }

    /// Ends the stream with these fields.
    fn trailers(&mut self, stream: u32, trailers: &HeaderMap) {
        if trailers.is_empty() {
            // A block without fields makes no frame.
            return self.put(kind::DATA, flag::END_STREAM, stream, &[]);
        }
        self.block(stream, true, |encoder, block| encoder.trailers(trailers, block));
    }

    /// A header block, in as many frames as it needs (section 4.3).
    fn block(
        &mut self,
        stream: u32,
        is_last: bool,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let mut block = Vec::with_capacity(256);
        encode(&mut self.encoder, &mut block);
        for (kind, flags, piece) in frame::of_header_block(&block, self.peer.max_payload, is_last) {
            self.put(kind, flags, stream, piece);
        }
    }
}

impl<H: Handler> Connection<H> {
    /// Does what a stream has to do.
    pub(super) fn serve_stream(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let is_bulk = stream.precedence == Precedence::Bulk;
        let (read, update) = stream.receiving.take_read();
        if read > 0 {
            stream.stage.heard(Instant::now);
            self.credit.shrink(stream.receiving.trim());
        }
        if update > 0 {
            self.sender.window_update(id, update);
            self.measure(id, update);
        }
        if read > 0 {
            self.update_credit();
        }
        if is_bulk {
            self.queue_bulk(id);
        } else {
            self.respond(id);
        }
    }

    /// Goes on with the response.
    pub(super) fn respond(&mut self, id: u32) {
        let is_alone = self.streams.alone().is_some();
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.receiving.take_continue() {
            // Section 8.1: an interim response.
            self.sender.head(id, StatusCode::CONTINUE, &HeaderMap::new(), false);
        }
        if let Stage::Handling { future, switch, interim, .. } = &mut stream.stage {
            let _handled = stream_abort::enter(switch);
            let mut context = Context::from_waker(&stream.waker);
            let polled = future.as_mut().poll(&mut context);
            for (status, headers) in interim.take() {
                self.sender.head(id, status, &headers, false);
            }
            let Poll::Ready(response) = polled else { return };
            self.state.expect_body(response.body().size_hint().lower(), self.shard.settings());
            let is_last = self.sender.begin(id, stream, response);
            if stream.precedence == Precedence::Events {
                self.bulk.event_stream_began(); // its removal ends it, also where there is no body
            }
            if is_last {
                return self.complete(id);
            }
        }
        if let Stage::Answered { .. } = stream.stage {
            return self.complete(id);
        }
        if self.is_blocked {
            note(&mut self.waiting, id);
            return;
        }
        let before = self.sender.output.len();
        let waker = if is_alone { self.task.as_ref() } else { None };
        let is_bulk = stream.precedence == Precedence::Bulk;
        let bounds = if is_bulk { self.bulk.bounds() } else { Some(Bounds::FREE) };
        let Some(bounds) = bounds else {
            self.state.keep_alive.note_blocked();
            note(&mut self.starved, id);
            return;
        };
        match self.sender.send(id, stream, waker, bounds) {
            Sent::Rests if stream.blocked_since.is_some() => self.state.keep_alive.note_blocked(),
            Sent::Rests => {}
            Sent::Starves => {
                self.state.keep_alive.note_blocked();
                note(&mut self.starved, id);
            }
            Sent::Goes if stream.becomes_bulk() => self.queue_bulk(id),
            Sent::Goes => self.ready.push_back(id),
            Sent::Done => self.complete(id),
            Sent::Failed => self.reset(id, Code::INTERNAL_ERROR),
        }
        let sent = self.sender.output.len() - before;
        if sent > 0 {
            self.budget.earn();
        }
        if is_bulk {
            self.bulk.sent(sent);
        }
    }

    /// The response has been sent. What the client still has to say is not needed, and it could be
    /// told so at once (section 8.1); but many clients lose the response with the reset. So the rest
    /// is thrown away for a while, and the reset comes after that.
    fn complete(&mut self, id: u32) {
        let is_open = matches!(self.phase, Phase::Open);
        let lingers = is_open && !self.shard.settings().lingering_close.is_zero();
        let Some(stream) = self.streams.get_mut(id) else { return };
        match stream.receiving.reset_code() {
            None => drop(self.remove(id, How::Complete)),
            Some(_) if matches!(stream.stage, Stage::Answered { .. }) => {}
            Some(Code::NO_ERROR) if lingers => {
                let now = Instant::now();
                // Dropped: whoever reads the request stops now.
                stream.stage = Stage::Answered { since: now, heard: now };
                stream.blocked_since = None;
                stream.receiving.throw_away();
                self.ready.push_back(id);
                self.wait_for_answered();
            }
            Some(code) => self.reset(id, code),
        }
    }
}

impl Sender {
    /// Sends the head of a response; answers whether that was all.
    fn begin<B: Body<Data = Bytes, Error = BodyError>>(
        &mut self,
        id: u32,
        stream: &mut Stream<B>,
        response: Response<B>,
    ) -> bool {
        let is_head = matches!(stream.stage, Stage::Handling { is_head: true, .. });
        let (mut parts, body) = response.into_parts();
        for name in &CONNECTION_SPECIFIC {
            parts.headers.remove(name);
        }
        parts.headers.entry(DATE).or_insert_with(date);
        let is_last = body.is_end_stream();
        let is_of_events = is_event_stream(&parts.headers);
        if !is_last {
            announce_length(&mut parts, body.size_hint().exact(), is_head);
        }
        if parts.status == StatusCode::NO_CONTENT {
            parts.headers.remove(CONTENT_LENGTH); // RFC 9110, section 8.6: a 204 has none
        }
        self.head(id, parts.status, &parts.headers, is_last);
        stream.precedence = if is_of_events { Precedence::Events } else { Precedence::Other };
        stream.stage = Stage::Sending { body, next: Next::Ask };
        stream.receiving.forbid_continue();
        is_last
    }

    /// Sends what there is, as far as it may.
    ///
    /// `task` is who is woken by a body that has the connection to itself.
    fn send<B>(
        &mut self,
        id: u32,
        stream: &mut Stream<B>,
        task: Option<&Waker>,
        bounds: Bounds,
    ) -> Sent
    where
        B: Body<Data = Bytes, Error = BodyError> + FramedBody + Unpin,
    {
        let Stream {
            stage: Stage::Sending { body, next, .. },
            waker,
            send_window,
            blocked_since,
            ..
        } = stream
        else {
            return Sent::Rests;
        };
        let waker = task.unwrap_or(waker);
        loop {
            match next {
                Next::Ask => match poll_next(body, waker) {
                    Poll::Ready(Ok(polled)) => *next = polled,
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(%error, "a response ended half-way");
                        return Sent::Failed;
                    }
                    Poll::Pending => return Sent::Rests,
                },
                Next::Trailers(trailers) => {
                    self.trailers(id, trailers);
                    return Sent::Done;
                }
                Next::Data { rest, is_last } if rest.is_empty() => {
                    if *is_last {
                        self.put(kind::DATA, flag::END_STREAM, id, &[]);
                        return Sent::Done;
                    }
                    *next = Next::Ask;
                }
                Next::Data { rest, is_last } => {
                    let most = self.room(*send_window, bounds);
                    if most == 0 {
                        blocked_since.get_or_insert_with(Instant::now);
                        return if *send_window > 0 { Sent::Starves } else { Sent::Rests };
                    }
                    *blocked_since = None;
                    *send_window -= self.data(id, rest, *is_last, most);
                    match (rest.is_empty(), *is_last) {
                        (true, true) => return Sent::Done,
                        // It is not held on to until the next one comes.
                        (true, false) => *next = Next::Ask,
                        (false, _) => body.note_progress(),
                    }
                    if self.output.len() >= bounds.at_once {
                        return Sent::Goes;
                    }
                }
            }
        }
    }

    /// How much a DATA frame may hold on a stream with this window, in octets.
    fn room(&self, stream_window: i64, bounds: Bounds) -> usize {
        let window = (self.window - bounds.window_left).min(stream_window);
        let window = usize::try_from(window).unwrap_or(0);
        window.min(bounds.at_once - HEAD).min(self.peer.max_payload)
    }

    /// Sends the front of `rest`, at most `most` octets; with the end of the stream where that is all and
    /// `is_last`. Returns by how much the window of the stream gets smaller.
    fn data(&mut self, id: u32, rest: &mut Bytes, is_last: bool, most: usize) -> i64 {
        let length = rest.len().min(most);
        let flags = if is_last && length == rest.len() { flag::END_STREAM } else { 0 };
        self.put(kind::DATA, flags, id, &rest[..length]);
        rest.advance(length);
        self.window -= length as i64;
        length as i64
    }
}

/// Polls a body for what is to be sent next.
fn poll_next<B>(body: &mut B, waker: &Waker) -> Poll<Result<Next, BodyError>>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let polled = ready!(Pin::new(&mut *body).poll_frame(&mut Context::from_waker(waker)));
    let Some(frame) = polled.transpose()? else {
        return Poll::Ready(Ok(Next::Data { rest: Bytes::new(), is_last: true }));
    };
    Poll::Ready(Ok(match frame.into_data() {
        Ok(rest) => Next::Data { rest, is_last: body.is_end_stream() },
        Err(frame) => Next::Trailers(Box::new(frame.into_trailers().unwrap_or_default())),
    }))
}

/// Announces the length of a body where it is known and not announced. A response to HEAD and a 304 have no
/// body, and what they announce is the length of another (RFC 9110, section 8.6): only who made them
/// knows it.
fn announce_length(parts: &mut response::Parts, length: Option<u64>, is_head: bool) {
    let has_body = !is_head && parts.status != StatusCode::NOT_MODIFIED;
    if let Some(length) = length.filter(|_| has_body) {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

/// Puts a stream on a list, once.
fn note(list: &mut Vec<u32>, id: u32) {
    if !list.contains(&id) {
        list.push(id);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::{HEAD, Http2Settings, Sender, flag, frame, kind};

    #[test]
    fn trailers_without_a_field_still_end_the_stream() {
        let mut sender = Sender::new(&Http2Settings::default());
        sender.head(1, StatusCode::OK, &HeaderMap::new(), false);
        sender.output.buffer().clear();
        sender.trailers(1, &HeaderMap::new());
        let frame = frame::Head::parse(sender.output.buffer()).expect("a frame");
        assert_eq!((frame.length, frame.kind, frame.stream), (0, kind::DATA, 1));
        assert!(frame.has(flag::END_STREAM));
        assert_eq!(sender.output.len(), HEAD);
    }
}
