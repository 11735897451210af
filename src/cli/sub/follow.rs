//! Follows one stream as `EventSource` does (WHATWG HTML, section 9.2.3 "Processing model").
//!
//! Owns the decision when to reconnect and when to give up. Does not know what happens to the
//! events.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, LOCATION, USER_AGENT,
};
use http::uri::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ssegate::http_client::{ClientResponse, HttpClient, HttpError, describe};
use ssegate_sse::Event;
use ssegate_sse::parse::{Parser, SseItem};
use tokio::sync::mpsc::Sender;

use super::error::SubError;
use super::server_reason;
use super::target::StreamTarget;
use crate::cli::CliError;

/// The reconnection time of Chromium and Firefox, used until the server sends `retry:`.
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// `retry: 0` must not make a busy loop.
const MIN_RETRY: Duration = Duration::from_millis(100);

/// From the request to the header of the response: Chromium's timeout.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);

/// A slower response is reported as being waited for.
const REPORT_WAIT_AFTER: Duration = Duration::from_secs(1);

/// A larger event is skipped. The gateway's `max_event_bytes` is 16 MiB by default.
const MAX_EVENT_BYTES: usize = 64 << 20;

/// The limit of the Fetch standard (section 4.4).
const MAX_REDIRECTS: usize = 20;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// A stream, with the state that outlives a connection: last event ID and reconnection time.
pub(super) struct Follower {
    client: Arc<HttpClient>,
    name: Arc<str>,
    url: Uri,
    headers: HeaderMap,
    last_event_id: String,
    retry: Duration,
    // The comment on this connection if no event followed it: the reason for a stream that ends at
    // once.
    comment: Option<String>,
    // Whether this connection has brought a `retry:`.
    has_retry: bool,
    // Whether this connection has brought an event or `: ready`.
    is_established: bool,
}

/// An event or a state change of a stream. `from` is the stream's name.
#[derive(Debug)]
pub(super) enum StreamUpdate {
    /// There is no response yet.
    Waiting { from: Arc<str>, url: Uri },
    /// The stream is open.
    Open { from: Arc<str>, url: Uri, version: Version },
    /// An event was received.
    Event { from: Arc<str>, event: Event, last_event_id: Arc<str> },
    /// An event was skipped because it was too large.
    TooLarge { from: Arc<str>, bytes: u64 },
    /// The connection was lost, and is retried after `retry`. `is_unavailable`: the server had
    /// opened the stream only to say why it is not available now.
    Lost { from: Arc<str>, reason: String, retry: Duration, is_unavailable: bool },
    /// The server responded 204: no reconnect.
    Stopped { from: Arc<str> },
}

/// How a connection ended.
enum FollowEnd {
    /// It may be retried. The reason.
    Lost(String),
    /// 204: no reconnect.
    Stop,
}

impl Follower {
    /// `headers` are sent in addition to the default ones, and override them. The stream begins after the event with
    /// the id `last_event_id`, unless that is empty.
    pub(super) fn new(
        client: Arc<HttpClient>,
        stream: StreamTarget,
        (headers, last_event_id): (HeaderMap, &str),
    ) -> Self {
        Self {
            client,
            name: stream.name.into(),
            url: stream.url,
            headers,
            last_event_id: last_event_id.to_owned(),
            retry: DEFAULT_RETRY,
            comment: None,
            has_retry: false,
            is_established: false,
        }
    }

    /// Follows the stream until the server responds 204, the receiver of `updates` is dropped, or
    /// an error occurs that a retry cannot fix.
    pub(super) async fn run(mut self, updates: Sender<StreamUpdate>) -> Result<(), CliError> {
        while !updates.is_closed() {
            let reason = match self.follow_once(&updates).await? {
                FollowEnd::Lost(reason) => reason,
                FollowEnd::Stop => {
                    send(&updates, StreamUpdate::Stopped { from: self.name }).await;
                    break;
                }
            };
            send(&updates, self.lost(reason)).await;
            tokio::time::sleep(self.retry).await;
        }
        Ok(())
    }

    fn lost(&mut self, reason: String) -> StreamUpdate {
        let is_unavailable =
            self.has_retry && !self.is_established && self.comment.take().is_some();
        StreamUpdate::Lost {
            from: Arc::clone(&self.name),
            reason,
            retry: self.retry,
            is_unavailable,
        }
    }

    async fn follow_once(&mut self, updates: &Sender<StreamUpdate>) -> Result<FollowEnd, CliError> {
        let (url, mut response) = match self.open_and_report(updates).await {
            Ok(opened) => opened,
            Err(CliError::Http(error)) if !error.is_final() => {
                return Ok(FollowEnd::Lost(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if response.http.status() == StatusCode::NO_CONTENT {
            return Ok(FollowEnd::Stop);
        }
        if let Err(problem) = is_event_stream(&response.http) {
            let reason = server_reason::of(&mut response.http).await;
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            let problem = problem + &reason + self.hint(&url, &response);
            return Err(SubError::NoStream(url.to_string(), problem).into());
        }
        let version = response.http.version();
        send(updates, StreamUpdate::Open { from: Arc::clone(&self.name), url, version }).await;
        Ok(FollowEnd::Lost(self.read(response, updates).await))
    }

    /// Opens the stream; reports [`StreamUpdate::Waiting`] if that takes longer than
    /// [`REPORT_WAIT_AFTER`].
    async fn open_and_report(
        &self,
        updates: &Sender<StreamUpdate>,
    ) -> Result<(Uri, ClientResponse), CliError> {
        let mut opening = pin!(self.open());
        tokio::select! {
            biased;
            opened = &mut opening => return opened,
            () = tokio::time::sleep(REPORT_WAIT_AFTER) => {}
        }
        let waiting = StreamUpdate::Waiting { from: Arc::clone(&self.name), url: self.url.clone() };
        send(updates, waiting).await;
        opening.await
    }

    /// Sends the request and follows redirects. Returns the final URL, too.
    async fn open(&self) -> Result<(Uri, ClientResponse), CliError> {
        let mut url = self.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let get = self.client.get(&url, self.request_headers(&url));
            let response = tokio::time::timeout(RESPONSE_TIMEOUT, get)
                .await
                .map_err(|_| HttpError::Timeout(url.to_string(), RESPONSE_TIMEOUT))??;
            match redirect(&url, &response.http) {
                Some(next) => url = next,
                None => return Ok((url, response)),
            }
        }
        Err(SubError::NoStream(self.url.to_string(), "too many redirects".into()).into())
    }

    fn request_headers(&self, url: &Uri) -> HeaderMap {
        let mut headers = self.headers.clone();
        if url.authority() != self.url.authority() || url.scheme() != self.url.scheme() {
            // After a redirect to another origin, credentials are not sent.
            headers.remove(AUTHORIZATION);
            headers.remove(COOKIE);
        }
        let mut default = |name, value: &'static str| {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        };
        default(ACCEPT, "text/event-stream");
        default(CACHE_CONTROL, "no-cache");
        // Makes ssegate treat this client as a browser's `EventSource`, and send the position
        // before the first event.
        default(SEC_FETCH_MODE, "cors");
        default(USER_AGENT, concat!("ssegate/", env!("CARGO_PKG_VERSION")));
        // An ID with a control character is not a valid field value. Browsers do not send it,
        // either.
        match HeaderValue::from_bytes(self.last_event_id.as_bytes()) {
            Ok(id) if !id.is_empty() => headers.insert(LAST_EVENT_ID, id),
            _ => None,
        };
        headers
    }

    /// What to do about a response that is no stream.
    fn hint(&self, url: &Uri, response: &ClientResponse) -> &'static str {
        let sent = self.request_headers(url);
        let has_credential = sent.contains_key(AUTHORIZATION) || sent.contains_key(COOKIE);
        match response.http.status() {
            // TLS servers such as nginx respond 400 to plain HTTP.
            StatusCode::BAD_REQUEST if url.scheme_str() == Some("http") => {
                "; if that port speaks TLS, try https://"
            }
            StatusCode::UNAUTHORIZED if has_credential => {
                "; it does not accept the credential: has it expired, and is it for this server? \
                 ssegate token --inspect shows what is in a token"
            }
            StatusCode::UNAUTHORIZED => {
                "; it wants to know who you are: give a token with --token @FILE or in SSEGATE_TOKEN"
            }
            StatusCode::FORBIDDEN if has_credential => {
                "; the credential is not for this stream: ask for channels that it permits, or for \
                 another credential"
            }
            StatusCode::FORBIDDEN => {
                "; not for everybody: give a token with --token @FILE or in SSEGATE_TOKEN"
            }
            _ => "",
        }
    }

    /// Reads the stream to its end. Returns the reason for the end.
    async fn read(
        &mut self,
        mut response: ClientResponse,
        updates: &Sender<StreamUpdate>,
    ) -> String {
        let mut parser = Parser::resuming(&self.last_event_id, MAX_EVENT_BYTES);
        (self.comment, self.has_retry, self.is_established) = (None, false, false);
        loop {
            match response.http.body_mut().frame().await {
                Some(Ok(frame)) => {
                    let chunk = frame.into_data().unwrap_or_default();
                    self.take(&chunk, &mut parser, updates).await;
                }
                Some(Err(error)) => return describe(&error),
                None => {
                    return match &self.comment {
                        Some(comment) => format!("the stream ended ({comment})"),
                        None => "the stream ended".into(),
                    };
                }
            }
        }
    }

    async fn take(&mut self, chunk: &Bytes, parser: &mut Parser, updates: &Sender<StreamUpdate>) {
        let mut items = Vec::new();
        parser.feed(chunk, |item| items.push(item));
        self.last_event_id.clear();
        self.last_event_id.push_str(parser.last_event_id());
        for item in items {
            let from = Arc::clone(&self.name);
            match item {
                SseItem::Event { event, last_event_id } => {
                    (self.comment, self.is_established) = (None, true);
                    send(updates, StreamUpdate::Event { from, event, last_event_id }).await;
                }
                SseItem::TooLarge(bytes) => {
                    send(updates, StreamUpdate::TooLarge { from, bytes }).await
                }
                SseItem::Retry(retry) => {
                    self.has_retry = true;
                    self.retry = retry.max(MIN_RETRY);
                }
                SseItem::Comment(text) => match text.as_str() {
                    "" => {}
                    "ready" => self.is_established = true,
                    // The reason in a stream of ssegate that ends at once.
                    _ => self.comment = Some(text),
                },
            }
        }
    }
}

/// Sends an update, waiting for room in the queue. A dropped receiver ends the task at its next
/// check.
async fn send(updates: &Sender<StreamUpdate>, update: StreamUpdate) {
    drop(updates.send(update).await.err());
}

/// Checks status and content type: any other response ends an `EventSource` for good.
fn is_event_stream(response: &Response<Incoming>) -> Result<(), String> {
    if response.status() != StatusCode::OK {
        return Err(format!("the server responded {}", response.status()));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("text/event-stream") {
        Ok(())
    } else {
        Err(format!("not an event stream: Content-Type is {essence:?}"))
    }
}

fn redirect(url: &Uri, response: &Response<Incoming>) -> Option<Uri> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    absolute(url, location.to_str().ok()?)
}

/// Resolves `location` against `base`: a URL, or a path from the root.
fn absolute(base: &Uri, location: &str) -> Option<Uri> {
    let location: Uri = location.parse().ok()?;
    if location.scheme().is_some() {
        return Some(location);
    }
    let mut parts = Parts::default();
    parts.scheme = base.scheme().cloned();
    parts.authority = location.authority().or_else(|| base.authority()).cloned();
    parts.path_and_query = location.path_and_query().cloned();
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn a_location_is_resolved_against_the_url_of_the_response() {
        let base = "https://a.example:8443/old?x".parse().expect("a URL");
        for (location, expected) in [
            ("/new?y", "https://a.example:8443/new?y"),
            ("http://b.example/new", "http://b.example/new"),
        ] {
            assert_eq!(absolute(&base, location).expect(location), expected);
        }
    }
}
