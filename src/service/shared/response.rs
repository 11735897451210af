//! Whether all readers of a [`SharedQuestion`] may get a response to it, and which fields of its header.
//!
//! The backend was sent nothing of one reader only. It can still make a response for one reader: with a cookie, with
//! `Cache-Control: private`, or with `Vary` on something that it was not sent. A field that cannot be parsed as a list
//! counts as that.

use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_TYPE, DATE, ETAG, EXPIRES, LAST_MODIFIED, LOCATION, PROXY_AUTHENTICATE, SET_COOKIE,
    TRAILER, TRANSFER_ENCODING, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::credential::is_credential;
use super::question::SharedQuestion;
use crate::server::event_stream::is_event_stream;
use crate::service::backend_stream::is_encoded;
use crate::service::stream_head::forbid_buffering;

const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Tells a gateway that this stream only sends its client away: it is not a response of the backend.
const AWAY: HeaderName = HeaderName::from_static("ssegate-away");

/// Why a response is not given to several readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Unshared {
    /// It is not 200.
    Status,
    /// It is no event stream.
    Type,
    /// It has a content coding, in which no events can be read.
    Encoded,
    /// It changes what one browser keeps: a cookie, or `Clear-Site-Data`.
    Cookie,
    /// `Cache-Control` says that it is for one user, or cannot be parsed.
    Private,
    /// It depends on something that is not in the key.
    Vary,
    /// It belongs to a session of the Model Context Protocol.
    Mcp,
}

impl Unshared {
    /// A word for metrics.
    pub(in crate::service) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Type => "type",
            Self::Encoded => "encoded",
            Self::Cookie => "set_cookie",
            Self::Private => "private",
            Self::Vary => "vary",
            Self::Mcp => "mcp",
        }
    }
}

/// Checks that all requests with this question may get a response.
///
/// # Errors
/// They may not. The first one must not get it either, since its own request was another one.
pub(in crate::service) fn may_be_shared(
    (status, headers): (StatusCode, &HeaderMap),
    question: &SharedQuestion,
) -> Result<(), Unshared> {
    let has_one_type = headers.get_all(CONTENT_TYPE).iter().count() == 1;
    if status != StatusCode::OK {
        Err(Unshared::Status)
    } else if !has_one_type || !is_event_stream(headers) {
        Err(Unshared::Type)
    } else if is_encoded(headers) {
        Err(Unshared::Encoded)
    } else if [SET_COOKIE, SET_COOKIE2, CLEAR_SITE_DATA]
        .iter()
        .any(|name| headers.contains_key(name))
    {
        Err(Unshared::Cookie)
    } else if is_private(headers) {
        Err(Unshared::Private)
    } else if varies(headers, question) {
        Err(Unshared::Vary)
    } else if headers.contains_key(MCP_SESSION_ID) {
        Err(Unshared::Mcp)
    } else {
        Ok(())
    }
}

/// Marks a response that sends its client away, for a gateway that has sent the request: it would take the 200 for a
/// stream.
pub(in crate::service) fn note_away(headers: &mut HeaderMap) {
    headers.insert(AWAY, HeaderValue::from_static("1"));
}

/// Whether another gateway reports that it could not ask the backend.
pub(super) fn is_away(headers: &HeaderMap) -> bool {
    headers.contains_key(AWAY)
}

/// Whether `Cache-Control` has `private`, also with field names (RFC 9111, section 5.2.2.7), or is not a list of
/// directives. `no-store` is for caches, which keep a response longer than it lasts: nearly every event stream has it.
fn is_private(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| {
        let names = directives(value.as_bytes());
        names.is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case(b"private")))
    })
}

/// The names of the directives in a field; `None`: it is not a list of directives (RFC 9111, section 5.2).
fn directives(mut text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names = Vec::new();
    loop {
        text = text.trim_ascii_start();
        match text {
            [] => return Some(names),
            // A list may have empty elements (RFC 9110, section 5.6.1).
            [b',', rest @ ..] => text = rest,
            _ => {
                let (name, rest) = token(text)?;
                names.push(name);
                text = match rest {
                    [b'=', b'"', rest @ ..] => behind_quoted(rest)?,
                    [b'=', rest @ ..] => token(rest)?.1,
                    rest => rest,
                }
                .trim_ascii_start();
                if !text.is_empty() && !text.starts_with(b",") {
                    return None;
                }
            }
        }
    }
}

/// A token, and what follows it (RFC 9110, section 5.6.2).
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = text.iter().take_while(|byte| is_token(byte)).count();
    (length > 0).then(|| text.split_at(length))
}

/// What follows a quoted string, whose first quote has been read (RFC 9110, section 5.6.4).
fn behind_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] | [_, rest @ ..] => text = rest,
            [] => return None,
        }
    }
}

/// Whether the response depends on something that is not in the key, or has `Vary: *` (RFC 9110, section 12.5.5).
fn varies(headers: &HeaderMap, question: &SharedQuestion) -> bool {
    let values = headers.get_all(VARY).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
    // `*` is a valid field name, and no request has such a field.
    names.map(HeaderName::from_bytes).any(|name| match name {
        Ok(name) => name == "*" || !question.determines(&name),
        Err(_) => true,
    })
}

/// Fields that no reader gets: those that describe the backend's bytes, or the time and the place of its response, and
/// those for one client.
const NOT_REPEATED: [HeaderName; 21] = [
    ACCEPT_RANGES,
    AGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    PROXY_AUTHENTICATE,
    SET_COOKIE,
    SET_COOKIE2,
    TRAILER,
    TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
    CLEAR_SITE_DATA,
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("server-timing"),
];

/// The header of a reader's response: the fields of the backend's response that all readers get.
pub(in crate::service) fn shared_head(headers: &HeaderMap) -> HeaderMap {
    let mut head = HeaderMap::new();
    for (name, value) in headers {
        let is_for_gateway =
            ["grip-", "ssegate-"].iter().any(|begin| name.as_str().starts_with(begin));
        // For example the token of a session that the backend has begun: readers would share the session.
        let is_for_one =
            is_credential(name.as_str()) && !name.as_str().starts_with("access-control-");
        let is_of_bytes = ["content-md5", "digest", "repr-digest"].contains(&name.as_str());
        if !NOT_REPEATED.contains(name) && !is_of_bytes && !is_for_gateway && !is_for_one {
            head.append(name, value.clone());
        }
    }
    // As on an events route: each reader's response is a part of the stream.
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    forbid_buffering(&mut head);
    head
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};

    use super::{Unshared, directives, may_be_shared, shared_head};
    use crate::route::{ShareKeyPart, ShareSettings};
    use crate::service::shared::origin::RequestOrigin;
    use crate::service::shared::question::SharedQuestion;

    fn question(settings: &ShareSettings) -> SharedQuestion {
        let request = Request::get("http://app.example/a").header("accept", "text/event-stream");
        let origin = RequestOrigin {
            scope: "route",
            is_tls: false,
            is_trusted: false,
            has_body: false,
            identity: &[],
        };
        let request = request.body(()).expect("a request");
        SharedQuestion::of(&request, origin, settings).expect("it is shared")
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    /// What becomes of a response that is an event stream with these fields besides.
    fn judged(
        fields: &[(&'static str, &'static str)],
        settings: &ShareSettings,
    ) -> Option<Unshared> {
        let mut headers = headers(fields);
        headers.append("content-type", HeaderValue::from_static("text/event-stream"));
        may_be_shared((StatusCode::OK, &headers), &question(settings)).err()
    }

    #[test]
    fn only_what_is_for_everybody_is_shared() {
        for (fields, expected) in [
            (&[][..], None),
            (&[("content-encoding", "identity")], None),
            (&[("content-encoding", "gzip")], Some(Unshared::Encoded)),
            (&[("set-cookie", "a=1")], Some(Unshared::Cookie)),
            (&[("set-cookie2", "a=1")], Some(Unshared::Cookie)),
            (&[("clear-site-data", "\"cookies\"")], Some(Unshared::Cookie)),
            (&[("content-type", "text/plain")], Some(Unshared::Type)),
            (&[("mcp-session-id", "1")], Some(Unshared::Mcp)),
            (&[("cache-control", "no-cache")], None),
            (&[("cache-control", "no-store, no-transform, max-age=0")], None),
            (&[("cache-control", "public, no-cache=\"set-cookie, private\"")], None),
            (&[("cache-control", "private")], Some(Unshared::Private)),
            (&[("cache-control", "no-cache, PRIVATE")], Some(Unshared::Private)),
            (&[("cache-control", "private=\"x-user, set-cookie\"")], Some(Unshared::Private)),
            (&[("cache-control", "a=\"\\\", b\",private")], Some(Unshared::Private)),
            (
                &[("cache-control", "no-cache"), ("cache-control", "private")],
                Some(Unshared::Private),
            ),
            (&[("cache-control", "max-age=\"1")], Some(Unshared::Private)),
            (&[("cache-control", "no-cache private")], Some(Unshared::Private)),
            (&[("vary", "Accept-Encoding, accept")], None),
            (&[("vary", "")], None),
            (&[("vary", "*")], Some(Unshared::Vary)),
            (&[("vary", "accept, *")], Some(Unshared::Vary)),
            (&[("vary", "origin")], Some(Unshared::Vary)),
            (&[("vary", "accept"), ("vary", "User-Agent")], Some(Unshared::Vary)),
            (&[("vary", "a b")], Some(Unshared::Vary)),
            // A request that has one is alone.
            (&[("vary", "Cookie, Authorization")], None),
        ] {
            assert_eq!(judged(fields, &ShareSettings::default()), expected, "{fields:?}");
        }
        let anonymous = ShareSettings { is_anonymous: true, ..ShareSettings::default() };
        assert_eq!(judged(&[("vary", "cookie")], &anonymous), Some(Unshared::Vary));
        let origin = ShareKeyPart::Header(HeaderName::from_static("origin"));
        let named = ShareSettings { key: vec![origin], ..ShareSettings::default() };
        assert_eq!(judged(&[("vary", "Origin")], &named), None);
        for status in [201, 204, 206, 304, 401, 403, 404, 500] {
            let status = StatusCode::from_u16(status).expect("a status");
            let headers = headers(&[("content-type", "text/event-stream")]);
            let response = may_be_shared((status, &headers), &question(&named));
            assert_eq!(response, Err(Unshared::Status), "{status}");
        }
    }

    #[test]
    fn a_list_of_directives_is_read_as_it_is_written() {
        for (text, expected) in [
            ("", Some(&[][..])),
            (" , ,", Some(&[])),
            ("no-cache", Some(&["no-cache"])),
            ("max-age=1,private", Some(&["max-age", "private"])),
            ("a=\"b, private\" , c", Some(&["a", "c"])),
            ("a=\"\\\"\" ", Some(&["a"])),
            ("a=\"", None),
            ("a=\"\\", None),
            ("a=", None),
            ("=a", None),
            ("a b", None),
            ("a=\"b\"c", None),
            ("a;b", None),
            ("private\u{e4}", None),
        ] {
            let names = directives(text.as_bytes());
            let names = names.map(|names| {
                names.iter().map(|name| str::from_utf8(name).expect("text")).collect::<Vec<_>>()
            });
            assert_eq!(names.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn no_reader_gets_what_is_for_one() {
        let head = shared_head(&headers(&[
            ("content-type", "text/event-stream"),
            ("x-own", "1"),
            ("x-own", "2"),
            ("vary", "accept"),
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("set-cookie", "secret"),
            ("content-length", "3"),
            ("etag", "\"a\""),
            ("date", "now"),
            ("location", "/secret"),
            ("www-authenticate", "secret"),
            ("authentication-info", "secret"),
            ("grip-hold", "stream"),
            ("ssegate-stream", "secret"),
            ("server-timing", "secret"),
            ("x-auth-token", "secret"),
            ("x-session-id", "secret"),
            ("cache-control", "public"),
        ]));
        let expected = headers(&[
            ("content-type", "text/event-stream"),
            ("x-own", "1"),
            ("x-own", "2"),
            ("vary", "accept"),
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),
        ]);
        assert_eq!(head, expected);
    }
}
