//! Event streams that a backend writes, relayed to the client.
//!
//! Bytes are relayed as they arrive. There is no idle timeout: on a quiet stream a comment is
//! inserted where the syntax allows one ([`ssegate_sse::comments`]), so that no proxy closes the
//! connection. A compressed stream is relayed unchanged. [`BackendStreams`] visits each stream when it
//! is due.
//!
//! [`BackendStreams`]: super::backend_streams::BackendStreams

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use ssegate_hub::{CloseReason, Shard};
use ssegate_sse::comments::CommentInserter;
use tokio::time::Instant;

use super::Service;
use super::backend_stream_end::BackendStreamEnd;
use super::backend_stream_state::BackendStreamState;
use super::backend_streams::BackendStreamGuard;
use super::counted::CountedStream;
use super::kept::reader::KeptReader;
use super::request_log::StreamLog;
use super::stream_stopper::StreamStopper;
use crate::proxy::UpstreamBody;
use crate::server::connection::{BodyError, HttpProtocol};

/// The largest piece returned by a poll. Each piece counts as write progress, so a slow client that
/// still reads is not closed as stalled.
const MAX_PIECE: usize = 16 << 10;

/// The request field that asks the backend for an uncompressed stream, into which comments can be
/// inserted.
pub(super) const PLAIN_TEXT: (HeaderName, HeaderValue) =
    (ACCEPT_ENCODING, HeaderValue::from_static("identity"));

/// Whether the body has a content coding other than identity.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    codings.any(|coding| {
        let coding = coding.trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })
}

/// Where the bytes of a stream come from.
#[derive(Debug)]
pub(super) enum StreamSource {
    /// The backend's response.
    Upstream(Box<UpstreamBody>),
    /// The log of a kept stream.
    Kept(Box<KeptReader>),
}

impl StreamSource {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Upstream(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Kept(reader) => reader.poll_frame(cx),
        }
    }
}

/// A backend's event stream. Counts the stream as closed when it is dropped.
#[derive(Debug)]
pub struct BackendStream {
    source: StreamSource,
    // `None` if no comment may be inserted.
    comments: Option<CommentInserter>,
    // Received, but not yet returned.
    rest: Bytes,
    // Returned after `rest`.
    trailers: Option<HeaderMap>,
    end: Option<BackendStreamEnd>,
    bytes: u64,
    state: Rc<BackendStreamState>,
    shard: Shard,
    counted: CountedStream,
    _guard: BackendStreamGuard,
}

impl BackendStream {
    /// Relays `source`, with a comment when it was quiet for `keep_alive`, until the client's credential
    /// expires. `cut` aborts the request.
    pub(super) fn new(
        mut source: StreamSource,
        headers: &HeaderMap,
        (keep_alive, expires_at): (Option<Duration>, Option<Instant>),
        (service, counted): (&Service, CountedStream),
        cut: Box<dyn Fn()>,
    ) -> Self {
        let is_kept = matches!(source, StreamSource::Kept(_));
        if let StreamSource::Upstream(body) = &mut source {
            body.disable_idle_timeout();
        }
        // Over HTTP/1.1 the connection's write timeout covers the stream.
        let is_watched = counted.protocol() == HttpProtocol::Http2;
        let shard = service.shard();
        let write_timeout = shard.write_timeout();
        // Comments would exceed a Content-Length.
        let has_room = !is_encoded(headers) && !headers.contains_key(CONTENT_LENGTH);
        let keep_alive = keep_alive.filter(|_| has_room);
        let now = Instant::now();
        let state = Rc::new(BackendStreamState::new(
            (keep_alive, expires_at),
            (is_watched, is_kept),
            now,
            cut,
        ));
        let first = state.before_end(now + keep_alive.unwrap_or(write_timeout).min(write_timeout));
        let guard = service.backend_streams().insert(Rc::clone(&state), first);
        let ender = guard.ender();
        // A backend's stream follows no channel.
        counted.watch(Box::default(), StreamStopper::of(move |reason| ender.end(reason)));
        Self {
            source,
            comments: has_room.then(CommentInserter::default),
            rest: Bytes::new(),
            trailers: None,
            end: None,
            bytes: 0,
            state,
            shard: shard.clone(),
            counted,
            _guard: guard,
        }
    }

    /// Sets its lines in the access log.
    pub(super) fn log_in(&mut self, log: Box<StreamLog>) {
        self.counted.log_in(log);
    }

    /// The next piece of the stream.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(MAX_PIECE));
                return Poll::Ready(Some(Ok(Frame::data(self.record_write(piece)))));
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if self.end.is_some() || self.is_ended_by_us() {
                return Poll::Ready(None);
            }
            match self.source.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.take(frame),
                Poll::Ready(Some(Err(error))) => {
                    self.end = Some(BackendStreamEnd::BackendFailed);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    self.rest =
                        self.comments.as_mut().map(CommentInserter::finish).unwrap_or_default();
                    self.end = Some(BackendStreamEnd::Backend);
                }
                Poll::Pending => {
                    if self.counted.take_probe_request() {
                        self.state.request_comment();
                    }
                    if let Some(comment) = self.due_comment() {
                        return Poll::Ready(Some(Ok(Frame::data(self.record_write(comment)))));
                    }
                    self.state.wait(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match (frame.into_data(), &mut self.comments) {
            (Ok(data), None) => self.rest = data,
            (Ok(data), Some(comments)) => self.rest = comments.pass(data),
            (Err(frame), comments) => {
                self.rest = comments.as_mut().map(CommentInserter::finish).unwrap_or_default();
                self.trailers = frame.into_trailers().ok();
            }
        }
    }

    fn due_comment(&mut self) -> Option<Bytes> {
        self.comments.as_mut().filter(|_| self.state.is_comment_due())?.comment()
    }

    /// Whether the stream is to end and stands between two events.
    fn is_ended_by_us(&self) -> bool {
        let is_whole = self.comments.as_ref().is_some_and(CommentInserter::is_between_blocks);
        self.state.is_ending() && is_whole
    }

    fn record_write(&mut self, piece: Bytes) -> Bytes {
        self.bytes += piece.len() as u64;
        self.shard.observer().bytes_sent(piece.len());
        self.state.record_write(Instant::now());
        piece
    }

    fn close_reason(&self) -> &'static str {
        let reason = match self.end {
            Some(end) => return end.as_str(),
            None if self.state.is_stalled(self.shard.write_timeout())
                || self.counted.is_stalled() =>
            {
                CloseReason::Stalled
            }
            None if self.is_ended_by_us() && self.state.ended().is_none() => CloseReason::Drained,
            None => self.state.ended().unwrap_or(CloseReason::ClientLeft),
        };
        reason.as_str()
    }
}

impl Drop for BackendStream {
    fn drop(&mut self) {
        self.counted.close(self.close_reason(), (None, self.bytes), None);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::is_encoded;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_codings_other_than_identity_count_as_encoded() {
        for (codings, expected) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity, "], false),
            (&["gzip"], true),
            (&["identity", "br"], true),
            (&["identity, zstd"], true),
        ] {
            assert_eq!(is_encoded(&headers("content-encoding", codings)), expected, "{codings:?}");
        }
    }
}
