//! Which requests get a stream of their own, although their route shares streams.

use http::header::{
    ACCEPT, CONNECTION, COOKIE, EXPECT, FORWARDED, IF_MATCH, IF_UNMODIFIED_SINCE, RANGE, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method};

use super::credential::is_credential;
use super::origin::{RequestOrigin, TARGET_FACTS, WAY_FACTS};
use crate::route::{ShareKeyPart, ShareSettings};

/// Fields that make the backend read a request differently than its method and target say.
pub(super) const CHANGES_REQUEST: [&str; 5] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Why a request gets a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Alone {
    /// It is not a GET, or a field makes it another request.
    Method,
    /// It does not ask for an event stream.
    Accept,
    /// It has a body, or announces one.
    Body,
    /// It wants another protocol.
    Upgrade,
    /// It is of the Model Context Protocol, whose streams belong to a session.
    Mcp,
    /// This gateway itself has sent it: it may be the question of the very stream that it would wait for.
    Loop,
    /// It is for a part, or has a condition that the backend must not ignore.
    Conditional,
    /// It has no host.
    Host,
    /// A trusted proxy reports in `Forwarded` both where it came from and where it went, in one field.
    Forwarded,
    /// It has a credential that is not in the key.
    Credential,
    /// A cookie of the key is there twice: it depends on the backend which one counts.
    CookieTwice,
    /// Its `Connection` names a field of the key, which is then not for the backend.
    Connection,
}

impl Alone {
    /// A word for metrics.
    pub(in crate::service) fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Accept => "accept",
            Self::Body => "body",
            Self::Upgrade => "upgrade",
            Self::Mcp => "mcp",
            Self::Loop => "loop",
            Self::Conditional => "conditional",
            Self::Host => "host",
            Self::Forwarded => "forwarded",
            Self::Credential => "credential",
            Self::CookieTwice => "cookie_twice",
            Self::Connection => "connection",
        }
    }
}

/// Checks that a request can share a stream, except for its cookies and its host.
///
/// # Errors
/// It has to get one of its own.
pub(super) fn check(
    (method, headers): (&Method, &HeaderMap),
    origin: RequestOrigin<'_>,
    settings: &ShareSettings,
) -> Result<(), Alone> {
    check_kind(method, headers, origin)?;
    if !settings.is_anonymous && has_other_credential(headers, origin, &settings.key) {
        return Err(Alone::Credential);
    }
    let is_option = |part: &ShareKeyPart| match part {
        ShareKeyPart::Header(name) => is_connection_option(headers, name.as_str()),
        ShareKeyPart::Cookie(_) => false,
    };
    if settings.key.iter().any(is_option) { Err(Alone::Connection) } else { Ok(()) }
}

/// Checks that the request asks for a whole event stream, and for nothing else.
fn check_kind(
    method: &Method,
    headers: &HeaderMap,
    origin: RequestOrigin<'_>,
) -> Result<(), Alone> {
    let has = |name: &HeaderName| headers.contains_key(name);
    if *method != Method::GET || CHANGES_REQUEST.iter().any(|name| headers.contains_key(*name)) {
        Err(Alone::Method)
    } else if !wants_stream(headers) {
        Err(Alone::Accept)
    } else if origin.has_body || has(&EXPECT) {
        Err(Alone::Body)
    } else if wants_upgrade(headers) {
        Err(Alone::Upgrade)
    } else if headers.keys().any(|name| name.as_str().starts_with("mcp-")) {
        Err(Alone::Mcp)
    } else if [RANGE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(has) {
        // `If-None-Match` and `If-Modified-Since` would only save sending what the client has.
        Err(Alone::Conditional)
    } else if origin.is_trusted && has(&FORWARDED) {
        Err(Alone::Forwarded)
    } else {
        Ok(())
    }
}

/// Whether `Accept` names event streams, and does not refuse them (RFC 9110, section 12.5.1).
fn wants_stream(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_stream =
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"));
        let is_refused =
            parts.filter_map(|parameter| parameter.split_once('=')).any(|(key, value)| {
                key.trim().eq_ignore_ascii_case("q")
                    && value.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0)
            });
        is_stream && !is_refused
    })
}

/// Whether it wants another protocol than HTTP/2 in clear text, which Java's client offers with every request.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(UPGRADE).iter();
    let mut protocols = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    protocols.any(|protocol| !protocol.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

fn is_connection_option(headers: &HeaderMap, name: &str) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    let mut options = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether the request identifies its client, with something that is not in the key.
fn has_other_credential(
    headers: &HeaderMap,
    origin: RequestOrigin<'_>,
    key: &[ShareKeyPart],
) -> bool {
    let in_key = |name: &HeaderName| key.contains(&ShareKeyPart::Header(name.clone()));
    if origin.identity.iter().any(|(name, _)| !in_key(name)) {
        return true;
    }
    headers.keys().any(|name| {
        if in_key(name) {
            return false;
        }
        if *name == COOKIE {
            return has_other_cookie(headers, key);
        }
        let text = name.as_str();
        match text.starts_with("x-forwarded-") {
            // The fields of an untrusted peer are not passed on.
            true => origin.is_trusted && !TARGET_FACTS.contains(name) && !WAY_FACTS.contains(&text),
            false => is_credential(text),
        }
    })
}

/// Whether a cookie is there that the key does not name.
fn has_other_cookie(headers: &HeaderMap, key: &[ShareKeyPart]) -> bool {
    let values = headers.get_all(COOKIE).iter();
    let mut pairs = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b';'));
    pairs.any(|pair| {
        let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
        // Without a `=` it is a value without a name (RFC 6265bis, section 5.6).
        let is_named = pair.contains(&b'=')
            && key.iter().any(
                |part| matches!(part, ShareKeyPart::Cookie(known) if known.as_bytes() == name),
            );
        !pair.trim_ascii().is_empty() && !is_named
    })
}
