//! The pump of a shared stream: a task that asks the backend and reads its events. While there are readers it
//! reconnects when the response ends, as a browser would.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use http::header::VIA;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use ssegate_hub::{is_foreign_id, jittered};
use ssegate_sse::Event;
use ssegate_sse::parse::{Parser, SseItem};

use super::piece::SharedPieceKind;
use super::question::SharedQuestion;
use super::response::{is_away, may_be_shared, shared_head};
use super::upstream::{SharedEnd, SharedOpening, SharedPhase};
use super::upstreams::SharedFeed;
use crate::proxy::{Proxy, ProxyError, UpstreamBody};

/// How long browsers wait before they reconnect, if the backend sends no `retry`.
const RETRY: Duration = Duration::from_secs(3);
/// The shortest and the longest `retry` that is accepted.
const MIN_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(3600);
/// The longest wait for a backend that fails repeatedly, unless its own `retry` is longer.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Reads a backend's stream for all of its readers.
#[derive(Debug)]
pub(in crate::service) struct SharedPump {
    proxy: Proxy,
    question: SharedQuestion,
    // The gateways that the first reader's request has passed: a question that comes back to one of them is in a loop.
    passed: Option<HeaderValue>,
    leave: Duration,
    max_event_bytes: usize,
    // The last id of the backend; empty: it sets none. As bytes: a client's id may not be UTF-8.
    last_id: Vec<u8>,
    // Whether `last_id` is the id with which a reader has begun the stream: the backend has set none since.
    is_readers: bool,
    // Whether events have come since `last_id` was set: it does not show where the stream is.
    is_behind: bool,
    retry: Duration,
}

/// The response of the backend to the question.
enum SharedResponse {
    /// Events.
    Stream(Box<Response<UpstreamBody>>),
    /// There are no more events (204).
    NoContent,
    /// It has failed, and a retry may succeed.
    Failed,
    /// It cannot be shared.
    Unshared,
}

/// How a body has ended.
enum SharedBodyEnd {
    Complete,
    Broken,
}

impl SharedPump {
    /// Creates the pump of this question, whose first request has passed these gateways. `last_id`: the id of the
    /// backend with which the first reader begins the stream.
    pub(in crate::service) fn new(
        proxy: Proxy,
        (question, passed): (SharedQuestion, Option<HeaderValue>),
        last_id: Option<Vec<u8>>,
        (leave, max_event_bytes): (Duration, usize),
    ) -> Self {
        let (is_readers, last_id) = (last_id.is_some(), last_id.unwrap_or_default());
        let (is_behind, retry) = (false, RETRY);
        Self {
            proxy,
            question,
            passed,
            leave,
            max_event_bytes,
            last_id,
            is_readers,
            is_behind,
            retry,
        }
    }

    /// Reads until there are no more events, or no readers.
    pub(in crate::service) async fn run(mut self, feed: SharedFeed) {
        let end = match self.begin(&feed).await {
            ControlFlow::Continue(body) => self.pump(&feed, body).await,
            ControlFlow::Break(end) => end,
        };
        feed.end(end, &self.last_id);
    }

    /// Asks for the first time, as long as there is a reader.
    async fn begin(&mut self, feed: &SharedFeed) -> ControlFlow<SharedEnd, UpstreamBody> {
        let answer = tokio::select! {
            answer = self.ask_with_and_without_id() => answer,
            () = feed.unread(Duration::ZERO) => return ControlFlow::Break(SharedEnd::Left),
        };
        match answer {
            SharedResponse::Stream(response) => {
                let (head, body) = response.into_parts();
                let after = Some(self.last_id.clone()).filter(|id| !id.is_empty());
                let opening = SharedOpening { head: shared_head(&head.headers), after };
                feed.upstream().set_phase(SharedPhase::Open(Arc::new(opening)));
                ControlFlow::Continue(body)
            }
            SharedResponse::NoContent if self.last_id.is_empty() => {
                ControlFlow::Break(SharedEnd::NoContent)
            }
            SharedResponse::NoContent => ControlFlow::Break(SharedEnd::NothingAfter),
            SharedResponse::Failed => ControlFlow::Break(SharedEnd::Failed),
            SharedResponse::Unshared => ControlFlow::Break(SharedEnd::Unshared),
        }
    }

    /// Asks with the id. If the backend refuses that, asks without it.
    async fn ask_with_and_without_id(&mut self) -> SharedResponse {
        let answer = self.ask().await;
        if matches!(answer, SharedResponse::Unshared) && !self.last_id.is_empty() {
            self.last_id.clear();
            return self.ask().await;
        }
        answer
    }

    async fn ask(&self) -> SharedResponse {
        let id = HeaderValue::from_bytes(&self.last_id).ok().filter(|id| !id.is_empty());
        let mut request = self.question.request(id.as_ref());
        if let Some(passed) = &self.passed {
            request.headers_mut().insert(VIA, passed.clone());
        }
        match self.proxy.ask(request).await {
            Ok(response) => self.judge(response),
            Err(error) => {
                log(&self.proxy, &error);
                SharedResponse::Failed
            }
        }
    }

    fn judge(&self, mut response: Response<UpstreamBody>) -> SharedResponse {
        let status = response.status();
        let is_temporary = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || status == StatusCode::TOO_EARLY
            || is_away(response.headers());
        if status == StatusCode::NO_CONTENT {
            SharedResponse::NoContent
        } else if is_temporary {
            SharedResponse::Failed
        } else if let Err(why) = may_be_shared((status, response.headers()), &self.question) {
            tracing::debug!(route = self.proxy.route(), why = why.as_str(), "not shared");
            SharedResponse::Unshared
        } else {
            response.body_mut().disable_idle_timeout();
            SharedResponse::Stream(Box::new(response))
        }
    }

    /// Reads one response after the other.
    async fn pump(&mut self, feed: &SharedFeed, mut body: UpstreamBody) -> SharedEnd {
        let leave = self.leave;
        // Events that come before the hub follows the channel would be lost.
        tokio::select! {
            () = feed.upstream().followed() => {}
            () = feed.unread(leave) => return SharedEnd::Left,
        }
        loop {
            let end = tokio::select! {
                end = self.read(feed, body) => end,
                () = feed.unread(leave) => return SharedEnd::Left,
            };
            feed.metrics().shared_retried(match end {
                SharedBodyEnd::Complete => "complete",
                SharedBodyEnd::Broken => "broken",
            });
            let again = tokio::select! {
                again = self.come_back(feed) => again,
                () = feed.unread(leave) => return SharedEnd::Left,
            };
            body = match again {
                ControlFlow::Continue(body) => body,
                ControlFlow::Break(end) => return end,
            };
        }
    }

    /// Reads a response to its end.
    async fn read(&mut self, feed: &SharedFeed, mut body: UpstreamBody) -> SharedBodyEnd {
        // The parser starts without an id if that of the client is not UTF-8.
        let last_id = String::from_utf8(self.last_id.clone()).unwrap_or_default();
        let mut parser = Parser::resuming(&last_id, self.max_event_bytes);
        loop {
            let data = match body.frame().await {
                // Trailers are not part of the stream.
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_told_by_the_proxy)) => return SharedBodyEnd::Broken,
                None => return SharedBodyEnd::Complete,
            };
            let mut events = Vec::new();
            parser.feed(&data, |item| match item {
                SseItem::Event { event, .. } => {
                    self.is_readers &= event.id.is_none();
                    events.push(Some(sendable(event)));
                }
                SseItem::TooLarge(_) => events.push(None),
                SseItem::Retry(retry) => self.retry = retry.clamp(MIN_RETRY, MAX_RETRY),
                SseItem::Comment(_) => {}
            });
            let id = parser.last_event_id();
            if id.as_bytes() != self.last_id {
                self.is_readers = false;
                self.last_id.clear();
                // The backend would not recognize any other id, or it could not be sent.
                if is_foreign_id(id) {
                    self.last_id.extend_from_slice(id.as_bytes());
                }
            }
            if !events.is_empty() {
                self.is_behind |= self.is_readers;
                feed.send(SharedPieceKind::Events(events)).await;
            }
        }
    }

    /// Asks repeatedly until there is a stream, or there will be none.
    async fn come_back(&mut self, feed: &SharedFeed) -> ControlFlow<SharedEnd, UpstreamBody> {
        let mut wait = self.retry;
        if self.is_readers && self.is_behind {
            self.last_id.clear();
        }
        loop {
            // Jittered, so that a backend of many streams is not asked for all of them at once.
            tokio::time::sleep(wait.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
            // Not without readers: a reader that comes before the stream is left gets the history, and then new events.
            feed.read().await;
            if self.proxy.is_retired() {
                return ControlFlow::Break(SharedEnd::Replaced);
            }
            match self.ask_with_and_without_id().await {
                SharedResponse::Stream(response) => {
                    if self.last_id.is_empty() {
                        feed.send(SharedPieceKind::Away).await;
                    }
                    return ControlFlow::Continue(response.into_body());
                }
                SharedResponse::NoContent => return ControlFlow::Break(SharedEnd::NoContent),
                SharedResponse::Unshared => return ControlFlow::Break(SharedEnd::Unshared),
                SharedResponse::Failed => {
                    feed.metrics().shared_retried("failed");
                    wait = jittered(wait).min(self.retry.max(MAX_BACKOFF));
                }
            }
        }
    }
}

/// The event as readers are sent it. Its name is as the backend wrote it: what was a line has no line break. `retry` is for
/// whoever comes back to the backend, which is the pump: readers come back to the gateway.
fn sendable(event: Event) -> Event {
    Event { retry: None, ..event }
}

fn log(proxy: &Proxy, error: &ProxyError) {
    if let Some(held_back) = error.held_back() {
        let (route, kind) = (proxy.route(), error.kind());
        tracing::warn!(route, kind, %error, held_back, "a shared stream's request to the backend failed");
    }
}
