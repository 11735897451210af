//! One stream, followed as `EventSource` does it (WHATWG HTML, section 9.2.3 "Processing model").
//!
//! Owns when to connect again and when never to. Does not know what happens to the events.

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
use ssegate::event::Event;
use ssegate::sse::parse::{Parser, SseItem};
use tokio::sync::mpsc::Sender;

use super::SubError;
use super::target::Stream;
use crate::cli::Error;
use crate::cli::http_client::{Answer, HttpClient, HttpError, reason};

/// What Chromium and Firefox wait unless the server wishes otherwise.
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// `retry: 0` is a wish, but not one to ask without a pause for.
const MIN_RETRY: Duration = Duration::from_millis(100);

/// From the request to the head of the answer; as long as Chromium waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Who waits for an answer is told so after this.
const SILENCE: Duration = Duration::from_secs(1);

/// The gateway's own default bound is 16 MiB.
const MAX_EVENT_BYTES: usize = 64 << 20;

/// As many as Fetch allows.
const MAX_REDIRECTS: usize = 20;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// A stream, and what is remembered of it from one connection to the next.
pub(super) struct Follow {
    client: Arc<HttpClient>,
    name: Arc<str>,
    url: Uri,
    headers: HeaderMap,
    last_event_id: String,
    retry: Duration,
    // What the server said of a connection that had no event.
    comment: Option<String>,
    // What this connection has had: a time to come back, and an event or a `ready`.
    has_retry: bool,
    has_begun: bool,
}

/// What there is to tell of a stream.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nobody has answered yet.
    Waiting { from: Arc<str>, url: Uri },
    /// It is open.
    Open { from: Arc<str>, url: Uri, version: Version },
    /// An event came.
    Event { from: Arc<str>, event: Event, last_event_id: Arc<str> },
    /// An event came that was too large; its length in bytes.
    TooLarge { from: Arc<str>, bytes: u64 },
    /// It is closed, and opened again after a while. `sent_away`: the server opened it only to say why
    /// there is no stream now.
    Lost { from: Arc<str>, reason: String, retry: Duration, sent_away: bool },
    /// It is closed for good: the server wants no more.
    Stopped { from: Arc<str> },
}

/// How a connection ended.
enum End {
    /// It may be opened again.
    Lost(String),
    /// 204: the server wants no more.
    Stop,
}

impl Follow {
    /// Follows `stream` with requests that have `headers` beside the usual ones.
    pub(super) fn new(client: Arc<HttpClient>, stream: Stream, headers: HeaderMap) -> Self {
        Self {
            client,
            name: stream.name.into(),
            url: stream.url,
            headers,
            last_event_id: String::new(),
            retry: DEFAULT_RETRY,
            comment: None,
            has_retry: false,
            has_begun: false,
        }
    }

    /// A task that ends when the server wants no more, when it can never work, or when nobody
    /// listens to `heard`.
    pub(super) async fn run(mut self, heard: Sender<Heard>) -> Result<(), Error> {
        while !heard.is_closed() {
            let reason = match self.follow_once(&heard).await? {
                End::Lost(reason) => reason,
                End::Stop => {
                    tell(&heard, Heard::Stopped { from: self.name }).await;
                    break;
                }
            };
            tell(&heard, self.lost(reason)).await;
            tokio::time::sleep(self.retry).await;
        }
        Ok(())
    }

    fn lost(&mut self, reason: String) -> Heard {
        let sent_away = self.has_retry && !self.has_begun && self.comment.take().is_some();
        Heard::Lost { from: Arc::clone(&self.name), reason, retry: self.retry, sent_away }
    }

    async fn follow_once(&mut self, heard: &Sender<Heard>) -> Result<End, Error> {
        let (url, answer) = match self.open_aloud(heard).await {
            Ok(opened) => opened,
            Err(Error::Http(error)) if !error.is_final() => {
                return Ok(End::Lost(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if answer.response.status() == StatusCode::NO_CONTENT {
            return Ok(End::Stop);
        }
        is_event_stream(&answer.response).map_err(|problem| {
            SubError::NoStream(url.to_string(), problem + hint(&url, &answer))
        })?;
        let version = answer.response.version();
        tell(heard, Heard::Open { from: Arc::clone(&self.name), url, version }).await;
        Ok(End::Lost(self.read(answer, heard).await))
    }

    /// Opens the stream, and says so when that takes its time.
    async fn open_aloud(&self, heard: &Sender<Heard>) -> Result<(Uri, Answer), Error> {
        let mut opening = pin!(self.open());
        tokio::select! {
            biased;
            opened = &mut opening => return opened,
            () = tokio::time::sleep(SILENCE) => {}
        }
        let waiting = Heard::Waiting { from: Arc::clone(&self.name), url: self.url.clone() };
        tell(heard, waiting).await;
        opening.await
    }

    /// Asks for the stream, through redirects. The URL is where it was found.
    async fn open(&self) -> Result<(Uri, Answer), Error> {
        let mut url = self.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let get = self.client.get(&url, self.request_headers(&url));
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, get)
                .await
                .map_err(|_| HttpError::Timeout(url.to_string(), ANSWER_TIMEOUT))??;
            match redirect(&url, &answer.response) {
                Some(next) => url = next,
                None => return Ok((url, answer)),
            }
        }
        Err(SubError::NoStream(self.url.to_string(), "too many redirects".into()).into())
    }

    fn request_headers(&self, url: &Uri) -> HeaderMap {
        let mut headers = self.headers.clone();
        if url.authority() != self.url.authority() || url.scheme() != self.url.scheme() {
            // Credentials are for the host that the user named.
            headers.remove(AUTHORIZATION);
            headers.remove(COOKIE);
        }
        let mut default = |name, value: &'static str| {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        };
        default(ACCEPT, "text/event-stream");
        default(CACHE_CONTROL, "no-cache");
        // With it a gateway of ours takes us for a browser's `EventSource`, and tells our position
        // before the first event.
        default(SEC_FETCH_MODE, "cors");
        default(USER_AGENT, concat!("ssegate/", env!("CARGO_PKG_VERSION")));
        // An id with a control character cannot be sent back (nor does a browser).
        match HeaderValue::from_bytes(self.last_event_id.as_bytes()) {
            Ok(id) if !id.is_empty() => headers.insert(LAST_EVENT_ID, id),
            _ => None,
        };
        headers
    }

    /// Reads the stream to its end and says why it ended.
    async fn read(&mut self, mut answer: Answer, heard: &Sender<Heard>) -> String {
        let mut parser = Parser::resuming(&self.last_event_id, MAX_EVENT_BYTES);
        (self.comment, self.has_retry, self.has_begun) = (None, false, false);
        loop {
            match answer.response.body_mut().frame().await {
                Some(Ok(frame)) => {
                    let chunk = frame.into_data().unwrap_or_default();
                    self.take(&chunk, &mut parser, heard).await;
                }
                Some(Err(error)) => return reason(&error),
                None => {
                    return match &self.comment {
                        Some(comment) => format!("the stream ended ({comment})"),
                        None => "the stream ended".into(),
                    };
                }
            }
        }
    }

    async fn take(&mut self, chunk: &Bytes, parser: &mut Parser, heard: &Sender<Heard>) {
        let mut items = Vec::new();
        parser.feed(chunk, |item| items.push(item));
        self.last_event_id.clear();
        self.last_event_id.push_str(parser.last_event_id());
        for item in items {
            let from = Arc::clone(&self.name);
            match item {
                SseItem::Event { event, last_event_id } => {
                    (self.comment, self.has_begun) = (None, true);
                    tell(heard, Heard::Event { from, event, last_event_id }).await;
                }
                SseItem::TooLarge(bytes) => tell(heard, Heard::TooLarge { from, bytes }).await,
                SseItem::Retry(retry) => {
                    self.has_retry = true;
                    self.retry = retry.max(MIN_RETRY);
                }
                SseItem::Comment(text) => match text.as_str() {
                    "" => {}
                    "ready" => self.has_begun = true,
                    // A gateway of ours says so why there is no stream now.
                    _ => self.comment = Some(text),
                },
            }
        }
    }
}

/// Waits for room. Where nobody listens any more, the task ends soon.
async fn tell(heard: &Sender<Heard>, news: Heard) {
    drop(heard.send(news).await.err());
}

/// Servers of TLS respond so to HTTP in clear text.
fn hint(url: &Uri, answer: &Answer) -> &'static str {
    let is_refused = answer.response.status() == StatusCode::BAD_REQUEST;
    match is_refused && url.scheme_str() == Some("http") {
        true => "; if that port speaks TLS, try https://",
        false => "",
    }
}

/// Anything else ends an `EventSource` for good.
fn is_event_stream(response: &Response<Incoming>) -> Result<(), String> {
    if response.status() != StatusCode::OK {
        return Err(format!("answered {}", response.status()));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("text/event-stream") {
        Ok(())
    } else {
        Err(format!("is not an event stream: its content type is {essence:?}"))
    }
}

fn redirect(url: &Uri, response: &Response<Incoming>) -> Option<Uri> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    absolute(url, location.to_str().ok()?)
}

/// `location` as seen from `base`: whole, or a path from the root.
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
    fn a_redirect_is_read_from_where_it_stands() {
        let base = "https://a.example:8443/old?x".parse().expect("a URL");
        for (location, expected) in [
            ("/new?y", "https://a.example:8443/new?y"),
            ("http://b.example/new", "http://b.example/new"),
        ] {
            assert_eq!(absolute(&base, location).expect(location), expected);
        }
    }
}
