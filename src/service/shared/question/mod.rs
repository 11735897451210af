//! What a shared stream is the response to: the part of a request that its readers have in common.
//!
//! The backend is sent a [`SharedQuestion`] and nothing else, and its [`QuestionKey`] is made of all that is sent. So
//! two requests with the same key cannot have different responses, and no reader can get the backend's response to
//! another. Anything else in a request is left out of the question, or the request gets a stream of its own
//! ([`Alone`]).

use std::fmt;
use std::sync::Arc;

use bytes::BufMut as _;
use http::header::{ACCEPT, ACCEPT_ENCODING, COOKIE, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use super::alone::{self, Alone, CHANGES_REQUEST};
use super::credential::is_credential;
use super::origin::{RequestOrigin, target_facts};
use crate::query;
use crate::route::{ShareKeyPart, ShareSettings};
use crate::service::backend_stream::PLAIN_TEXT;
use crate::service::events::{LAST_EVENT_ID, LAST_EVENT_ID_KEYS};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// What the backend is asked for a shared stream.
#[derive(Clone)]
pub(in crate::service) struct SharedQuestion {
    target: PathAndQuery,
    host: HeaderValue,
    // Each value as often as it is sent. Fields of the key that a request does not have are here without a value.
    fields: Vec<(HeaderName, Vec<HeaderValue>)>,
    // The values of `cookie:NAME`.
    cookies: Vec<(String, Option<Vec<u8>>)>,
    is_anonymous: bool,
    key: QuestionKey,
}

/// All of a question in a unique form. It contains secrets: `Debug` does not reveal it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(in crate::service) struct QuestionKey(Arc<[u8]>);

impl SharedQuestion {
    /// Makes the question of a request.
    ///
    /// # Errors
    /// The request has to get a stream of its own.
    pub(in crate::service) fn of<B>(
        request: &Request<B>,
        origin: RequestOrigin<'_>,
        settings: &ShareSettings,
    ) -> Result<Self, Alone> {
        let headers = request.headers();
        alone::check((request.method(), headers), origin, settings)?;
        let host = authority(request).ok_or(Alone::Host)?;
        let mut fields = target_facts(headers, origin, &host);
        let mut cookies = Vec::new();
        for part in &settings.key {
            match part {
                ShareKeyPart::Header(name) => {
                    fields.push((name.clone(), values(name, headers, origin.identity)));
                }
                ShareKeyPart::Cookie(name) => {
                    let mut values = ssegate_auth::cookies(headers, name);
                    let value = values.next().map(<[u8]>::to_vec);
                    if values.next().is_some() {
                        return Err(Alone::CookieTwice);
                    }
                    cookies.push((name.clone(), value));
                }
            }
        }
        let target = target(request.uri());
        let is_anonymous = settings.is_anonymous;
        let mut this =
            Self { target, host, fields, cookies, is_anonymous, key: QuestionKey::default() };
        this.key = QuestionKey::of(&this, origin);
        Ok(this)
    }

    /// The key of the question.
    pub(in crate::service) fn key(&self) -> &QuestionKey {
        &self.key
    }

    /// Returns the request that asks the question. `last_event_id` is where the gateway itself is in the stream, or
    /// where all of its readers have begun ([`QuestionKey::after`]). The id of a single reader is not sent: the others
    /// would get the events after it.
    pub(in crate::service) fn request(&self, last_event_id: Option<&HeaderValue>) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = self.target.clone().into();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, EVENT_STREAM);
        let (name, identity) = PLAIN_TEXT;
        headers.insert(name, identity);
        for (name, values) in &self.fields {
            for value in values {
                headers.append(name, value.clone());
            }
        }
        let pairs = self
            .cookies
            .iter()
            .filter_map(|(name, value)| Some([name.as_bytes(), value.as_deref()?].join(&b"="[..])));
        let pairs: Vec<_> = pairs.collect();
        if !pairs.is_empty() {
            let cookies = HeaderValue::from_bytes(&pairs.join(&b"; "[..]));
            headers.insert(COOKIE, cookies.expect("names and values of cookies that were sent"));
        }
        if let Some(id) = last_event_id {
            headers.insert(LAST_EVENT_ID, id.clone());
        }
        request
    }

    /// Whether a field is the same in all requests with this question, also if none has it: then a response that varies
    /// on it only depends on the key.
    pub(in crate::service) fn determines(&self, name: &HeaderName) -> bool {
        if [HOST, ACCEPT, ACCEPT_ENCODING, LAST_EVENT_ID].contains(name) {
            // The first is in every question. For the others the gateway always sends the same, and readers accept
            // that.
            return true;
        }
        if self.fields.iter().any(|(field, _)| field == name) {
            return true;
        }
        // A request with a credential that is not in the key gets a stream of its own.
        let is_absent = !self.is_anonymous && is_credential(name.as_str());
        is_absent || (CHANGES_REQUEST.contains(&name.as_str()))
    }
}

impl fmt::Debug for SharedQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQuestion").field("path", &self.target.path()).finish_non_exhaustive()
    }
}

impl fmt::Debug for QuestionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuestionKey").finish_non_exhaustive()
    }
}

impl QuestionKey {
    /// Returns the key of the same question, asked for the events after this id of the backend. A reader sends the id,
    /// so the response is for readers that send the same one.
    pub(super) fn after(&self, id: &[u8]) -> Self {
        let mut key = Vec::with_capacity(self.0.len() + id.len() + 16);
        // Other keys begin with the scope of a route, which is never empty.
        for part in [&[][..], id] {
            key.put_u64(part.len() as u64);
            key.put_slice(part);
        }
        key.put_slice(&self.0);
        Self(key.into())
    }

    fn of(question: &SharedQuestion, origin: RequestOrigin<'_>) -> Self {
        let mut key = Vec::new();
        // Each part after its length, and each list after its number of items.
        let mut put = |part: &[u8]| {
            key.put_u64(part.len() as u64);
            key.put_slice(part);
        };
        let scheme = if origin.is_tls { "https" } else { "http" };
        for part in [origin.scope, scheme, question.target.as_str()] {
            put(part.as_bytes());
        }
        put(question.host.as_bytes());
        // A response may depend on other things if credentials are removed.
        put(&[u8::from(question.is_anonymous)]);
        put(&(question.fields.len() as u64).to_be_bytes());
        for (name, values) in &question.fields {
            put(name.as_str().as_bytes());
            put(&(values.len() as u64).to_be_bytes());
            values.iter().for_each(|value| put(value.as_bytes()));
        }
        for (name, value) in &question.cookies {
            put(name.as_bytes());
            put(&[u8::from(value.is_some())]);
            put(value.as_deref().unwrap_or_default());
        }
        Self(key.into())
    }
}

/// The values of a field as the backend is sent them.
fn values(
    name: &HeaderName,
    headers: &HeaderMap,
    identity: &[(HeaderName, HeaderValue)],
) -> Vec<HeaderValue> {
    if let Some((_, value)) = identity.iter().rfind(|(passed, _)| passed == name) {
        return vec![value.clone()];
    }
    let values: Vec<_> = headers.get_all(name).iter().cloned().collect();
    if *name != COOKIE || values.len() < 2 {
        return values;
    }
    // HTTP/2 allows several, HTTP/1.1 does not (RFC 9113, section 8.2.3).
    let values: Vec<_> = values.iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&values.join(&b"; "[..]));
    vec![joined.expect("valid values joined by an ASCII separator")]
}

/// The host with its port, in lower case.
fn authority<B>(request: &Request<B>) -> Option<HeaderValue> {
    let authority = request.uri().authority().map(Authority::as_str);
    let header = || request.headers().get(HOST)?.to_str().ok();
    let host = authority.or_else(header).filter(|host| !host.is_empty())?;
    HeaderValue::try_from(host.to_ascii_lowercase()).ok()
}

/// The path and the query as they are written, without the reader's position in the stream.
fn target(uri: &Uri) -> PathAndQuery {
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let target = match uri.query() {
        None => path.to_owned(),
        Some(query) => match query::without(query, &LAST_EVENT_ID_KEYS) {
            kept if kept.is_empty() && !query.is_empty() => path.to_owned(),
            kept => format!("{path}?{kept}"),
        },
    };
    PathAndQuery::try_from(target).expect("parts of a valid target")
}

#[cfg(test)]
mod tests;
