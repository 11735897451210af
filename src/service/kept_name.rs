//! The name of a kept stream: the first one that is there, in a header field or in the body of the request, or in the
//! response.

use http::{HeaderMap, HeaderName, Request};

use super::kept::answer::SSEGATE_KEY;
use crate::route::{KeepSettings, KeySource};

/// The longest name of a stream.
const MAX_KEY: usize = 1024;

/// The name that a request has.
pub(super) enum StreamName {
    Is(Box<str>),
    /// There is no name.
    None,
    /// It may be in the body, which has to be read.
    InBody,
    /// It may be in the response.
    InResponse,
}

/// Finds the first name. `body`: what was read of the body; `Some(None)`: it is too large.
#[expect(clippy::option_option, reason = "not read, and not usable, are two things")]
pub(super) fn first_key<B: http_body::Body>(
    keep: &KeepSettings,
    request: &Request<B>,
    body: Option<Option<&[u8]>>,
) -> StreamName {
    let mut parsed = None;
    for source in &keep.key {
        let found = match source {
            KeySource::Header(name) => text(request.headers(), name),
            KeySource::Response(_) => return StreamName::InResponse,
            KeySource::Body(_) if request.body().is_end_stream() && body.is_none() => None,
            KeySource::Body(pointer) => match body {
                None => return StreamName::InBody,
                Some(body) => {
                    let json = parsed.get_or_insert_with(|| {
                        body.and_then(|body| serde_json::from_slice(body).ok())
                    });
                    json.as_ref().and_then(|json: &serde_json::Value| value_at(json, pointer))
                }
            },
        };
        if let Some(key) = found.filter(|key| is_key(key)) {
            return StreamName::Is(key.into());
        }
    }
    StreamName::None
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_KEY
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.to_owned())
}

fn value_at(json: &serde_json::Value, pointer: &str) -> Option<String> {
    match json.pointer(pointer)? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The name of a stream: that of its request, or else that in the response.
pub(super) fn response_key(
    keep: &KeepSettings,
    of_request: Option<Box<str>>,
    headers: &HeaderMap,
) -> Option<Box<str>> {
    let of_response = || {
        let sources = keep.key.iter().filter_map(|source| match source {
            KeySource::Response(name) => Some(name),
            KeySource::Header(_) | KeySource::Body(_) => None,
        });
        let mut names = sources.cloned().chain([SSEGATE_KEY]);
        names.find_map(|name| text(headers, &name).filter(|key| is_key(key)))
    };
    of_request.or_else(|| of_response().map(Into::into))
}
